"""The repair of one domain: its snapshots, mended one after the other, and what is said of those that are lost."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SinkError
from penstock.api.models import ObjectInfo
from penstock.engine.checking.chain import Chain
from penstock.engine.checking.findings import Finding
from penstock.engine.checking.ledger import Ledger
from penstock.engine.checking.small import require_lease
from penstock.engine.repairing.losses import Losses
from penstock.engine.repairing.needs import Condition, Needs
from penstock.engine.repairing.report import LostSnapshot, RepairReport
from penstock.engine.repairing.sayings import mend_said
from penstock.format.encoding import Malformed
from penstock.format.times import as_text
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import Notices, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.snapshots import SnapshotEntry, each_snapshot, read_snapshot
from penstock.repository.upkeep import marks
from penstock.repository.upkeep.living import read_living
from penstock.repository.upkeep.locks import store_time
from penstock.repository.upkeep.marks import read_marks
from penstock.repository.upkeep.mending import Mender

__all__ = ["LOST", "DomainRepair", "Tools"]

#: What a repair says of a snapshot begins so: it takes back what it said itself, and no other verdict.
LOST = "lost: "
#: Characters of a reason.
_LONGEST = 300


class Tools(NamedTuple):
    """What the repair of a domain works with: what was found there, who mends it, and threads."""

    ledger: Ledger
    mender: Mender
    needs: Needs
    losses: Losses
    workers: Workers


class DomainRepair:
    """Mends a domain, and finds what is lost. Used by one thread, which is none of the pools'.

    `notices` were read behind the listings that the ledger has; `now` is the store's time. With `dry_run`, nothing is
    said or deleted.
    """

    def __init__(
        self,
        domain: Domain,
        notices: Notices,
        tools: Tools,
        report: RepairReport,
        now: datetime,
        warn: Callable[[str], object],
        *,
        dry_run: bool,
    ) -> None:
        self._domain = domain
        self._notices = notices
        self._tools = tools
        self._report = report
        self._now = now
        self._warn = warn
        self._dry_run = dry_run
        self._living: set[bytes] = set()
        #: Sessions that seem to live, and whose head is there.
        self.ended: set[bytes] = set()
        #: Heads that cannot be read, and why.
        self._unread: dict[str, str] = {}
        self._chain = Chain(notices)
        #: Signs of life that may be no such, by session.
        self._leases: dict[str, list[str]] = {}
        self._marks = marks.Marks()
        #: Those that an earlier run found lost and that are whole again: digests of heads, by id.
        self._whole: dict[bytes, bytes] = {}

    def mend(self) -> None:
        """Mend what can be mended, and find what is lost."""
        mend_said(self._domain, self._tools.ledger, self._tools.mender, self._tools.workers)
        # Who may say so may have said it in what was damaged.
        self._notices = read_notices(self._domain, self._tools.workers)
        self._chain = Chain(self._notices)
        self._marks = read_marks(self._domain, self._tools.workers)
        self._note_leases()
        self._living = {one.id for one in read_living(self._domain, self._tools.workers, self._now).sessions}
        for entry in self._here():
            self._look(entry, self._tools.needs.mend(entry))
        for entry in self._elsewhere():
            condition = self._tools.needs.mend(entry, headless=True)
            # Whatever becomes of it: it is known which one it was.
            self._unread.pop(self._domain.at.snapshot_key(entry.id), None)
            if condition.waits:
                self._chain.add(entry)
                self._report.waiting.append(entry.id)
            elif not condition.known or self._put_head(entry):
                # Also of one that is not whole: its other streams can be restored.
                self._look(entry, condition)
        self._conclude()

    def _note_leases(self) -> None:
        """Those that were not found good; it may be their sessions that are damaged."""
        ledger = self._tools.ledger
        for info in ledger.under(self._domain.at.leases):
            if not ledger.judged(info.key):
                self._leases.setdefault(info.key.rpartition("/")[2].partition("-")[0], []).append(info.key)

    def _here(self) -> Iterator[SnapshotEntry]:
        ledger, at = self._tools.ledger, self._domain.at
        for key in ledger.found_under(at.snapshots):
            with suppress(Malformed):  # what no head can be called is none
                self._unread[key] = f"no head of {layout.id_of(key).hex()[:8]}"
        infos = (info for info in ledger.under(at.snapshots) if not ledger.found(info.key))
        yield from each_snapshot(self._domain, self._tools.workers, infos, self._notices, self._bad_head)

    def _bad_head(self, error: DamagedObject | MissingObject) -> None:
        """Not of a head that a revoked writer signed, which nobody relies on."""
        with suppress(DamagedObject, MissingObject):
            self._tools.workers.call(read_snapshot, self._domain, ObjectInfo(error.key, 0), hidden=True)
            return
        if error.key not in self._notices.deleted:
            self._unread[error.key] = error.reason

    def _elsewhere(self) -> Iterator[SnapshotEntry]:
        """The snapshots whose heads replicas have, and that lack theirs here without anybody having let go of them."""
        ledger, at, workers = self._tools.ledger, self._domain.at, self._tools.workers
        for source in self._tools.mender.sources:
            for info in listed(workers, source.sink, at.snapshots):
                if (ledger.holds(info.key) and info.key not in self._unread) or info.key in self._notices.deleted:
                    continue
                try:
                    entry = workers.call(read_snapshot, source, info)
                except (DamagedObject, MissingObject):
                    continue
                if self._notices.hides(entry.id, entry.digest, entry.writer) is None and not self._has_head(info.key):
                    yield replace(entry, domain=self._domain)

    def _has_head(self, key: str) -> bool:
        """Whether it is there by now: a backup may have ended since the listing."""
        try:
            self._tools.workers.call(read_snapshot, self._domain, ObjectInfo(key, 0))
        except (DamagedObject, MissingObject):
            return False
        return True

    def _put_head(self, entry: SnapshotEntry) -> bool:
        """Put the head of a snapshot behind all that could be put of what it needs; whether it counts then."""
        workers, key = self._tools.workers, self._domain.at.snapshot_key(entry.id)
        # Somebody may have let go of it meanwhile.
        notices = read_notices(self._domain, workers)
        if key in notices.deleted or notices.hides(entry.id, entry.digest, entry.writer) is not None:
            return False
        just_put = self._say_written(entry)
        now = store_time(self._domain.sink, just_put, workers) if just_put is not None else self._now
        self._tools.needs.prolong_locks(entry, now)
        if not workers.call(self._tools.mender.head, entry.id, entry.digest):
            return False
        self._tools.ledger.add([ObjectInfo(key, entry.object_size)])
        return True

    def _say_written(self, entry: SnapshotEntry) -> str | None:
        """Say when it was written: this store dates it by its return, and retention would take it for the newest.

        The key of the mark, if it was put.
        """
        head = (entry.id, entry.digest)
        if self._dry_run or self._domain.access.role is Role.WRITER or head in self._marks.written:
            return None
        for source in self._tools.mender.sources:
            said = read_marks(source, self._tools.workers).written.get(head)
            time = said or (as_text(entry.modified) if entry.modified is not None else None)
            if time is not None:
                name = self._tools.workers.call(marks.written, self._domain, dict([head]), time)
                self._marks.written[head] = time
                return self._domain.at.mark_key(name)
        return None

    def _look(self, entry: SnapshotEntry, condition: Condition) -> None:
        """Note what became of a snapshot, and say so."""
        self._chain.add(entry)
        self._drop_leases(entry)
        if entry.session in self._living:
            self.ended.add(entry.session)
        if not condition.problem:
            self._report.snapshots += 1
            if self._marks.badness(entry).startswith(LOST):
                self._whole[entry.id] = entry.digest
        elif not self._was_let_go(entry):
            self._report.snapshots += 1
            lost = LostSnapshot.of(entry, self._tools.losses.of(entry, condition))
            self._report.add_lost(lost)
            if not self._marks.badness(entry):
                self._judge({entry.id: entry.digest}, _reason(lost))

    def _was_let_go(self, entry: SnapshotEntry) -> bool:
        """Whether a prune has deleted it since it was listed: heads go before what they need."""
        key = self._domain.at.snapshot_key(entry.id)
        if not self._tools.ledger.holds(key) or self._has_head(key):
            return False
        return key in read_notices(self._domain, self._tools.workers).deleted

    def _drop_leases(self, entry: SnapshotEntry) -> None:
        """Delete what cannot be read of the signs of life of a session that has ended: it counts for nothing."""
        for key in self._leases.pop(entry.session.hex(), []):
            try:
                self._tools.workers.call(require_lease, self._domain, key)
            except Malformed:
                if not self._dry_run:
                    self._delete(key)
            except ObjectMissing:
                continue

    def _delete(self, key: str) -> None:
        try:
            self._tools.workers.call(self._domain.sink.delete, key)
        except SinkError as error:
            if error.retryable:
                raise
            self._warn(f"what is left of a sign of life stays: {error}")

    def _conclude(self) -> None:
        """Say which heads are lost, and what is whole again."""
        report = self._report
        for key, problem in sorted(self._unread.items()):
            report.add_head(Finding(key, f"its head cannot be read: {problem}"))
        for key, problem in self._chain.missing(lambda: read_notices(self._domain, self._tools.workers)):
            report.add_head(Finding(key, problem, gone=True))
        if self._whole and not report.quick:
            self._judge(self._whole, None)
            report.recovered += self._whole

    def _judge(self, snapshots: dict[bytes, bytes], why: str | None) -> None:
        if not self._dry_run and self._domain.access.role is not Role.WRITER:
            self._tools.workers.call(marks.judge, self._domain, snapshots, why)


def _reason(one: LostSnapshot) -> str:
    names = [stream.stream for stream in one.streams if stream.stream is not None]
    what = ", ".join(names) if names else one.streams[0].problem
    return (LOST + what)[:_LONGEST]
