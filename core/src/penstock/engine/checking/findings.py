"""What a check finds: each object once, and only so many of them kept."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject
from penstock.engine.checking.ledger import Ledger
from penstock.engine.reporting import Reporter
from penstock.format.encoding import Malformed
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import Notices

__all__ = ["MAX_FINDINGS", "Finding", "Findings"]

#: A report holds so many findings at most; all of them are told to the listener.
MAX_FINDINGS = 1000
#: An index object is a hint, and a lease that cannot be read is nobody's.
_IDLE = frozenset({"sessions", "packs", "parts", "index", "leases"})


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

    def add(self, key: str, problem: str, *, gone: bool = False, needed_by: str = "") -> None:
        """Note what is wrong with an object, unless something was found already; `needed_by` is the key of a head."""
        new = self._ledger.find(key)
        if needed_by:
            self._ledger.need(key)
        if new and gone:
            self._ledger.miss(key, problem, needed_by)
        elif new:
            self._tell(Finding(key, problem))
        elif needed_by:
            self._ledger.miss_also(key, problem, needed_by)

    def stranger(self, key: str, problem: str) -> None:
        """Note an object that nobody relies on, since Penstock did not put it there."""
        self.add(key, problem)
        self._ledger.spare(key)

    def error(self, error: DamagedObject | MissingObject, *, needed_by: str = "") -> None:
        """Note what an error says about its object."""
        self.add(error.key, error.reason, gone=isinstance(error, MissingObject), needed_by=needed_by)

    @property
    def harmless(self) -> int:
        """How many objects are not as they should be and nobody relies on, by what the snapshots need that were read.

        What was said of snapshots does not count among them: nobody knows of whom it was.
        """
        return sum(spared or _only_if_needed(key) for key, spared in self._ledger.unneeded())

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


def _only_if_needed(key: str) -> bool:
    """Whether an object is of a kind that matters only if a snapshot needs it; what is left over, a prune deletes."""
    try:
        return layout.kind_of(key) in _IDLE
    except Malformed:
        return False
