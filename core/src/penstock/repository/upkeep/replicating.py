"""One domain of a replica: what it lacks of the original, copied in an order that can be restored at every moment.

What a snapshot needs is there before its head; what is said of it, and when it was written, too. Nobody holds a lock:
the target's own prune says a day ahead what it is about to delete, and no head that needs any of it is put.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from penstock.api.errors import DamagedObject, MissingObject, OtherHistory
from penstock.api.models import ObjectInfo
from penstock.api.sink import Sink
from penstock.format.encoding import Malformed
from penstock.format.keys import VerifyingKey
from penstock.format.notice import Action, Deletion, Mark, Notice, Things
from penstock.format.part import Kind, PartRef, Row, decode_rows
from penstock.format.times import as_text, now
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.notices import Notices, forget, read_notices, undelete
from penstock.repository.pool import Workers
from penstock.repository.read.content import SegmentTable, add_sessions, layout_sections, parts_of
from penstock.repository.read.listing import in_pages
from penstock.repository.said import Said, put_said, read_said
from penstock.repository.snapshots import SnapshotEntry, each_snapshot, is_left_out, read_snapshot
from penstock.repository.upkeep import marks
from penstock.repository.upkeep.copying import Copier
from penstock.repository.upkeep.locks import foundations, prolong_locks, store_time
from penstock.repository.upkeep.marks import read_marks
from penstock.repository.upkeep.replicating_packs import OnDamage, PackCopies
from penstock.repository.upkeep.stock import Stock
from penstock.repository.upkeep.tombstones import is_about_to_go

__all__ = ["DomainReplica", "Due", "Uncopied"]

#: Snapshots that one record explains.
_RECORD = 5000

T = TypeVar("T")


class Due(NamedTuple):
    """A snapshot that the replica lacks, in the order of copying: when, which of its writer's, which."""

    time: str
    sequence: int
    id: bytes
    digest: bytes
    backup: str
    modified: datetime | None


class Uncopied(NamedTuple):
    """A snapshot that is left out of the replica, and why."""

    snapshot: bytes
    backup: str
    reason: str


class DomainReplica:
    """The copy of the domain `source` in another sink. Used by one thread, which is none of the pools'.

    `stock` is what was listed of both places before the original's log was read: of any head in it, the log says whose
    it is. The `cache` is the replica's, and remembers locks. `workers` copy small objects, `packers` packs, each of
    which is in memory as a whole. `on_damage` is told of what is not what was written, which is never copied.
    """

    def __init__(
        self,
        source: Domain,
        sink: Sink,
        stock: Stock,
        cache: Cache,
        copier: Copier,
        workers: Workers,
        packers: Workers,
        on_damage: OnDamage,
    ) -> None:
        self._source = source
        # With the keys and the log of the original: its own may lag behind.
        self._target = Domain(sink, source.access, source.log, source.made, source.keys)
        self._copier = copier
        self._workers = workers
        self._on_damage = on_damage
        self._stock = stock
        self._cache = cache
        self._packs = PackCopies(source, copier, self._stock, workers, packers, on_damage)
        self._notices = Notices()
        self._own = Notices()
        self._marks = marks.Marks()
        #: Snapshots that were copied, oldest first, and those that could not be.
        self.copied: list[Due] = []
        self.left_out: list[Uncopied] = []
        #: How many are in both places, and how many the replica forgot or deleted for itself.
        self.there = 0
        self.forgotten = 0

    def survey(self) -> int:
        """Read what is said in both places; returns about how many bytes are missing.

        Raises `OtherHistory`; changes nothing.
        """
        at = self._source.at
        # After the heads: that one is gone is on record before it is.
        self._notices = read_notices(self._source, self._workers)
        self._own = read_notices(self._target, self._workers)
        unknown = self._stock.unknown(at.snapshots)
        for entry in each_snapshot(self._target, self._workers, unknown, self._own, lambda _: None):
            if self._notices.hides(entry.id, entry.digest, entry.writer) is None:
                raise OtherHistory(
                    f"{self._target.sink.location}: snapshot {entry.id.hex()[:8]} of {entry.head.backup} is not in the "
                    "original, and was never forgotten there",
                    hint="Nobody may back up into a replica. If the original lost it, restore from the replica.",
                )
        return self._stock.missing_bytes(at.packs)

    def copy_said(self) -> None:
        """Copy what is said of snapshots: that they are void, tags, holds and verdicts; and explain what is gone.

        Before any head: what is held or found bad is so from the first moment on. That packs are damaged is said of
        the original's copies alone. A release or an untag comes after what it takes back.
        """
        source, at = self._source, self._source.at
        for one in self._in_order(read_said(source, self._workers, at.notices, Notice, source.signer, None)):
            if one.content.void:
                self._said(at.notice_key(one.name), Notice, source.signer)
        for mark in self._in_order(read_said(source, self._workers, at.marks, Mark, source.keeper, None)):
            self._said(at.mark_key(mark.name), Mark, source.keeper)
        self._marks = read_marks(self._target, self._workers)
        self._explain_forgotten()

    def due(self) -> list[Due]:
        """The snapshots to be copied, oldest first. Of those that are there, it says when they were written."""
        found, mine = [], {snapshot for snapshot, _ in self._marks.written}
        again: dict[bytes, bytes] = {}
        for entry in self._unsettled(mine):
            head, key = (entry.id, entry.digest), self._target.at.snapshot_key(entry.id)
            if head in self._own.forgotten:
                if head in self._marks.written or head in self._own.swept or self._stock.target_size(key) is not None:
                    self.forgotten += 1
                    continue
                # It was never here: another run explained that the original had forgotten it, which was taken back.
                again[entry.id] = entry.digest
            if self._stock.lacks(key):
                due = Due(entry.time, entry.head.sequence, *head, entry.head.backup, entry.modified)
                found.append(due)
            else:
                self.there += 1
                self._say_written(head, entry.modified)
        if again:
            lifts = {record for head in again.items() for record in self._own.forgets.get(head, ())}
            self._workers.call(undelete, self._target, again, lifts)
        return sorted(found)

    def _unsettled(self, written: set[bytes]) -> Iterator[SnapshotEntry]:
        """The snapshots of the original that the replica lacks, or has without the time of the original's store."""

        def settled(info: ObjectInfo) -> bool:
            try:
                snapshot = layout.id_of(info.key)
            except Malformed:
                return True  # a stranger's
            if self._stock.lacks(info.key) or (info.modified is not None and snapshot not in written):
                return False
            self.there += 1
            return True

        infos = (info for info in self._stock.source(self._source.at.snapshots) if not settled(info))
        yield from each_snapshot(self._source, self._workers, infos, self._notices, self._bad_head)

    def _bad_head(self, error: DamagedObject | MissingObject) -> None:
        """Not of a head that a revoked writer signed, which nobody relies on."""
        if not self._workers.call(is_left_out, self._source, error.key) and error.key not in self._notices.deleted:
            self._on_damage(error)

    def copy(self, due: Due) -> None:
        """Copy a snapshot with all that it needs; one that cannot be copied is left out, with the reason.

        One that the original lets go of meanwhile is not missed. Raises what the sinks raise.
        """
        key = self._source.at.snapshot_key(due.id)
        try:
            why = self._copy(key, due)
        except (DamagedObject, MissingObject) as error:
            if self._let_go(due):
                return
            self._on_damage(error)
            why = str(error)
        except Malformed as error:
            why = f"{key}: {error}"
            self._on_damage(DamagedObject(key, str(error)))
        if why is None:
            self.copied.append(due)
        else:
            self.left_out.append(Uncopied(due.id, due.backup, why))

    def _let_go(self, due: Due) -> bool:
        """Whether the original forgot or deleted it since it was listed."""
        self._notices = read_notices(self._source, self._workers)
        return (due.id, due.digest) in self._notices.forgotten

    def _copy(self, key: str, due: Due) -> str | None:
        """Why not, if something is in the way; raises what is damaged."""
        entry = self._workers.call(read_snapshot, self._source, ObjectInfo(key, 0, due.modified))
        if entry.digest != due.digest:
            raise DamagedObject(key, "not the head that was there a moment ago")
        for _ in self._workers.map(self._part, in_pages(self._workers, parts_of(entry))):
            pass
        table, sessions = self._workers.call(self._layout, entry)
        with closing(table):
            for _ in self._workers.map(self._session, sessions.items()):
                pass
            packs = self._packs.copy(table, self._notices.deleted)
            gone = packs.gone + [key for index in entry.head.index for key in self._index(index)]
            if why := self._about_to_go(entry, table, sessions):
                return why
            self._explain_gone(gone)
            just_put = self._say_written((entry.id, entry.digest), entry.modified)
            if lost := self._prolong_locks(entry, sessions, packs.held, just_put):
                return f"the replica has lost what it needs, {lost}: another run copies it again"
        self._workers.call(
            self._copier.head, self._source, entry.id, entry.digest, replace=self._stock.target_size(key) is not None
        )
        self._stock.put(key, entry.object_size)
        return None

    def _prolong_locks(
        self, entry: SnapshotEntry, sessions: dict[bytes, bytes], packs: Iterator[str], just_put: str | None
    ) -> str | None:
        """Lock what it needs and was there before as long as if it were put now; says what is not there any more."""
        target, at = self._target, self._target.at
        if target.sink.retention is None:
            return None
        needed = chain(
            (at.part_key(ref.part) for ref in in_pages(self._workers, parts_of(entry))),
            map(at.session_key, sessions),
            packs,
        )
        old = (key for key in needed if not self._stock.is_new(key))
        time = store_time(target.sink, just_put, self._workers) if just_put else datetime.now(UTC)
        keys = chain(foundations(target.log), old)
        return next(iter(prolong_locks(target.sink, self._cache, keys, self._workers, now=time)), None)

    def _layout(self, entry: SnapshotEntry) -> tuple[SegmentTable, dict[bytes, bytes]]:
        """The segment table, and the sessions with their digests. Raises `Malformed`."""
        sessions: dict[bytes, bytes] = {}

        def rows() -> Iterator[Row]:
            for section in layout_sections(entry):
                if section.kind is Kind.SESSIONS:
                    add_sessions(sessions, section)
                elif section.kind is Kind.TABLE:
                    yield from decode_rows(section.data)

        table = SegmentTable(rows())
        if not {entry.session, *(base.session for base in entry.head.bases)} <= sessions.keys():
            table.close()
            raise Malformed("it needs a session that it does not pin")
        return table, sessions

    def _part(self, ref: PartRef) -> None:
        key = self._source.at.part_key(ref.part)
        if self._stock.lacks(key, ref.size):
            self._copier.part(self._source, ref, replace=self._stock.target_size(key) is not None)
            self._stock.put(key, ref.size)

    def _session(self, one: tuple[bytes, bytes]) -> None:
        key = self._source.at.session_key(one[0])
        if self._stock.lacks(key):
            self._copier.session(self._source, *one, replace=self._stock.target_size(key) is not None)
            self._stock.put(key, self._stock.source_size(key) or 0)

    def _index(self, index: bytes) -> list[str]:
        """Copy an index object, without which every restore works; its key if it was deleted."""
        key = self._source.at.index_key(index)
        if not self._stock.lacks(key):
            return []
        if self._stock.source_size(key) is None and key in self._notices.deleted:
            return [key]
        try:
            self._workers.call(
                self._copier.index, self._source, index, replace=self._stock.target_size(key) is not None
            )
        except (DamagedObject, MissingObject) as error:
            self._on_damage(error)
        else:
            self._stock.put(key, self._stock.source_size(key) or 0)
        return []

    def _about_to_go(self, entry: SnapshotEntry, table: SegmentTable, sessions: dict[bytes, bytes]) -> str | None:
        """Why its head must wait: the replica's own prune has named something that it needs.

        Asked when all is there. A tombstone that is put later is swept a day later, after the heads are listed again.
        """
        parts = in_pages(self._workers, parts_of(entry))
        if is_about_to_go(self._target, self._workers, parts, sessions, (pack for pack, _ in table.used())):
            return "the replica is about to delete what it needs: a run after its prune copies it"
        return None

    def _in_order(self, said: Iterator[Said[T]]) -> list[Said[T]]:  # type: ignore[type-var]
        return sorted(said, key=lambda one: one.order)

    def _said(self, key: str, kind: type[Notice | Mark], signer: Callable[[bytes], VerifyingKey | None]) -> None:
        if not self._stock.lacks(key):
            return
        try:
            self._workers.call(self._copier.said, self._source, key, kind, signer)
        except (DamagedObject, MissingObject) as error:
            self._on_damage(error)

    def _say_written(self, head: tuple[bytes, bytes], modified: datetime | None) -> str | None:
        """Say when the original's store wrote it, unless that was said: the replica's own time is of the copying.

        The key of the mark, if it was put.
        """
        if modified is not None and head not in self._marks.written:
            time = as_text(modified)
            name = self._workers.call(marks.written, self._target, dict([head]), time)
            self._marks.written[head] = time
            return self._target.at.mark_key(name)
        return None

    def _explain_forgotten(self) -> None:
        """Record what the original forgot before it was copied: other heads name it, and nobody is to miss it."""
        at = self._target.at
        never_here = iter(
            sorted(
                head
                for head in self._notices.forgotten - self._own.forgotten
                if self._stock.target_size(at.snapshot_key(head[0])) is None
            )
        )
        while some := dict(islice(never_here, _RECORD)):
            self._workers.call(put_said, self._target, Deletion(now(), Action.FORGET, some))
            self._own.forgotten.update(some.items())
        gone = self._notices.given_up - self._own.given_up
        missing = {
            snapshot
            for snapshot in self._notices.missing - self._own.missing
            if self._stock.target_size(at.snapshot_key(snapshot)) is None
        }
        if gone or missing:
            self._workers.call(forget, self._target, {}, gone=gone, missing=missing)

    def _explain_gone(self, keys: list[str]) -> None:
        """Record that the original deleted these packs and index objects: others have what is needed of them."""
        new = [key for key in keys if key not in self._own.deleted]
        if not new:
            return
        at = self._target.at
        packs = tuple(layout.id_of(key) for key in new if key.startswith(at.packs))
        index = tuple(layout.id_of(key) for key in new if key.startswith(at.index))
        things = Things(packs=packs, index=index)
        self._workers.call(put_said, self._target, Deletion(now(), Action.DELETE, {}, things))
        self._own.deleted.update(new)
