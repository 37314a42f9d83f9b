"""What a check finds: each object once, and only so many of them kept."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject
from penstock.engine.checking.ledger import Ledger
from penstock.engine.reporting import Reporter
from penstock.repository.domain import Domain
from penstock.repository.notices import Notices

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
    """Findings, each object once. What is gone is told by `settle`: a prune may have deleted it since it was listed."""

    def __init__(self, ledger: Ledger, reporter: Reporter) -> None:
        self._ledger = ledger
        self._reporter = reporter
        self.first: list[Finding] = []
        self.count = 0
        #: Of these, what counts for nobody and a prune deletes: heads that were left out, unreadable index objects.
        self.swept = 0

    def add(self, key: str, problem: str, *, gone: bool = False, needed_by: str = "") -> None:
        """Note what is wrong with an object, unless something was found already; `needed_by` is the key of a head."""
        if not self._ledger.find(key):
            if needed_by:
                self._ledger.miss_also(key, problem, needed_by)
        elif gone:
            self._ledger.miss(key, problem, needed_by)
        else:
            self._tell(Finding(key, problem))

    def error(self, error: DamagedObject | MissingObject, *, needed_by: str = "") -> None:
        """Note what an error says about its object."""
        self.add(error.key, error.reason, gone=isinstance(error, MissingObject), needed_by=needed_by)

    def settle(self, read_again: Callable[[], Iterable[tuple[Domain, Notices]]]) -> None:
        """Tell what is gone, but not what a prune has recorded as deleted by now and no snapshot that stays needs.

        `read_again` gives what is said in each domain by now; it is asked only if something is gone.
        """
        if next(self._ledger.missed(), None) is None:
            return
        deleted: set[str] = set()
        over: set[str] = set()
        for domain, notices in read_again():
            deleted |= notices.deleted
            over.update(domain.at.snapshot_key(snapshot) for snapshot, _ in notices.forgotten)
        over |= deleted
        told = ""
        for key, problem, needed_by in self._ledger.missed():
            if key != told and (needed_by not in over if needed_by else key not in deleted):
                self._tell(Finding(key, problem, gone=True))
                told = key

    def _tell(self, finding: Finding) -> None:
        self.count += 1
        if len(self.first) < MAX_FINDINGS:
            self.first.append(finding)
        self._reporter.finding(finding.key, finding.problem)
