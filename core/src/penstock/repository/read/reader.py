"""Reading streams back: extents to segments, segments fetched ahead on threads, every byte verified on its way out."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial, reduce
from itertools import groupby
from operator import attrgetter, or_
from types import TracebackType

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SnapshotNotFound
from penstock.format.encoding import Malformed
from penstock.format.ids import StreamDigest
from penstock.format.manifest import StreamRecord
from penstock.format.pack import MAX_SEGMENTS, SegmentId, open_segment
from penstock.format.part import PartRef
from penstock.format.recipe import Extent
from penstock.format.sealing import Sealer
from penstock.repository.budget import SEGMENT
from penstock.repository.pool import Workers
from penstock.repository.read.ahead import WINDOW, Coming, Held
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.read.content import PARTS_KEPT, Content
from penstock.repository.read.copies import Copies, Unreadable
from penstock.repository.read.listing import find_packs
from penstock.repository.read.once import Once
from penstock.repository.read.portions import Portion, portions
from penstock.repository.read.sealed import SealedSegments
from penstock.repository.read.segments import Buffers, Segment
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.temporary import PackSegments, PackSizes

__all__ = ["SnapshotReader"]

#: Data keys that are kept: one for each run whose segments the snapshot uses.
_SEALERS = 4096
#: Missing packs, or lost streams, that an error names.
_NAMED = 20
_CHOOSE = "Run penstock check to see what is lost, and restore other streams or another snapshot."


class SnapshotReader:
    """Reads the streams of one snapshot. Needs the owner's access. Use as a context manager; `blocks` by one thread.

    Its buffers take `memory` bytes at most. Nothing is given out that the snapshot's head does not pin. Every wait ends
    with `Interrupted` as soon as the sink's `stop` stops; requests that hang are abandoned then.
    """

    def __init__(self, entry: SnapshotEntry, memory: int = DEFAULT_MEMORY) -> None:
        self._domain = domain = entry.domain
        self._entry = entry
        self._budget = ReadBudget.of(memory, domain.sink.connections)
        self._sealers: Once[tuple[bytes, bytes], Sealer] = Once(lambda one: data_sealer(domain, *one), kept=_SEALERS)
        self._buffers = Buffers(self._budget.ahead * SEGMENT)
        self.segments_read = 0
        self._workers = Workers(self._budget.requests, "penstock-fetch", domain.sink.stop)
        try:
            self._content = self._workers.call(Content, entry, lambda *session: self._sealers(session))
        except BaseException:
            self._workers.abandon()
            raise
        self.manifest = self._content.manifest
        pin = self._content.table.pin
        self._sealed = SealedSegments(domain, Copies(domain, self._workers, pin), pin, self._budget.ranges)
        #: Streams share segments, those of a backup of many small ones nearly all.
        self._held = Held(self._opened, self._buffers, self._budget.opened)
        #: The streams that were begun in this pass.
        self._begun: set[str] = set()

    def __enter__(self) -> "SnapshotReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # First, for the pool waits for what was asked for.
        self._held.end()
        self._workers.__exit__(kind, error, traceback)
        self._sealed.close()
        self._content.table.close()

    def stream(self, name: str) -> StreamRecord:
        """The stream of that name; raises `SnapshotNotFound`, which names the streams of the snapshot."""
        for record in self.manifest.streams:
            if record.name == name:
                return record
        known = ", ".join(record.name for record in self.manifest.streams)
        raise SnapshotNotFound(f"the snapshot has no stream {name!r}", hint=f"Choose one of: {known}.")

    def require(self, records: Sequence[StreamRecord]) -> None:
        """See that what these streams need is there: parts with recipes, packs, sessions with the keys of segments.

        A pack that is gone is not missed if copies of all segments that they need of it are in other packs. Nothing is
        read of packs but, where one is gone, or a session, their ends. Raises `MissingObject` or `DamagedObject`; where
        a session is gone, it names each of the streams that is lost with it.
        """
        self._require_sessions(records)
        self._require_parts(records)
        packs = self._sealed.sizes = PackSizes()
        self._workers.call(lambda: packs.add(pack for pack, _ in self._needed_of(records)))
        find_packs(self._workers, self._domain, packs)
        if next(packs.missing(), None) is not None and (lost := self._lost(packs, records)):
            keys = list(map(self._domain.at.pack_key, lost))
            raise MissingObject(
                keys[0],
                "the pack is gone",
                hint=_CHOOSE,
                details=tuple(f"{key}: the pack is gone" for key in keys[1:]),
            )

    def _require_sessions(self, records: Sequence[StreamRecord]) -> None:
        """Which streams need a session that is lost, their recipes and the ends of their packs tell."""
        problems = {
            session: error
            for session, error in self._workers.map(self._session_problem, self._content.sessions)
            if error is not None
        }
        if not problems:
            return
        lost = {record.name: self._lost_with(record, problems) for record in records}
        found = [(name, error) for name, error in lost.items() if error is not None]
        if found:
            _, first = found[0]
            names = tuple(f"{name}: {error}" for name, error in found[:_NAMED])
            more = (f"and {len(found) - _NAMED} more streams",) if len(found) > _NAMED else ()
            raise type(first)(
                first.key,
                f"{first.reason}; of {len(records)} streams that are wanted, {len(found)} need what is lost",
                hint=_CHOOSE,
                details=names + more,
            )

    def _lost_with(
        self, record: StreamRecord, problems: Mapping[bytes, DamagedObject | MissingObject]
    ) -> DamagedObject | MissingObject | None:
        """Why a stream cannot be read without these sessions; None if it needs none of them."""
        try:
            for session in sorted(problems.keys() & self._content.recipe_sessions(record)):
                return problems[session]
            with closing(PackSizes()) as packs:
                self._workers.call(lambda: packs.add(pack for pack, _ in self._needed_of([record])))
                for session in sorted(problems.keys() & self._sessions_of(packs)):
                    return problems[session]
        except (DamagedObject, MissingObject) as error:
            return error
        except Malformed as error:
            return self._damaged(error)
        return None

    def _require_parts(self, records: Sequence[StreamRecord]) -> None:
        try:
            parts: dict[tuple[int, int], PartRef] = {}
            for record in records:
                parts |= self._content.recipe_parts(record)
            if len(parts) < PARTS_KEPT:
                # They will be read anyway, and are kept until then.
                for layer, number in parts:
                    self._workers.call(self._content.part, layer, number)
                return
        except Malformed as error:
            raise self._damaged(error) from None
        for problem in self._workers.map(self._part_problem, sorted(parts.values(), key=lambda ref: ref.part)):
            if problem is not None:
                raise problem

    def _part_problem(self, ref: PartRef) -> DamagedObject | MissingObject | None:
        key = self._domain.at.part_key(ref.part)
        try:
            size = self._domain.sink.stat(key).size
        except ObjectMissing:
            return MissingObject(key, "gone: a stream's recipe is in it")
        return None if size == ref.size else DamagedObject(key, "not the bytes that the snapshot pins")

    def _lost(self, packs: PackSizes, records: Sequence[StreamRecord]) -> list[bytes]:
        """The packs that are gone, and segments of them that these streams need with them: the first of these packs."""
        with closing(PackSegments()) as needed:
            gone = ((pack, used) for pack, used in self._needed_of(records) if packs.size(pack) is None)
            self._workers.call(needed.add, gone)
            return self._sealed.copies.lost(needed, _NAMED)

    def _needed_of(self, records: Sequence[StreamRecord]) -> Iterator[tuple[bytes, int]]:
        """The packs that these streams need, with a bit for each needed segment; some of them more than once."""
        if len(records) == len(self.manifest.streams):
            yield from self._content.table.used()
            return
        try:
            for record in records:
                each = (_segment(self._content, extent) for extent in self._content.extents(record))
                for pack, run in groupby(each, key=attrgetter("pack")):
                    yield pack, reduce(or_, (1 << segment.ordinal for segment in run))
        except Malformed as error:
            raise self._damaged(error) from None

    def _session_problem(self, session: bytes) -> tuple[bytes, DamagedObject | MissingObject | None]:
        try:
            self._content.sealer(session)
        except (DamagedObject, MissingObject) as error:
            return session, error
        return session, None

    def _sessions_of(self, packs: Iterable[bytes]) -> set[bytes]:
        sealed = self._sealed

        def look(pack: bytes) -> tuple[bytes, set[bytes] | None]:
            try:
                return pack, sealed.sessions(pack)
            except Unreadable:
                return pack, None

        sessions: set[bytes] = set()
        for pack, found in self._workers.map(look, packs):
            sessions |= found or sealed.copies.persist(partial(self._workers.submit, sealed.sessions, pack))
        return sessions

    def blocks(self, record: StreamRecord) -> Iterator[memoryview]:
        """The bytes of a stream, in order; each block is valid until the next is asked for or the iterator is closed.

        Segments stay for the streams that follow, as far as there is memory. Whoever asks for a stream again begins a
        new pass, which reads everything again: what counts is what the repository has then. Streams may be read by
        turns, or left half-way: until its iterator is closed or collected, a stream keeps what was read ahead for it,
        and each other one still gets room for its next portion, beyond the limit if need be.

        Raises `DamagedObject` or `MissingObject` as soon as something is not what was written, and at the end when the
        whole is not: only after the iteration has ended is the stream known to be complete.
        """
        if record.name in self._begun:
            self._begun.clear()
            self._held.forget()
        self._begun.add(record.name)
        digest = StreamDigest()
        size = 0
        try:
            for block in self._pieces(record):
                digest.update(block)
                size += len(block)
                yield block
            if size != record.size or digest.digest() != record.digest:
                raise Malformed(f"the stream {record.name} does not have the digest that was recorded for it")
        except Malformed as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Malformed) -> DamagedObject:
        return DamagedObject(self._domain.at.snapshot_key(self._entry.id), str(error))

    def _pieces(self, record: StreamRecord) -> Iterator[memoryview]:
        """The bytes of a stream, a portion at a time."""
        #: Portions whose segments were asked for; the one in use is the first.
        waiting: deque[Portion] = deque()
        try:
            for portion in self._ahead(record, waiting):
                block = portion.of({number: self._held.use(number).data for number in portion.needs})
                if len(block) != portion.size:
                    raise Malformed(f"the recipe of {record.name} asks for bytes that its segment does not have")
                yield memoryview(block)
                self._held.used(waiting.popleft().needs)
        finally:
            self._held.leave(portion.needs for portion in waiting)

    def _ahead(self, record: StreamRecord, waiting: deque[Portion]) -> Iterator[Portion]:
        """Each portion of a stream, whose segments were asked for a while before its turn came.

        `waiting` has those that were not given yet, and the one that was given until it is taken out.
        """
        held = self._held
        # Three quarters, so that what stays for the next portion has room beside one whose segments are not known yet.
        coming = Coming(portions(self._content.cuts(record), self._budget.opened * 3 // 4, held.known))
        while True:
            while len(waiting) < WINDOW:
                if coming.needs_more(waiting=bool(waiting)):
                    self._workers.call(coming.look)
                following = coming.following
                if following is None or (waiting and not held.has_room(following.needs, self._budget.ahead)):
                    break
                missing = held.want(following.needs)
                waiting.append(following)
                for segment in missing:
                    held.add(segment, self._workers.submit(self._fetch, segment, coming.segments()))
                    self.segments_read += 1
                coming.take()
            if not waiting:
                return
            yield waiting[0]

    def _fetch(self, number: int, coming: Collection[int]) -> Segment:
        """Read, verify and open one segment; on a thread of the pool. `coming` are those that are wanted soon.

        Raises `Unreadable`, and what the session of the segment raises.
        """
        find = self._content.table.find
        segment = find(number)
        # Those of the same row are in the same pack.
        row = number // MAX_SEGMENTS
        beside = {find(one) for one in coming if one // MAX_SEGMENTS == row}
        found = self._sealed.read(segment, beside)
        try:
            data = open_segment(found.data, self._content.sealer(found.session), self._domain.scope, segment)
            if len(data) != found.plain_length:
                raise Malformed("it has another length than was recorded for it")
        except Malformed as error:
            raise DamagedObject(found.key, f"segment {segment.ordinal}: {error}") from None
        return self._buffers.filled(data)

    def _opened(self, number: int, future: "Future[Segment]") -> Segment:
        """What `_fetch` gives in the end."""
        first = [future]
        return self._sealed.copies.persist(
            lambda: first.pop() if first else self._workers.submit(self._fetch, number, ())
        )


def _segment(content: Content, extent: Extent) -> SegmentId:
    assert extent.segment is not None
    return content.table.find(extent.segment)
