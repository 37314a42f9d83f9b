"""Replicate: a repository copied into a second sink, verified, without any key that reads a backup."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject, UsageError
from penstock.api.sink import Sink
from penstock.engine.checking.findings import MAX_FINDINGS, Finding
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.repository import Repository
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.upkeep.copying import Copier
from penstock.repository.upkeep.founding import found, look_at
from penstock.repository.upkeep.replicating import DomainReplica, Uncopied
from penstock.repository.upkeep.stock import Stock

__all__ = ["ReplicaReport", "replicate"]


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What one run copied into a replica. `bytes` are those of the `objects`.

    `copied` are the ids of snapshots, oldest first; `there` were copied before, `forgotten` were let go of by the
    replica itself. `left_out` could not be copied. Of the `damage_count` objects that are not what was written,
    `damaged` holds the first.
    """

    location: str
    copied: tuple[bytes, ...]
    there: int
    forgotten: int
    left_out: tuple[Uncopied, ...]
    damaged: tuple[Finding, ...]
    damage_count: int
    objects: int
    bytes: int

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not (self.left_out or self.damage_count)

    def to_json(self) -> dict[str, Any]:
        """One of the `targets` in the document of `penstock replicate`."""
        return {
            "location": self.location,
            "copied": [snapshot.hex() for snapshot in self.copied],
            "there": self.there,
            "forgotten": self.forgotten,
            "left_out": [
                {"snapshot": one.snapshot.hex(), "backup": one.backup, "reason": one.reason} for one in self.left_out
            ],
            "damaged": [finding.to_json() for finding in self.damaged],
            "damage_count": self.damage_count,
            "objects": self.objects,
            "bytes": self.bytes,
        }


class _Damage:
    """What is damaged, each object once."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._keys: set[str] = set()
        self.first: list[Finding] = []

    def __call__(self, error: DamagedObject | MissingObject) -> None:
        if error.key in self._keys:
            return
        self._keys.add(error.key)
        self._reporter.warn(f"not copied: {error}")
        if len(self.first) < MAX_FINDINGS:
            self.first.append(Finding(error.key, error.reason))

    @property
    def count(self) -> int:
        return len(self._keys)


def replicate(
    repository: Repository,
    target: Sink,
    *,
    cache_dir: Path | None = None,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> ReplicaReport:
    """Copy into `target` what it lacks of the repository; it is empty, or a replica of it already.

    Every object is verified first, and a snapshot's head comes after all that it needs: whenever this breaks off, what
    is listed at the target can be restored, and the next run goes on. What the replica forgot stays forgotten, and
    what the original forgets stays in the replica. Damage is a warning, and leaves out the snapshots that need what is
    damaged. Where the target locks objects, those that a new snapshot needs are locked as long as itself; `cache_dir`
    has what is remembered of locks. Buffers take `memory` bytes at most. Raises `RoleForbids` for a writer's key,
    `OtherRepository`, `OtherHistory`, `RepositoryExists`, and what the sinks raise.
    """
    source = repository.sink
    repository.access.require_keeper("replicating a repository")
    if target.location == source.location:
        raise UsageError(f"{target.location} is the repository itself", hint="Name another place with --to.")
    budget = ReadBudget.of(memory, min(source.connections, target.connections))
    with (
        reporting(listener, "replicate", target.location, source, target) as reporter,
        ExitStack() as closing,
        Workers(budget.requests, "penstock-replicate", source.stop) as workers,
        Workers(budget.packs, "penstock-replicate-packs", source.stop) as packers,
    ):
        damage = _Damage(reporter)
        copier = Copier(source, target, reporter.progress)
        reporter.phase("listing")
        folder = cache_dir or Path(closing.enter_context(TemporaryDirectory()))
        stocks, caches = {}, {}
        for domain in repository.domains:
            stocks[domain.id] = stock = Stock.of(domain, target, workers)
            closing.callback(stock.close)
            cache = Cache(folder, domain.scope, target.location, on_trouble=reporter.warn)
            caches[domain.id] = closing.enter_context(cache)
        # Once more, behind the listings: whoever signed what they name was granted before.
        fresh = workers.call(Repository.open, source, repository.access)
        foundations = look_at(fresh, target, workers)
        parts = [
            DomainReplica(domain, target, stocks[domain.id], caches[domain.id], copier, workers, packers, damage)
            for domain in fresh.domains
            if domain.id in stocks  # or it was made a moment ago
        ]
        missing = sum(part.survey() for part in parts)
        reporter.phase("copying", missing)
        found(fresh, target, foundations, copier, workers, on_damage=damage, warn=reporter.warn)
        for part in parts:
            part.copy_said()
        # Side by side, so that no domain waits for all of another.
        due = [(one, part) for part in parts for one in part.due()]
        for one, part in sorted(due, key=lambda pair: pair[0]):
            part.copy(one)
        left_out = [one for part in parts for one in part.left_out]
        for lost in left_out:
            reporter.warn(f"left out: snapshot {lost.snapshot.hex()[:8]} of {lost.backup}: {lost.reason}")
        copied = sorted(one for part in parts for one in part.copied)
        report = ReplicaReport(
            location=target.location,
            copied=tuple(one.id for one in copied),
            there=sum(part.there for part in parts),
            forgotten=sum(part.forgotten for part in parts),
            left_out=tuple(left_out),
            damaged=tuple(damage.first),
            damage_count=damage.count,
            objects=copier.objects,
            bytes=copier.bytes,
        )
        figures = {"snapshots": len(copied), "objects": copier.objects, "bytes": copier.bytes}
        reporter.completed("replicated", figures)
    return report
