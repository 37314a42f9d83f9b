"""What snapshots need: looked up in what a check has found, and mended from replicas where it is not whole."""

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.engine.checking.ledger import Ledger
from penstock.engine.checking.packs import Packs
from penstock.format.encoding import Malformed
from penstock.format.part import PartRef
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.notices import Notices
from penstock.repository.pool import Workers
from penstock.repository.read.content import SegmentTable, each_row, parts_of, sessions_of
from penstock.repository.read.ends import PackEnd
from penstock.repository.read.listing import in_pages
from penstock.repository.sessions import read_session
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.upkeep.indexes import read_index
from penstock.repository.upkeep.locks import foundations, longest
from penstock.repository.upkeep.mending import Mender
from penstock.repository.upkeep.tombstones import is_about_to_go

__all__ = ["Condition", "Needs"]


@dataclass(slots=True)
class Condition:
    """How a snapshot is: the first `problem` with what it needs, "" if it is whole; whether `keys` of data are lost.

    Of one without a head: `known` is what it needs, and it `waits` while a prune has named something of that.
    """

    problem: str = ""
    keys: bool = False
    known: bool = False
    waits: bool = False

    def lacks(self, problem: str) -> None:
        """Note a problem."""
        self.problem = self.problem or problem


class Needs:
    """Looks at one snapshot of a domain after the other. Used by one thread, which is none of the pools'.

    `ledger` and `packs` have what was found of the objects here. `packers` copy packs, each in memory as a whole.
    """

    def __init__(
        self,
        domain: Domain,
        notices: Notices,
        ledger: Ledger,
        packs: Packs,
        mender: Mender,
        workers: Workers,
        packers: Workers,
    ) -> None:
        self._domain = domain
        self._notices = notices
        self._ledger = ledger
        self._packs = packs
        self._mender = mender
        self._workers = workers
        self._packers = packers
        #: Index objects of runs that are gone or damaged, and that nobody has whole.
        self.lost_indexes: set[bytes] = set()

    def mend(self, entry: SnapshotEntry, *, headless: bool = False) -> Condition:
        """Take what a snapshot needs from replicas, where it is not whole here; says what is missing all the same.

        With `headless`, its head is to be put next: then it is asked whether a prune is in the way.
        """
        condition = Condition()
        try:
            # One after the other: this thread waits, and the ledger is for one at a time.
            self._workers.call(self._parts, entry, condition)
            sessions = self._workers.call(self._sessions, entry, condition)
            with closing(self._workers.call(SegmentTable, each_row(entry))) as table:
                self._mend_packs(table, condition)
                condition.known = True
                if headless:
                    used = (pack for pack, _ in table.used())
                    parts = in_pages(self._workers, parts_of(entry))
                    condition.waits = is_about_to_go(self._domain, self._workers, parts, sessions, used)
        except (DamagedObject, MissingObject, Malformed) as error:
            condition.lacks(str(error))
        self._workers.call(self._indexes, entry)
        return condition

    def prolong_locks(self, entry: SnapshotEntry, now: datetime) -> None:
        """Lock what a snapshot needs as long as its head will be, which is put next; `now` is the store's time."""
        sink, at = self._domain.sink, self._domain.at
        if sink.retention is None:
            return
        until = now + longest(sink.retention)

        def prolong(key: str) -> None:
            with suppress(ObjectMissing):  # what is gone was told
                sink.retain(key, until)

        needed = chain(
            (at.part_key(ref.part) for ref in parts_of(entry)),
            map(at.session_key, self._workers.call(sessions_of, entry)),
            (at.pack_key(row.pack) for row in each_row(entry) if row.used),
        )
        keys = chain(foundations(self._domain.log), in_pages(self._workers, needed))
        for _ in self._workers.map(prolong, keys):
            pass

    def _parts(self, entry: SnapshotEntry, condition: Condition) -> None:
        """Those that refer to others come first: they are whole before they are read."""
        for ref in parts_of(entry):
            key = self._domain.at.part_key(ref.part)
            if self._has_part(key, ref):
                continue
            if self._take(key, lambda ref=ref: self._mender.part(ref)):  # type: ignore[misc]
                self._ledger.judge(key, entry.writer, ref.digest)
            else:
                condition.lacks(f"{key}: a part of it is gone or damaged")

    def _has_part(self, key: str, ref: PartRef) -> bool:
        digest = self._ledger.digest(key)
        if digest is not None or self._ledger.found(key):
            return digest == ref.digest
        # Put after they were listed, or gone.
        try:
            ref.verify(fetch(self._domain.sink, key))
        except (ObjectMissing, Malformed):
            return False
        return True

    def _sessions(self, entry: SnapshotEntry, condition: Condition) -> Iterable[bytes]:
        sessions = sessions_of(entry)
        if not {entry.session, *(base.session for base in entry.head.bases)} <= sessions.keys():
            raise Malformed("it needs a session that it does not pin")
        for session, pinned in sessions.items():
            key = self._domain.at.session_key(session)
            if self._has_session(key, session, pinned):
                continue
            if self._take(key, lambda one=(session, pinned): self._mender.session(*one)):  # type: ignore[misc]
                self._ledger.judge(key, entry.writer, pinned)
            else:
                condition.keys = True
                condition.lacks(f"{key}: gone or damaged, and with it a data key")
        return sessions

    def _has_session(self, key: str, session: bytes, pinned: bytes) -> bool:
        digest = self._ledger.digest(key)
        if digest is not None or self._ledger.found(key):
            return digest == pinned
        try:
            read_session(self._domain, session, pinned)
        except (DamagedObject, MissingObject):
            return False
        return True

    def _mend_packs(self, table: SegmentTable, condition: Condition) -> None:
        at = self._domain.at

        def copy(pack: bytes) -> tuple[bytes, PackEnd | None]:
            return pack, self._mender.pack(pack, table.pin(pack))

        lacking = (pack for pack, used in table.used() if self._lacks(pack, used, table.pin(pack)))
        for pack, end in self._packers.map(copy, lacking):
            if end is not None:
                self._packs.replaced(end)
                continue
            self._ledger.give_up(at.pack_key(pack))
            if pack in self._packs.damaged:
                self._packs.salvage(pack)
        for pack, used in table.used():
            if not _bits(used) <= self._ledger.at_hand(pack, *table.pin(pack)).keys():
                condition.lacks(f"{at.pack_key(pack)}: segments that it needs are gone or damaged")

    def _lacks(self, pack: bytes, used: int, pin: tuple[bytes, int]) -> bool:
        """Whether it is to be taken from a replica, if any has it; what compaction has emptied is not."""
        key = self._domain.at.pack_key(pack)
        if self._ledger.is_given_up(key):
            return False
        held = self._ledger.segments(pack)
        if held is not None and (held.pin, held.segments) == pin:
            return pack in self._packs.damaged
        return key not in self._notices.deleted or not _bits(used) <= self._ledger.at_hand(pack, *pin).keys()

    def _indexes(self, entry: SnapshotEntry) -> None:
        """The index objects of its run, without which it can be restored as well."""
        at = self._domain.at
        for index in entry.head.index:
            key = at.index_key(index)
            if self._ledger.judged(key) or key in self._notices.deleted or index in self.lost_indexes:
                continue
            if not self._ledger.found(key) and read_index(self._domain, ObjectInfo(key, 0)) is not None:
                continue  # it was put after they were listed
            if self._take(key, lambda index=index: self._mender.index(index)):  # type: ignore[misc]
                self._ledger.judge(key, entry.writer)
            else:
                self.lost_indexes.add(index)

    def _take(self, key: str, take: Callable[[], bool]) -> bool:
        """Take it from a replica, unless it is known that none has it."""
        if self._ledger.is_given_up(key):
            return False
        if take():
            return True
        self._ledger.give_up(key)
        return False


def _bits(used: int) -> set[int]:
    """The ordinals of segments, of which each has a bit."""
    return {ordinal for ordinal in range(used.bit_length()) if used >> ordinal & 1}
