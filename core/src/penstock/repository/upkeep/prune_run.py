"""What the steps of one prune share."""

from dataclasses import dataclass

from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.upkeep.limits import Limits, OnPhase, OnProgress
from penstock.repository.upkeep.presence import Presence

__all__ = ["PruneRun"]


@dataclass(frozen=True, slots=True)
class PruneRun:
    """One run in one domain. With `dry_run`, its steps write and delete nothing."""

    domain: Domain
    workers: Workers
    presence: Presence
    limits: Limits
    on_phase: OnPhase
    on_progress: OnProgress
    dry_run: bool
