"""The chain of heads: each names others that its writer knew, so that none can vanish without a trace."""

from collections.abc import Callable, Iterator

from penstock.format.trust import OWNER_ID
from penstock.repository.notices import Notices
from penstock.repository.snapshots import SnapshotEntry

__all__ = ["Chain"]


class Chain:
    """The heads of a domain, and those that they name."""

    def __init__(self, notices: Notices) -> None:
        self._there = {digest for _, digest in notices.forgotten}
        self._void = {digest: signers for (_, digest), signers in notices.void.items()}
        self._named: list[tuple[str, str, bytes, bytes]] = []

    def add(self, entry: SnapshotEntry) -> None:
        """This one is there."""
        self._there.add(entry.digest)
        self._named += _heads_named(entry)

    def missing(self, read_again: Callable[[], Notices]) -> Iterator[tuple[str, str]]:
        """The heads that are gone, and neither forgotten nor void: the key of who names one, and what it says.

        `read_again` gives the notices as they are by now, and is asked only if something is gone.
        """
        gone = [
            (key, what, digest)
            for key, what, digest, writer in self._named
            if digest not in self._there and self._void.get(digest, set()).isdisjoint((writer, OWNER_ID))
        ]
        # It may have been forgotten, and deleted, since.
        since = {digest for _, digest in read_again().forgotten} if gone else set()
        for key, what, digest in gone:
            if digest not in since:
                yield key, f"{what}, which is gone and was not forgotten"


def _heads_named(entry: SnapshotEntry) -> list[tuple[str, str, bytes, bytes]]:
    """The heads that this one proves to have been there: the key to report, what it says, their digests and writers."""
    log, key = entry.domain.log, entry.domain.at.snapshot_key(entry.id)
    named = [
        (writer, f"its writer saw snapshot {seen.sequence} of {log.label(writer)}", seen.digest)
        for writer, seen in entry.head.seen.items()
    ]
    if entry.head.previous is not None:
        named.append(
            (entry.writer, f"it follows snapshot {entry.head.sequence - 1} of its writer", entry.head.previous)
        )
    # Of a revoked writer, the owner may have left out some, and nobody expects those to be there.
    kept = {writer: log.kept(writer) for writer, _, _ in named}
    return [
        (key, what, digest, writer)
        for writer, what, digest in named
        if (known := kept[writer]) is None or digest in known.values()
    ]
