"""What the CLI's verbs do, usable as a library."""

from penstock.engine.backup import BackupResult, backup
from penstock.engine.check import CheckReport, Finding, check
from penstock.engine.find import find
from penstock.engine.restore import CatResult, RestoreResult, cat, restore
from penstock.engine.show import ShowResult, show

__all__ = [
    "BackupResult",
    "CatResult",
    "CheckReport",
    "Finding",
    "RestoreResult",
    "ShowResult",
    "backup",
    "cat",
    "check",
    "find",
    "restore",
    "show",
]
