"""Forget: which snapshots stay, by a policy for each backup; and letting go of the others."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject, NothingKept, SnapshotHeld
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.domain import Domain
from penstock.repository.notices import forget as record
from penstock.repository.notices import read_notices
from penstock.repository.notices import undelete as take_back
from penstock.repository.pool import Workers
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.upkeep.marks import Marks, read_marks
from penstock.repository.upkeep.retention import Candidate, Policy, decide

__all__ = ["ForgetPlan", "Planned", "forget", "plan_chosen", "plan_forget", "undelete"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One snapshot of the plan: what keeps it, and nothing if it will be forgotten."""

    entry: SnapshotEntry
    tags: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether it stays."""
        return bool(self.reasons)

    def to_json(self) -> dict[str, Any]:
        """As of `penstock snapshots`, with its tags, and whether and why it is kept."""
        return {**self.entry.to_json(), "tags": list(self.tags), "kept": self.kept, "reasons": list(self.reasons)}


@dataclass(frozen=True, slots=True)
class ForgetPlan:
    """What happens to each snapshot, newest first within each backup."""

    snapshots: tuple[Planned, ...]

    @property
    def forgotten(self) -> tuple[Planned, ...]:
        """Those that nothing keeps."""
        return tuple(one for one in self.snapshots if not one.kept)

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock forget`."""
        return {
            "snapshots": [one.to_json() for one in self.snapshots],
            "kept": len(self.snapshots) - len(self.forgotten),
            "forgotten": len(self.forgotten),
        }


def plan_forget(
    repository: Repository,
    policies: Callable[[str], Policy | None],
    *,
    only: Collection[str] | None = None,
    on_damage: Callable[[DamagedObject | MissingObject], None],
) -> ForgetPlan:
    """What each backup's policy says of its snapshots; `policies` gives that of a name, None where nothing is said.

    `only` names the backups that are meant. Backups of one name in two domains are two. `on_damage` hears of what is
    no snapshot, which nobody counts on.
    """
    groups: dict[tuple[bytes, str], list[SnapshotEntry]] = {}
    for entry in list_snapshots(repository, on_damage):
        if only and entry.head.backup not in only:
            continue
        groups.setdefault((entry.domain.id, entry.head.backup), []).append(entry)
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        marks = {domain.id: read_marks(domain, workers) for domain in repository.domains}
    planned: list[Planned] = []
    for (domain, name), entries in sorted(groups.items(), key=lambda one: (one[0][1], one[0][0])):
        planned += _decide(policies(name), entries, marks[domain])
    return ForgetPlan(tuple(planned))


def plan_chosen(entries: Sequence[SnapshotEntry]) -> ForgetPlan:
    """Forget these, whatever keeps them but a hold."""
    return ForgetPlan(tuple(Planned(entry, entry.head.tags, ()) for entry in entries))


def _decide(policy: Policy | None, entries: Sequence[SnapshotEntry], marks: Marks) -> list[Planned]:
    found = []
    by_id = {entry.id: entry for entry in entries}
    for verdict in decide(policy or Policy(), (_candidate(entry, marks) for entry in entries)):
        entry = by_id[verdict.candidate.id]
        reasons = verdict.reasons if policy else ("no policy: nothing of this backup is forgotten",)
        found.append(Planned(entry, tuple(sorted(verdict.candidate.tags)), reasons))
    return found


def _candidate(entry: SnapshotEntry, marks: Marks) -> Candidate:
    """By the store's time: what a snapshot says of itself, whoever stole its writer's key could choose."""
    entry = marks.dated(entry)
    holds = marks.holds(entry)
    discounted = marks.badness(entry) or ("dated in the future" if entry.from_the_future else "")
    time = entry.modified or datetime.fromisoformat(entry.head.finished)
    return Candidate(
        entry.id,
        time.astimezone(UTC),
        marks.tags(entry),
        "; ".join(hold.reason for hold in holds) if holds else None,
        discounted,
    )


def forget(repository: Repository, snapshots: Sequence[SnapshotEntry]) -> None:
    """Record that they are forgotten: nothing lists them, and until a sweep `undelete` takes it back.

    Raises `RoleForbids` for a writer's key, `SnapshotHeld`, and `NothingKept` where a backup would be left without a
    snapshot that can be restored.
    """
    repository.access.require_keeper("forgetting a snapshot")
    wanted = {(entry.id, entry.digest) for entry in snapshots}
    by_domain: dict[bytes, dict[bytes, bytes]] = {}
    for entry in snapshots:
        by_domain.setdefault(entry.domain.id, {})[entry.id] = entry.digest
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        for domain in repository.domains:
            if not (named := by_domain.get(domain.id)):
                continue
            marks = read_marks(domain, workers)
            _refuse_held([entry for entry in snapshots if entry.domain.id == domain.id], marks)
            _refuse_the_last(list_snapshots(repository, lambda _: None), domain, wanted, marks)
            workers.call(record, domain, named)


def _refuse_held(entries: Sequence[SnapshotEntry], marks: Marks) -> None:
    held = [(entry, hold) for entry in entries for hold in marks.holds(entry)]
    if held:
        raise SnapshotHeld(
            f"{held[0][0].id.hex()} is held: {held[0][1].reason}",
            hint="Release it first, if whoever holds it agrees: penstock hold SNAPSHOT --release.",
            details=tuple(f"{entry.id.hex()}: {hold.reason}" for entry, hold in held),
        )


def _refuse_the_last(
    entries: Sequence[SnapshotEntry], domain: Domain, wanted: Collection[tuple[bytes, bytes]], marks: Marks
) -> None:
    mine = [entry for entry in entries if entry.domain.id == domain.id]
    going = [entry for entry in mine if (entry.id, entry.digest) in wanted]
    left = {entry.head.backup for entry in mine if (entry.id, entry.digest) not in wanted and not marks.badness(entry)}
    for entry in going:
        if entry.head.backup not in left:
            raise NothingKept(
                f"the backup {entry.head.backup} would have no snapshot left that can be restored",
                hint="Make a backup first, or keep one of these.",
            )


def undelete(repository: Repository, snapshots: Sequence[str]) -> list[SnapshotEntry]:
    """Take back that these were forgotten, by the beginnings of their ids; those that were not stay as they are.

    Raises `RoleForbids` for a writer's key, `SnapshotNotFound` for what a sweep has deleted.
    """
    repository.access.require_keeper("taking a snapshot back")
    found = [find_snapshot(repository, text, hidden=True) for text in snapshots]
    with Workers(repository.sink.connections, "penstock-undelete", repository.sink.stop) as workers:
        for domain in repository.domains:
            forgotten = read_notices(domain, workers).forgotten
            named = {(one.id, one.digest) for one in found if one.domain.id == domain.id}
            if back := named & forgotten:
                workers.call(take_back, domain, dict(back))
    return found
