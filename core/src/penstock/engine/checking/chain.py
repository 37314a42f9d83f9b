"""The chain of heads: each names others that its writer knew, so that none can vanish without a trace."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from penstock.format.trust import OWNER_ID
from penstock.repository.notices import Notices
from penstock.repository.snapshots import SnapshotEntry

__all__ = ["Chain", "Named"]


class Named(NamedTuple):
    """A head that another one names: the key of that other one, what it says, the digest, and whose head it is."""

    key: str
    what: str
    digest: bytes
    writer: bytes


class Chain:
    """The heads of a domain, and those that they name."""

    def __init__(self, notices: Notices) -> None:
        self._there = _explained(notices)
        self._void = {digest: signers for (_, digest), signers in notices.void.items()}
        self._named: list[Named] = []

    def add(self, entry: SnapshotEntry) -> None:
        """This one is there."""
        self._there.add(entry.digest)
        self._named += _heads_named(entry)

    def gone(self) -> list[Named]:
        """Those that are neither there nor forgotten, void or given up; several times if several name them."""
        return [
            one
            for one in self._named
            if one.digest not in self._there and self._void.get(one.digest, set()).isdisjoint((one.writer, OWNER_ID))
        ]

    def missing(self, read_again: Callable[[], Notices]) -> Iterator[tuple[str, str]]:
        """The heads that are gone and that nothing explains: the key of who names one, and what it says.

        `read_again` gives the notices as they are by now, and is asked only if something is gone.
        """
        gone = self.gone()
        # It may have been forgotten, and deleted, since.
        since = _explained(read_again()) if gone else set()
        for one in gone:
            if one.digest not in since:
                yield one.key, f"{one.what}, which is gone and was not forgotten"


def _explained(notices: Notices) -> set[bytes]:
    """The digests of heads that were forgotten or given up."""
    return notices.given_up.union(digest for _, digest in notices.forgotten)


def _heads_named(entry: SnapshotEntry) -> list[Named]:
    """The heads that this one proves to have been there."""
    log, key = entry.domain.log, entry.domain.at.snapshot_key(entry.id)
    named = [
        Named(key, f"its writer saw snapshot {seen.sequence} of {log.label(writer)}", seen.digest, writer)
        for writer, seen in entry.head.seen.items()
    ]
    if entry.head.previous is not None:
        what = f"it follows snapshot {entry.head.sequence - 1} of its writer"
        named.append(Named(key, what, entry.head.previous, entry.writer))
    # Of a revoked writer, the owner may have left out some, and nobody expects those to be there.
    kept = {one.writer: log.kept(one.writer) for one in named}
    return [one for one in named if (known := kept[one.writer]) is None or one.digest in known.values()]
