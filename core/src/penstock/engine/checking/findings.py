"""What a check finds: each object once, and only so many of them kept."""

from dataclasses import dataclass
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject
from penstock.engine.checking.ledger import Ledger
from penstock.engine.reporting import Reporter

__all__ = ["MAX_FINDINGS", "Finding", "Findings"]

#: A report holds so many findings at most; all of them are told to the listener.
MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not as it should be: `gone`, or else damaged, or nothing that belongs here."""

    key: str
    problem: str
    gone: bool = False

    def to_json(self) -> dict[str, Any]:
        """The finding as it stands in the document of `penstock check`."""
        return {"key": self.key, "problem": self.problem}


class Findings:
    """Findings, each object once."""

    def __init__(self, ledger: Ledger, reporter: Reporter) -> None:
        self._ledger = ledger
        self._reporter = reporter
        self.first: list[Finding] = []
        self.count = 0

    def add(self, key: str, problem: str, *, gone: bool = False) -> None:
        """Note what is wrong with an object, unless something was found already."""
        if self._ledger.find(key):
            self.count += 1
            if len(self.first) < MAX_FINDINGS:
                self.first.append(Finding(key, problem, gone))
            self._reporter.finding(key, problem)

    def error(self, error: DamagedObject | MissingObject) -> None:
        """Note what an error says about its object."""
        self.add(error.key, error.reason, gone=isinstance(error, MissingObject))
