"""Maintain: everything that a repository needs from day to day, in the order that loses nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject, NoPolicy
from penstock.engine.check import CheckReport, check
from penstock.engine.forget import ForgetPlan, forget, plan_forget
from penstock.engine.prune import GRACE, PruneReport, prune
from penstock.engine.reporting import Listener
from penstock.repository import Repository
from penstock.repository.read.budget import DEFAULT_MEMORY
from penstock.repository.upkeep.retention import Policy

__all__ = ["GRACE", "MaintainReport", "maintain"]


@dataclass(frozen=True, slots=True)
class MaintainReport:
    """What was done. Where the check found something, nothing else was: `plan` and `pruned` are None.

    `plan` is None, too, where nothing says what is kept.
    """

    checked: CheckReport
    plan: ForgetPlan | None = None
    pruned: PruneReport | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock maintain`."""
        return {
            "check": self.checked.to_json(),
            "forget": {**self.plan.to_json(), "applied": True} if self.plan else None,
            "prune": self.pruned.to_json() if self.pruned else None,
        }


def maintain(
    repository: Repository,
    policies: Callable[[str], Policy | None],
    *,
    within: timedelta,
    cache_dir: Path,
    grace: timedelta = GRACE,
    take_over: bool = False,
    memory: int = DEFAULT_MEMORY,
    on_damage: Callable[[DamagedObject | MissingObject], None],
    listener: Listener,
) -> MaintainReport:
    """Check everything, and read a part of the data; forget what `policies` do not keep; prune.

    Runs over `within` read all of the data. If the check finds anything, nothing is forgotten or deleted: what would be
    may be what the damaged rest has to be mended with; but for what nobody relies on. See `check`, `forget` and `prune`
    for what they raise.
    """
    repository.access.require_keeper("maintaining a repository")
    checked = check(repository, read_data=True, within=within, cache_dir=cache_dir, memory=memory, listener=listener)
    if checked.finding_count > checked.harmless:
        return MaintainReport(checked)
    plan = None
    try:
        plan = plan_forget(repository, policies, on_damage=on_damage)
    except NoPolicy:
        pass  # nobody wants anything to be forgotten
    else:
        forget(repository, [one.entry for one in plan.forgotten])
    pruned = prune(repository, grace=grace, take_over=take_over, memory=memory, listener=listener)
    return MaintainReport(checked, plan, pruned)
