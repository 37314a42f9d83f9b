"""Tombstones that stand, and which of the snapshots that they name were not taken back in time."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from penstock.format.notice import Action, Deletion, Tombstone
from penstock.format.part import PartRef
from penstock.repository.domain import Domain
from penstock.repository.notices import Head, in_force, read_doomed, read_tombstones
from penstock.repository.pool import Workers
from penstock.repository.said import OnStranger, Said, read_said
from penstock.repository.upkeep.living import LATE

__all__ = ["LEAST_GRACE", "Condemned", "Standing", "condemned", "is_about_to_go", "standing"]

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
    for said in read_tombstones(domain, workers, on_stranger):
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


class Condemned(NamedTuple):
    """The heads that a tombstone names and that do not count in its sweep."""

    #: Forgotten, and not taken back in time.
    forgotten: set[Head]
    #: Never forgotten: they do not count as long as they are void, or of a revoked writer and not kept by the owner.
    others: set[Head]


def condemned(domain: Domain, workers: Workers, tombstone: Standing) -> Condemned:
    """Everybody who asks after the grace finds the same: what is said too late does not count."""
    records = list(read_said(domain, workers, domain.at.deletions, Deletion, domain.keeper, None))
    before = [said for said in records if _said_before(said, tombstone)]
    named = set(tombstone.content.snapshots.items())
    swept = named & _heads(records, Action.DELETE)
    ever = named & _heads(before, Action.FORGET)
    return Condemned((ever & in_force(before).keys()) | swept, named - ever - swept)


def _heads(records: Iterable[Said[Deletion]], action: Action) -> set[Head]:
    return {head for said in records if said.content.action is action for head in said.content.snapshots.items()}


def _said_before(said: Said[Deletion], tombstone: Standing) -> bool:
    when = _time(said)
    if when is None:
        return False
    return when < tombstone.too_late if said.content.action is Action.UNDELETE else when <= tombstone.written


def is_about_to_go(
    domain: Domain, workers: Workers, parts: Iterable[PartRef], sessions: Iterable[bytes], packs: Iterable[bytes]
) -> bool:
    """Whether a prune has named any of these: a head that needs it must not appear before that prune is through.

    To be asked when all of them are there: a tombstone that is put later is swept after the heads were listed again.
    """
    doomed = read_doomed(domain, workers)
    return (
        any(pack in doomed.packs for pack in packs)
        or any(session in doomed.sessions for session in sessions)
        or (bool(doomed.parts) and any(ref.part in doomed.parts for ref in parts))
    )
