"""What the CLI's verbs do, usable as a library."""

from penstock.engine.backup import BackupResult, backup
from penstock.engine.check import CheckReport, Finding, check
from penstock.engine.restore import RestoreResult, cat, restore
from penstock.engine.show import show

__all__ = [
    "BackupResult",
    "CheckReport",
    "Finding",
    "RestoreResult",
    "backup",
    "cat",
    "check",
    "restore",
    "show",
]
