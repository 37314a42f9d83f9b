"""Prune: free what no snapshot needs, in all domains that the key reaches."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from penstock.engine.reporting import Listener, reporting
from penstock.format.times import as_text
from penstock.repository import Repository
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.upkeep.limits import Limits
from penstock.repository.upkeep.pruning import GRACE, Pruned
from penstock.repository.upkeep.pruning import prune as prune_domain

__all__ = ["GRACE", "MOST_UNUSED", "Limits", "PruneReport", "prune"]

#: How much may be dead in packs that are needed, of the bytes of all: less costs more copying than it frees.
MOST_UNUSED = 0.1


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune did, or with `dry_run` would do, by the label of each domain. Sizes in bytes."""

    domains: dict[str, Pruned]
    dry_run: bool

    @property
    def deleted_size(self) -> int:
        """Bytes that were freed."""
        return sum(one.deleted_size for one in self.domains.values())

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock prune`."""
        return {
            "dry_run": self.dry_run,
            "deleted_size": self.deleted_size,
            "domains": {label: _to_json(one) for label, one in self.domains.items()},
        }


def _to_json(one: Pruned) -> dict[str, Any]:
    return {
        "snapshots": one.doom.kept,
        "deleted": one.deleted,
        "deleted_size": one.deleted_size,
        "doomed": one.doom.doomed,
        "doomed_size": one.doom.doomed_size,
        "due": _time(one.doom.due),
        "unused": one.doom.unused,
        "compacted": one.doom.compacted,
        "compacted_size": one.doom.compacted_size,
        "copied": one.doom.copied,
        "merged": one.doom.merged,
        "waiting": [{"until": _time(wait.until), "reason": wait.reason} for wait in one.waiting],
        "locked": one.locked,
        "locked_until": _time(one.locked_until),
        "left": one.left,
        "left_size": one.left_size,
    }


def _time(moment: datetime | None) -> str | None:
    return as_text(moment) if moment is not None else None


def prune(
    repository: Repository,
    *,
    grace: timedelta = GRACE,
    most_unused: float | None = MOST_UNUSED,
    limits: Limits | None = None,
    dry_run: bool = False,
    take_over: bool = False,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> PruneReport:
    """Free what no snapshot needs any more. The owner and maintainers can; backups and restores go on meanwhile.

    A run deletes what earlier runs found dead, once their grace has ended and no session is left that began before;
    then it names what is dead now, to be deleted after `grace` by a later run. Packs that are mostly dead are compacted
    before, if more than `most_unused` of all bytes are dead in such; None compacts nothing. `limits` are for all
    domains together.
    Raises `RoleForbids` for a writer's key, `PruneRunning`, and `DamagedObject` or `MissingObject` where nobody knows
    what a snapshot needs: then nothing is deleted in that domain.
    """
    if not dry_run:
        repository.access.require_keeper("pruning")
    budget = ReadBudget.of(memory, repository.sink.connections)
    done: dict[str, Pruned] = {}
    with (
        reporting(listener, "prune", repository.sink.location, repository.sink) as reporter,
        Workers(budget.requests, "penstock-prune", repository.sink.stop) as workers,
    ):
        limits = limits or Limits()
        for domain in repository.domains:
            done[domain.label] = prune_domain(
                domain,
                workers,
                grace=grace,
                most_unused=most_unused,
                limits=limits,
                dry_run=dry_run,
                take_over=take_over,
                on_phase=reporter.phase,
                on_progress=reporter.progress,
            )
        report = PruneReport(done, dry_run)
        reporter.completed(
            "pruned", {"deleted": sum(one.deleted for one in done.values()), "size": report.deleted_size}
        )
    return report
