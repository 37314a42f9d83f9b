"""Tombstones that stand, and which of the snapshots that they name were taken back in time."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from penstock.format.notice import Action, Deletion, Tombstone
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.said import OnStranger, Said, read_said
from penstock.repository.upkeep.living import LATE

__all__ = ["LEAST_GRACE", "Standing", "revived", "standing"]

#: Listings may be late twice: that in which a writer looks for the tombstone, and that in which a prune looks for it.
LEAST_GRACE = 2 * LATE


class Standing(NamedTuple):
    """A tombstone, when the store wrote it, and when its grace ends."""

    due: datetime
    id: bytes
    written: datetime
    content: Tombstone

    @property
    def too_late(self) -> datetime:
        """From when on nobody can take back the snapshots that it names."""
        return max(self.due - LATE, self.written)


def standing(domain: Domain, workers: Workers, on_stranger: OnStranger | None = None) -> list[Standing]:
    """All that stand, the one that is due first before the others: only that one may be swept."""
    found = []
    for said in read_said(domain, workers, domain.at.tombstones, Tombstone, domain.keeper, on_stranger):
        written = _time(said)
        if written is not None:
            grace = max(timedelta(seconds=min(said.content.grace, _LONGEST)), LEAST_GRACE)
            found.append(Standing(written + grace, said.name, written, said.content))
    return sorted(found, key=lambda one: (one.due, one.id))


#: Ten years, in seconds: what claims more stands as long.
_LONGEST = 10 * 365 * 86400


def _time(said: Said[Tombstone] | Said[Deletion]) -> datetime | None:
    try:
        return datetime.fromisoformat(said.written or said.content.made).astimezone(UTC)
    except ValueError:
        return None


def revived(domain: Domain, workers: Workers, tombstone: Standing) -> set[tuple[bytes, bytes]]:
    """The heads that it names and that were forgotten, but taken back in time.

    Everybody who asks after the grace finds the same, whatever is said later.
    """
    named = set(tombstone.content.snapshots.items())
    records = sorted(
        read_said(domain, workers, domain.at.deletions, Deletion, domain.keeper, None), key=lambda one: one.order
    )
    back: set[tuple[bytes, bytes]] = set()
    for said, when in _timed(records):
        concerned = named & said.content.snapshots.items()
        if said.content.action is Action.UNDELETE:
            if when < tombstone.too_late:
                back |= concerned
        elif said.content.action is Action.DELETE or when <= tombstone.written:
            back -= concerned
    return back


def _timed(records: Iterable[Said[Deletion]]) -> Iterator[tuple[Said[Deletion], datetime]]:
    for said in records:
        when = _time(said)
        if when is not None:
            yield said, when
