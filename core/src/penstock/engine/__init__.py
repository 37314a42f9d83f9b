"""What the CLI's verbs do, usable as a library."""

from penstock.engine.backup import BackupResult, backup
from penstock.engine.check import CheckReport, Finding, check
from penstock.engine.copy import Copying, CopyResult
from penstock.engine.diff import Diff, diff
from penstock.engine.doubts import Doubts
from penstock.engine.find import find, find_each, find_previous, latest_names
from penstock.engine.leaving_out import left_out_json
from penstock.engine.marking import Marked, hold, release, tag
from penstock.engine.repair import LostSnapshot, RepairReport, repair
from penstock.engine.replicate import ReplicaReport, replicate
from penstock.engine.restore import CatResult, PlannedRestore, RestoreResult, cat, plan_restore, restore
from penstock.engine.show import ShowResult, show
from penstock.engine.verify import Verified, VerifyReport, verify

__all__ = [
    "BackupResult",
    "CatResult",
    "CheckReport",
    "CopyResult",
    "Copying",
    "Diff",
    "Doubts",
    "Finding",
    "LostSnapshot",
    "Marked",
    "PlannedRestore",
    "RepairReport",
    "ReplicaReport",
    "RestoreResult",
    "ShowResult",
    "Verified",
    "VerifyReport",
    "backup",
    "cat",
    "check",
    "diff",
    "find",
    "find_each",
    "find_previous",
    "hold",
    "latest_names",
    "left_out_json",
    "plan_restore",
    "release",
    "repair",
    "replicate",
    "restore",
    "show",
    "tag",
    "verify",
]
