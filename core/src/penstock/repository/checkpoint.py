"""Checkpoints: a few words that stand for a snapshot, to be kept apart from the store.

A store that is set back as a whole looks as it once did. Whoever has the words of a later snapshot can tell.
"""

from penstock.api.errors import UsageError
from penstock.format.words import word_list
from penstock.repository.notices import read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.repository import Repository
from penstock.repository.snapshots import each_snapshot

__all__ = ["SET_BACK", "checked", "is_known", "phrase_of"]

SET_BACK = "nothing here knows the snapshot of this checkpoint: the store was set back, or holds another repository"
_WORDS = 4


def phrase_of(digest: bytes) -> str:
    """The checkpoint of the snapshot whose head has this digest: some 51 bits of it, in words."""
    words = word_list()
    number = int.from_bytes(digest[:8], "little")
    found = []
    for _ in range(_WORDS):
        number, at = divmod(number, len(words))
        found.append(words[at])
    return " ".join(found)


def checked(phrase: str) -> str:
    """A phrase as `phrase_of` gives it. Raises `UsageError` for one that it never gives."""
    words = phrase.lower().split()
    unknown = [word for word in words if word not in word_list()]
    if unknown or len(words) != _WORDS:
        problem = f"{unknown[0]} is not one of its words" if unknown else f"it has {_WORDS} words"
        raise UsageError(f"not a checkpoint: {problem}", hint="penstock backup and penstock show print it.")
    return " ".join(words)


def is_known(repository: Repository, phrase: str) -> bool:
    """Whether a snapshot with this checkpoint is there, or something signed shows that it was."""
    with Workers(repository.sink.connections, "penstock-checkpoint", repository.sink.stop) as workers:
        for domain in repository.domains:
            notices = read_notices(domain, workers)
            digests = {digest for _, digest in (*notices.forgotten, *notices.void)}
            objects = listed(workers, domain.sink, domain.at.snapshots)
            for entry in each_snapshot(domain, workers, objects, notices, lambda _: None):
                digests |= {entry.digest, *(seen.digest for seen in entry.head.seen.values())}
                digests |= {entry.head.previous} if entry.head.previous else set()
                if any(phrase_of(digest) == phrase for digest in digests):
                    return True
                digests.clear()
            if any(phrase_of(digest) == phrase for digest in digests):
                return True
    return False
