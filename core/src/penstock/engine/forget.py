"""Forget: which snapshots stay, by a policy for each backup; and letting go of the others."""

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from penstock.api.errors import (
    DamagedObject,
    MissingObject,
    NoPolicy,
    NothingKept,
    SnapshotHeld,
    SnapshotNotFound,
    UsageError,
)
from penstock.format.times import as_text
from penstock.repository import Repository, SnapshotEntry, layout
from penstock.repository.domain import Domain
from penstock.repository.notices import Head, read_notices
from penstock.repository.notices import forget as record
from penstock.repository.notices import undelete as take_back
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.said import OnStranger, refuse_unreadable
from penstock.repository.snapshots import (
    each_snapshot,
    find_snapshot,
    list_snapshots,
)
from penstock.repository.upkeep.marks import Marks, read_marks
from penstock.repository.upkeep.retention import Candidate, Policy, decide
from penstock.repository.upkeep.tombstones import condemned, standing

__all__ = [
    "ForgetPlan",
    "Planned",
    "forget",
    "list_forgotten",
    "plan_chosen",
    "plan_forget",
    "plan_retired",
    "undelete",
]

_SHORT_ID = 8
_UNREADABLE = (
    "It may have held a snapshot, or said which of them count: nothing is forgotten until somebody decides. Bring it "
    "back from a copy, or give it up with penstock forget --unreadable."
)
_LIST_FORGOTTEN = "penstock snapshots --forgotten lists what can be taken back."


@dataclass(frozen=True, slots=True)
class Planned:
    """One snapshot of the plan: what keeps it, and nothing if it will be forgotten."""

    entry: SnapshotEntry
    tags: tuple[str, ...]
    reasons: tuple[str, ...]
    #: Why it takes nobody's place; "" if it counts.
    discounted: str = ""

    @property
    def kept(self) -> bool:
        """Whether it stays."""
        return bool(self.reasons)

    def to_json(self) -> dict[str, Any]:
        """As of `penstock snapshots`, with its tags, whether and why it is kept, and why it does not count."""
        return {
            **self.entry.to_json(),
            "tags": list(self.tags),
            "kept": self.kept,
            "reasons": list(self.reasons),
            "not_counted": self.discounted or None,
        }


@dataclass(frozen=True, slots=True)
class ForgetPlan:
    """What happens to each snapshot, newest first within each backup."""

    snapshots: tuple[Planned, ...]

    @property
    def forgotten(self) -> tuple[Planned, ...]:
        """Those that nothing keeps."""
        return tuple(one for one in self.snapshots if not one.kept)

    @property
    def backups(self) -> frozenset[str]:
        """The names that the plan is about."""
        return frozenset(one.entry.head.backup for one in self.snapshots)

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
    no snapshot, which nobody counts on, and of what nobody can read of what was said of them. Raises `NoPolicy` if
    there are snapshots, and nothing is said of any.
    """
    groups: dict[tuple[bytes, str], list[SnapshotEntry]] = {}
    for entry in list_snapshots(repository, on_damage, on_damage):
        if only and entry.head.backup not in only:
            continue
        groups.setdefault((entry.domain.id, entry.head.backup), []).append(entry)
    found = {name: policies(name) for _, name in groups}
    if found and not any(found.values()):
        raise NoPolicy(
            f"nothing says what is kept of {', '.join(sorted(found))}",
            hint="Set keep for the backup or in [defaults] of penstock.toml, or name snapshots by their ids.",
        )
    marks = _marks(repository, on_damage)
    planned: list[Planned] = []
    for (domain, name), entries in sorted(groups.items(), key=lambda one: (one[0][1], one[0][0])):
        planned += _decide(found[name], entries, marks[domain])
    return ForgetPlan(tuple(planned))


def plan_chosen(repository: Repository, entries: Sequence[SnapshotEntry]) -> ForgetPlan:
    """Forget these, each once, whatever keeps them but a hold. Raises `SnapshotHeld` and `NothingKept` as `forget`."""
    chosen = list({(entry.id, entry.digest): entry for entry in entries}.values())
    marks = _marks(repository)
    _refuse(repository, chosen, marks)
    return ForgetPlan(tuple(Planned(one, tuple(sorted(marks[one.domain.id].tags(one))), ()) for one in chosen))


def plan_retired(
    repository: Repository, names: Collection[str], *, on_damage: Callable[[DamagedObject | MissingObject], None]
) -> ForgetPlan:
    """Forget all snapshots of backups of these names, which nobody makes any more; only what is held stays."""
    marks = _marks(repository, on_damage)
    planned = []
    for entry in reversed(list_snapshots(repository, on_damage, on_damage)):
        if entry.head.backup in names:
            said = marks[entry.domain.id]
            holds = tuple(f"hold: {hold.reason}" for hold in said.holds(entry))
            planned.append(Planned(entry, tuple(sorted(said.tags(entry))), holds, _discounted(entry, said)))
    return ForgetPlan(tuple(sorted(planned, key=lambda one: one.entry.head.backup)))


def _marks(repository: Repository, on_unreadable: OnStranger | None = None) -> dict[bytes, Marks]:
    """What is said in each domain, by its id; `on_unreadable` hears of what nobody can read."""
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        return {domain.id: read_marks(domain, workers, on_unreadable) for domain in repository.domains}


def _decide(policy: Policy | None, entries: Sequence[SnapshotEntry], marks: Marks) -> list[Planned]:
    found = []
    by_id = {entry.id: entry for entry in entries}
    for verdict in decide(policy or Policy(), (_candidate(entry, marks) for entry in entries)):
        entry = by_id[verdict.candidate.id]
        reasons = verdict.reasons if policy else ("no policy: nothing of this backup is forgotten",)
        tags = tuple(sorted(verdict.candidate.tags))
        found.append(Planned(entry, tags, reasons, verdict.candidate.discounted))
    return found


def _candidate(entry: SnapshotEntry, marks: Marks) -> Candidate:
    """By the store's time: what a snapshot says of itself, whoever stole its writer's key could choose."""
    entry = marks.dated(entry)
    holds = marks.holds(entry)
    time = entry.modified or datetime.fromisoformat(entry.head.finished)
    return Candidate(
        entry.id,
        time.astimezone(UTC),
        marks.tags(entry),
        "; ".join(hold.reason for hold in holds) if holds else None,
        _discounted(entry, marks),
    )


def _discounted(entry: SnapshotEntry, marks: Marks) -> str:
    """Why it is nobody's latest, and takes nobody's place; "" if it counts."""
    return marks.badness(entry) or ("dated in the future" if entry.from_the_future else "")


def forget(repository: Repository, snapshots: Sequence[SnapshotEntry], *, retired: Collection[str] = ()) -> None:
    """Record that they are forgotten: nothing lists them, and until a sweep `undelete` takes it back.

    Raises `RoleForbids` for a writer's key, `SnapshotHeld`, and `NothingKept` where a backup would be left without a
    snapshot that can be restored, unless its name is one of `retired`; `DamagedObject` if nobody can read what may have
    been a hold, or what says which snapshots count. Then none is forgotten, in whatever domain.
    """
    repository.access.require_keeper("forgetting a snapshot")
    if not snapshots:
        return
    unreadable = refuse_unreadable(_UNREADABLE, layout.DOMAINS)
    _refuse(repository, snapshots, _marks(repository, unreadable), retired, unreadable)
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        for domain in repository.domains:
            if named := {entry.id: entry.digest for entry in snapshots if entry.domain.id == domain.id}:
                workers.call(record, domain, named)


def _refuse(
    repository: Repository,
    snapshots: Sequence[SnapshotEntry],
    marks: Mapping[bytes, Marks],
    retired: Collection[str] = (),
    on_unreadable: OnStranger | None = None,
) -> None:
    """`on_unreadable` raises what is said of snapshots and nobody can read: one that is void would count as left."""
    _refuse_held(snapshots, marks)
    wanted = {(entry.id, entry.digest) for entry in snapshots}
    left = {
        (entry.domain.id, entry.head.backup)
        for entry in list_snapshots(repository, lambda _: None, on_unreadable)
        if (entry.id, entry.digest) not in wanted and not _discounted(entry, marks[entry.domain.id])
    }
    for entry in snapshots:
        if entry.head.backup not in retired and (entry.domain.id, entry.head.backup) not in left:
            raise NothingKept(
                f"the backup {entry.head.backup} would have no snapshot left that can be restored",
                hint="Make a backup first, or keep one of these; if nobody makes it any more: --backup NAME --retired.",
            )


def _refuse_held(entries: Sequence[SnapshotEntry], marks: Mapping[bytes, Marks]) -> None:
    held = [(entry.id.hex(), hold) for entry in entries for hold in marks[entry.domain.id].holds(entry)]
    if held:
        name, first = held[0]
        raise SnapshotHeld(
            f"{name} is held: {first.reason}",
            hint=f"If whoever holds it agrees, release it: penstock hold {name[:_SHORT_ID]} --release --reason TEXT.",
            details=tuple(f"{one}: {hold.reason}" for one, hold in held),
        )


def undelete(repository: Repository, snapshots: Sequence[str]) -> list[SnapshotEntry]:
    """Take back that these were forgotten, by the beginnings of their ids; those that were not stay as they are.

    Raises `RoleForbids` for a writer's key, `UsageError` for what is no id, `SnapshotNotFound` for what a sweep has
    deleted, or is about to, and `DamagedObject` for what is not listed for another reason.
    """
    repository.access.require_keeper("taking a snapshot back")
    for text in snapshots:
        if text.partition(":")[0] == "latest":
            raise UsageError(f"{text} is never one that was forgotten", hint=f"Give an id. {_LIST_FORGOTTEN}")
    found = [find_snapshot(repository, text, hidden=True) for text in snapshots]
    with Workers(repository.sink.connections, "penstock-undelete", repository.sink.stop) as workers:
        for domain in repository.domains:
            notices = read_notices(domain, workers)
            named = {(one.id, one.digest) for one in found if one.domain.id == domain.id}
            _refuse_swept(named & notices.swept)
            if back := named & notices.forgotten:
                for until, heads in _by_limit(domain, workers, back).items():
                    lifted = {one for head in heads for one in notices.forgets[head]}
                    workers.call(take_back, domain, dict(heads), lifted, until)
            _refuse_too_late(domain, workers, named)
    return [_listed_again(repository, one.id.hex()) for one in found]


def _by_limit(domain: Domain, workers: Workers, heads: AbstractSet[Head]) -> dict[str, set[Head]]:
    """The heads by the moment when it is too late to take them back, "" for those that no tombstone takes.

    The record says so itself: who is stopped before it looks again has promised nothing that a sweep does not keep.
    """
    ends: dict[Head, str] = {}
    for stone in standing(domain, workers):
        end = as_text(stone.too_late)
        for head in heads & condemned(domain, workers, stone).forgotten:
            ends[head] = min(ends.get(head, end), end)
    found: dict[str, set[Head]] = {}
    for head in heads:
        found.setdefault(ends.get(head, ""), set()).add(head)
    return found


def _refuse_too_late(domain: Domain, workers: Workers, named: AbstractSet[Head]) -> None:
    """Refuse what a sweep deletes although it was taken back, for that was too late; and let nobody list it."""
    late = {head for stone in standing(domain, workers) for head in condemned(domain, workers, stone).forgotten} & named
    notices = read_notices(domain, workers)
    if listed_still := late - notices.forgotten:
        workers.call(record, domain, dict(listed_still))
    _refuse_swept(late | (named & notices.swept))


def _refuse_swept(gone: AbstractSet[Head]) -> None:
    if gone:
        names = tuple(sorted(snapshot.hex() for snapshot, _ in gone))
        raise SnapshotNotFound(
            f"{names[0]} cannot be taken back: a prune has deleted what it needs, or is about to",
            hint="If there is a replica, it may still be there.",
            details=names,
        )


def _listed_again(repository: Repository, name: str) -> SnapshotEntry:
    # What a revoked writer signed, or its own writer voided, is not listed, whatever is taken back.
    return find_snapshot(repository, name)


def list_forgotten(
    repository: Repository, on_damage: Callable[[DamagedObject | MissingObject], None]
) -> list[SnapshotEntry]:
    """What was forgotten and not taken back, and is still there, oldest first; `on_damage` hears of what is damaged."""
    found: list[SnapshotEntry] = []
    with Workers(repository.sink.connections, "penstock-forgotten", repository.sink.stop) as workers:
        for domain in repository.domains:
            notices = read_notices(domain, workers)
            names = {domain.at.snapshot_key(one) for one, _ in notices.forgotten} - notices.deleted
            infos = (info for info in listed(workers, domain.sink, domain.at.snapshots) if info.key in names)
            others = replace(notices, forgotten=set())
            entries = each_snapshot(domain, workers, infos, others, on_damage)
            found += [entry for entry in entries if (entry.id, entry.digest) in notices.forgotten]
    return sorted(found, key=lambda entry: (entry.time, entry.id))
