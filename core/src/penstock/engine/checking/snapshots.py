"""The snapshots in a check: whether all that they pin is there, and is what they pin; for the owner, recipes too."""

from functools import lru_cache

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.engine.checking.chain import Chain
from penstock.engine.checking.findings import Findings
from penstock.engine.checking.ledger import Ledger
from penstock.format.encoding import Malformed
from penstock.format.part import Kind, Row, decode_rows
from penstock.format.sealing import Sealer
from penstock.format.trust import Role
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.notices import Notices, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.content import Content, add_sessions, layout_sections, parts_of
from penstock.repository.read.once import Once
from penstock.repository.snapshots import SnapshotEntry, each_snapshot, is_left_out

__all__ = ["Snapshots"]

#: Objects that were not listed are asked for one by one, so many of them: heads may name thousands that never were.
_MOST_ASKED = 1000
#: Pins in memory.
_PINS = 256


class Snapshots:
    """The snapshots of a domain, a few in memory at a time."""

    def __init__(
        self,
        domain: Domain,
        notices: Notices,
        workers: Workers,
        ledger: Ledger,
        findings: Findings,
        sealers: Once[bytes, Sealer],
    ) -> None:
        self._domain = domain
        self._notices = notices
        self._workers = workers
        self._ledger = ledger
        self._findings = findings
        self._sealers = sealers
        self._forgotten = {snapshot for snapshot, _ in notices.forgotten}
        self._missed = 0
        #: Those that are what was written.
        self.count = 0

    def examine(self) -> None:
        """Look at all of them."""
        objects = (info for info in self._ledger.under(self._domain.at.snapshots) if not self._ledger.found(info.key))
        chain = Chain(self._notices)
        for entry in each_snapshot(self._domain, self._workers, objects, self._notices, self._bad_head):
            self.count += 1
            chain.add(entry)
            if entry.from_the_future:
                self._findings.add(self._key(entry), f"it claims to be of {entry.head.finished}, in the future")
            self._references(entry)
            self._content(entry)
        for key, problem in chain.missing(lambda: read_notices(self._domain, self._workers)):
            self._findings.add(key, problem, gone=True)
        for key in self._ledger.replaced():
            self._findings.add(key, "gone, but copies of all that is needed of it are in other packs", gone=True)

    def _bad_head(self, error: DamagedObject | MissingObject) -> None:
        self._findings.error(error)
        if self._workers.call(is_left_out, self._domain, error.key):
            self._ledger.spare(error.key)

    def _key(self, entry: SnapshotEntry) -> str:
        return self._domain.at.snapshot_key(entry.id)

    def _references(self, entry: SnapshotEntry) -> None:
        at = self._domain.at
        wanted = {at.session_key(entry.session): "its session"}
        wanted |= {at.index_key(index): "an index object of its run" for index in entry.head.index}
        if entry.head.parent is not None and entry.head.parent not in self._forgotten:
            wanted[at.snapshot_key(entry.head.parent)] = "its parent"
        mine = at.session_key(entry.session)
        if self._ledger.signer(mine) not in (None, entry.writer):
            problem = f"not the session of the writer of snapshot {_short(entry)}"
            self._findings.add(mine, problem, needed_by=self._key(entry))
        for key, what in wanted.items():
            if key not in self._notices.deleted and not self._exists(key):
                self._findings.add(key, f"gone: snapshot {_short(entry)} names it as {what}", gone=True)

    def _exists(self, key: str) -> bool:
        """Asked for again where it was not listed: it may have been put between two pages of the listing."""
        if self._ledger.holds(key):
            return True
        if self._ledger.found(key) or self._missed >= _MOST_ASKED:
            return False
        try:
            self._ledger.add([self._workers.call(self._domain.sink.stat, key)])
        except ObjectMissing:
            self._missed += 1
            return False
        return True

    def _content(self, entry: SnapshotEntry) -> None:
        # One after the other: this thread waits, and the ledger is for one at a time.
        for look in (self._parts, self._layout, self._recipes):
            try:
                self._workers.call(look, entry)
            except Malformed as error:
                self._findings.add(self._key(entry), str(error))
            except (DamagedObject, MissingObject) as error:
                self._findings.error(error, needed_by=self._key(entry))

    def _parts(self, entry: SnapshotEntry) -> None:
        """Each part, as every role can see it: there, and with the digest that is pinned."""
        for ref in parts_of(entry):
            key = self._domain.at.part_key(ref.part)
            digest = self._ledger.digest(key)
            try:
                if digest is None:  # put after they were listed, or gone, or damaged
                    ref.verify(fetch(self._domain.sink, key))
                elif digest != ref.digest:
                    raise Malformed(f"not the part that snapshot {_short(entry)} pins")
            except ObjectMissing:
                self._findings.add(
                    key, f"gone: snapshot {_short(entry)} needs it", gone=True, needed_by=self._key(entry)
                )
            except Malformed as error:
                self._findings.add(key, str(error), needed_by=self._key(entry))

    def _layout(self, entry: SnapshotEntry) -> None:
        sessions: dict[bytes, bytes] = {}
        for section in layout_sections(entry):
            if section.kind is Kind.SESSIONS:
                add_sessions(sessions, section)
            for row in decode_rows(section.data) if section.kind is Kind.TABLE else ():
                self._row(entry, row)
        self._sessions(entry, sessions)

    def _sessions(self, entry: SnapshotEntry, sessions: dict[bytes, bytes]) -> None:
        needed = {entry.session, *(base.session for base in entry.head.bases)}
        if not needed <= sessions.keys():
            raise Malformed("it needs a session that it does not pin")
        for session, pinned in sessions.items():
            key = self._domain.at.session_key(session)
            if not self._exists(key):
                problem = f"gone: snapshot {_short(entry)} needs its data key"
                self._findings.add(key, problem, gone=True, needed_by=self._key(entry))
            elif self._ledger.found(key):
                self._ledger.need(key)
            elif self._ledger.digest(key) not in (None, pinned):
                problem = f"not the session that snapshot {_short(entry)} pins"
                self._findings.add(key, problem, needed_by=self._key(entry))

    def _row(self, entry: SnapshotEntry, row: Row) -> None:
        """The pack of a row: what is needed of it can be in other packs, too, whatever became of it."""
        if not row.used:
            return
        key = self._domain.at.pack_key(row.pack)
        held = self._ledger.segments(row.pack)
        if held is not None and (held.pin, held.segments) != (row.pin, row.segments):
            self._findings.add(key, f"not the pack that snapshot {_short(entry)} pins", needed_by=self._key(entry))
        elif row.used <= self._ledger.at_hand(row.pack, row.pin, row.segments).keys():
            if held is None and not self._ledger.holds(key) and key not in self._notices.deleted:
                self._ledger.add_replaced(key)
            self._ledger.need(key)  # damaged: the copies may be on their way out
        elif held is None:
            problem = f"gone or damaged: snapshot {_short(entry)} needs its segments"
            self._findings.add(key, problem, gone=not self._ledger.holds(key), needed_by=self._key(entry))
        else:
            self._findings.add(
                key, f"it lacks segments that snapshot {_short(entry)} needs", needed_by=self._key(entry)
            )

    def _recipes(self, entry: SnapshotEntry) -> None:
        if self._domain.access.role is not Role.OWNER:
            return
        # The ledger has compared the sessions with what is pinned.
        content = Content(entry, lambda session, _: self._sealers(session))
        pin = lru_cache(_PINS)(content.table.pin)
        for record in content.manifest.streams:
            for extent in content.runs(record):
                assert extent.segment is not None
                segment = content.table.find(extent.segment)
                pinned = pin(segment.pack)
                held = self._ledger.segments(segment.pack)
                end = extent.start + extent.length
                # How long a segment is that is gone, nobody knows.
                least = 0 if held is not None and (held.pin, held.segments) == pinned else end
                if end > self._ledger.at_hand(segment.pack, *pinned).get(segment.ordinal, least):
                    raise Malformed(f"the recipe of {record.name} asks for bytes that are not there")


def _short(entry: SnapshotEntry) -> str:
    return entry.id.hex()[:8]
