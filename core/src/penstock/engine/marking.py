"""Marking: the tags of a snapshot, and holds on it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from penstock.api.errors import UsageError
from penstock.engine.tags import checked_reason, checked_tag, outdated
from penstock.repository import SnapshotEntry
from penstock.repository.pool import Workers
from penstock.repository.upkeep import marks
from penstock.repository.upkeep.marks import Hold, read_marks

__all__ = ["Marked", "hold", "release", "tag"]


@dataclass(frozen=True, slots=True)
class Marked:
    """A snapshot with what is said of it."""

    entry: SnapshotEntry
    tags: tuple[str, ...]
    holds: tuple[Hold, ...]

    def to_json(self) -> dict[str, Any]:
        """As of `penstock snapshots`, with tags and holds."""
        label = self.entry.domain.log.label
        holds = [{"reason": one.reason, "made": one.made, "by": label(one.signer)} for one in self.holds]
        return {**self.entry.to_json(), "tags": list(self.tags), "holds": holds}


def tag(entry: SnapshotEntry, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Marked:
    """Add and take away tags. Raises `RoleForbids` for a writer's key, `UsageError` for what is no tag or both.

    Raises `RepositoryError` if it has no effect, as `outdated` says.
    """
    adds, removes = [checked_tag(one) for one in add], [checked_tag(one) for one in remove]
    if both := sorted({*adds} & {*removes}):
        raise UsageError(f"the tag {both[0]} cannot be added and taken away at once")
    if adds or removes:
        entry.domain.access.require_keeper("tagging a snapshot")
    before = _marked(entry)
    named = {entry.id: entry.digest}
    for one in adds:
        if one not in before.tags:
            marks.tag(entry.domain, named, one)
    for one in removes:
        if one in before.tags:
            marks.untag(entry.domain, named, one)
    after = _marked(entry)
    if wrong := sorted({*adds} - {*after.tags} | {*removes} & {*after.tags}):
        raise outdated(f"the tag {wrong[0]} is as it was")
    return after


def hold(entry: SnapshotEntry, reason: str) -> Marked:
    """Hold it, so that nothing forgets it. Raises `RoleForbids` for a writer's key, `UsageError` without a reason."""
    reason = checked_reason(reason)
    entry.domain.access.require_keeper("holding a snapshot")
    marks.hold(entry.domain, {entry.id: entry.digest}, reason)
    return _marked(entry)


def release(entry: SnapshotEntry, reason: str) -> Marked:
    """Lift the holds that are there now. Raises `RoleForbids` for a writer's key, `UsageError` without a reason."""
    reason = checked_reason(reason)
    entry.domain.access.require_keeper("releasing a snapshot")
    if held := _marked(entry).holds:
        marks.release(entry.domain, {entry.id: entry.digest}, held, reason)
    return _marked(entry)


def _marked(entry: SnapshotEntry) -> Marked:
    sink = entry.domain.sink
    with Workers(sink.connections, "penstock-marks", sink.stop) as workers:
        found = read_marks(entry.domain, workers)
    return Marked(entry, tuple(sorted(found.tags(entry))), tuple(found.holds(entry)))
