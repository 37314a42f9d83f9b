"""Reading streams back: extents to segments, segments fetched ahead on threads, every byte verified on its way out."""

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby, islice
from types import TracebackType

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SnapshotNotFound
from penstock.format.encoding import Malformed
from penstock.format.ids import StreamDigest
from penstock.format.manifest import StreamRecord
from penstock.format.pack import MAGIC, MAX_SEGMENTS, SegmentId, open_segment
from penstock.format.part import PartRef
from penstock.format.recipe import Extent
from penstock.format.sealing import Sealer
from penstock.repository.budget import SEGMENT
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, RANGE, ReadBudget
from penstock.repository.read.content import PARTS_KEPT, Content
from penstock.repository.read.ends import PLACES_TAIL, read_end
from penstock.repository.read.listing import find_packs
from penstock.repository.read.once import Once
from penstock.repository.read.portions import PORTION_BYTES, Portion, portions
from penstock.repository.read.ranges import Ranges
from penstock.repository.read.segments import Buffers, PlacedPack, Segment
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.temporary import PackSizes

__all__ = ["SnapshotReader"]

#: How many segments reading ahead looks down the recipe for what lies together in a pack.
_LOOK = 64
#: Portions of a stream that may wait, however few segments they need.
_WINDOW = 256
#: Packs whose places are kept: some 200 bytes a segment.
_PLACES = 64
#: Data keys that are kept: one for each run whose segments the snapshot uses.
_SEALERS = 4096
#: Missing packs that an error names.
_NAMED = 20


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
        self._places: Once[bytes, PlacedPack] = Once(self._read_places, kept=_PLACES)
        #: Sizes of packs, as far as `require` has met them.
        self._sizes = PackSizes()
        self._ranges = Ranges(domain.sink, self._budget.ranges)
        self._buffers = Buffers(self._budget.ahead * SEGMENT)
        self.segments_read = 0
        self._workers = Workers(self._budget.requests, "penstock-fetch", domain.sink.stop)
        try:
            self._content = self._workers.call(Content, entry, lambda *session: self._sealers(session))
        except BaseException:
            self._workers.abandon()
            raise
        self.manifest = self._content.manifest

    def __enter__(self) -> "SnapshotReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, traceback)
        self._sizes.close()
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

        Nothing is read of the packs but, where a session is lost and not all streams are wanted, their ends.
        Raises `MissingObject` or `DamagedObject`.
        """
        self._require_parts(records)
        packs = self._sizes = PackSizes()
        self._workers.call(lambda: packs.add(self._packs_of(records)))
        find_packs(self._workers, self._domain, packs)
        if gone := list(islice(packs.missing(), _NAMED)):
            keys = list(map(self._domain.at.pack_key, gone))
            raise MissingObject(
                keys[0],
                "the pack is gone",
                hint="Run penstock check to see what is lost, and restore other streams or another snapshot.",
                details=tuple(f"{key}: the pack is gone" for key in keys[1:]),
            )
        lost = {
            session: error
            for session, error in self._workers.map(self._session_problem, self._content.sessions)
            if error is not None
        }
        # Another stream of the snapshot may be the only one that needs a lost session.
        needed = self._sessions_of(packs) if lost and len(records) < len(self.manifest.streams) else lost.keys()
        for session, error in lost.items():
            if session in needed:
                raise error

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

    def _packs_of(self, records: Sequence[StreamRecord]) -> Iterator[bytes]:
        """The packs that these streams need, some of them more than once."""
        if len(records) == len(self.manifest.streams):
            yield from (pack for pack, _ in self._content.table.used())
            return
        try:
            for record in records:
                each = (_segment(self._content, extent).pack for extent in self._content.extents(record))
                yield from (pack for pack, _ in groupby(each))
        except Malformed as error:
            raise self._damaged(error) from None

    def _session_problem(self, session: bytes) -> tuple[bytes, DamagedObject | MissingObject | None]:
        try:
            self._content.sealer(session)
        except (DamagedObject, MissingObject) as error:
            return session, error
        return session, None

    def _sessions_of(self, packs: Iterable[bytes]) -> set[bytes]:
        sessions: set[bytes] = set()
        for placed in self._workers.map(self._places, packs):
            sessions |= placed.sessions
        return sessions

    def blocks(self, record: StreamRecord) -> Iterator[memoryview]:
        """The bytes of a stream, in order; each block is valid until the next is asked for.

        Raises `DamagedObject` or `MissingObject` as soon as something is not what was written, and at the end when the
        whole is not: only after the iteration has ended is the stream known to be complete.
        """
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
        held = _Held(self._workers, self._buffers, self._budget.opened)
        # Used again and again: fresh memory costs more than what is copied into it.
        room = memoryview(bytearray(PORTION_BYTES))
        try:
            for portion in self._ahead(record, held):
                views = {number: held.use(number).data for number in portion.needs}
                # One piece is given out as it is; to wait, it would keep a whole segment in memory.
                block, at = room, 0
                if len(portion.extents) == 1:
                    ((number, start, end),) = portion.extents
                    block = views[number][start:end]
                    at = len(block)
                else:
                    for number, start, end in portion.extents:
                        piece = views[number][start:end]
                        room[at : at + len(piece)] = piece
                        at += len(piece)
                if at != portion.size:
                    raise Malformed(f"the recipe of {record.name} asks for bytes that its segment does not have")
                yield block[:at]
                held.used(portion.needs)
        finally:
            held.end()

    def _ahead(self, record: StreamRecord, held: "_Held") -> Iterator[Portion]:
        """Each portion of a stream, whose segments were asked for a while before its turn came."""
        coming = _Coming(portions(self._content.cuts(record), self._budget.opened // SEGMENT))
        window: deque[Portion] = deque()
        while True:
            while len(window) < _WINDOW:
                if coming.needs_more:
                    self._workers.call(coming.look)
                following = coming.following
                if following is None or (window and not held.has_room(following.needs, self._budget.ahead)):
                    break
                for segment in held.want(following.needs):
                    held.add(segment, self._workers.submit(self._fetch, segment, coming.segments()))
                    self.segments_read += 1
                window.append(coming.take())
            if not window:
                return
            yield window.popleft()

    def _fetch(self, number: int, coming: Collection[int]) -> Segment:
        """Read, verify and open one segment; on a thread of the pool. `coming` are those that are wanted soon."""
        find = self._content.table.find
        segment = find(number)
        placed = self._places(segment.pack)
        place = placed.find(segment)
        key = self._domain.at.pack_key(segment.pack)
        # The first segment is read with the mark in front of it, so that every byte in use is verified.
        margin = len(MAGIC) if place.offset == len(MAGIC) else 0
        # Those of the same row are in the same pack.
        row = number // MAX_SEGMENTS
        beside = {find(one) for one in coming if one // MAX_SEGMENTS == row}
        stop = placed.end_of_run(segment, beside, RANGE)
        try:
            read = self._ranges.read(key, place.offset - margin, place.offset + place.sealed_length, stop)
        except ObjectMissing:
            raise MissingObject(key, "the pack is gone") from None
        try:
            sealed = read[margin:]
            if read[:margin] != MAGIC[:margin]:
                raise Malformed("not a pack: wrong magic bytes")
            if blake3(sealed).digest() != place.digest:
                raise Malformed("not the bytes that the snapshot pins")
            data = open_segment(sealed, self._content.sealer(place.session), self._domain.scope, segment)
            if len(data) != place.plain_length:
                raise Malformed("it has another length than was recorded for it")
        except Malformed as error:
            raise DamagedObject(key, f"segment {segment.ordinal}: {error}") from None
        return self._buffers.filled(data)

    def _read_places(self, pack: bytes) -> PlacedPack:
        key = self._domain.at.pack_key(pack)
        size = self._sizes.size(pack)
        if size is None:
            try:
                size = self._domain.sink.stat(key).size
            except ObjectMissing:
                raise MissingObject(key, "the pack is gone") from None
        end = read_end(self._domain, pack, size, PLACES_TAIL, with_ids=False)
        if (end.pin, len(end.places.places)) != self._content.table.pin(pack):
            raise DamagedObject(key, "not the pack that the snapshot pins")
        return PlacedPack(end.places, key)


def _segment(content: Content, extent: Extent) -> SegmentId:
    assert extent.segment is not None
    return content.table.find(extent.segment)


class _Held:
    """Segments by their numbers: those that are wanted, and of the others those that were used last.

    All together have `limit` bytes at most, or what the portion in use needs; one that was only asked for counts as a
    large one.
    """

    def __init__(self, workers: Workers, buffers: Buffers, limit: int) -> None:
        self._workers = workers
        self._buffers = buffers
        self._limit = limit
        #: How many portions wait for each.
        self._waiting: dict[int, int] = {}
        self._coming: dict[int, Future[Segment]] = {}
        self._there: dict[int, Segment] = {}
        #: Those that nobody waits for, the latest to be used last.
        self._idle: OrderedDict[int, Segment] = OrderedDict()
        #: Bytes of those that are wanted, and of the others.
        self._wanted_size = self._idle_size = 0

    def has_room(self, numbers: Iterable[int], ahead: int) -> bool:
        """Whether these can be wanted as well, without asking for more than `ahead` at once."""
        new = [number for number in numbers if number not in self._waiting]
        missing = sum(number not in self._idle for number in new)
        size = sum(len(self._idle[number].buffer) if number in self._idle else SEGMENT for number in new)
        return len(self._coming) + missing <= ahead and self._wanted_size + size <= self._limit

    def want(self, numbers: Iterable[int]) -> list[int]:
        """A portion waits for these segments; gives those that have to be asked for."""
        missing = []
        for number in numbers:
            count = self._waiting.get(number, 0)
            self._waiting[number] = count + 1
            if count:
                continue
            idle = self._idle.pop(number, None)
            if idle is None:
                missing.append(number)
            else:
                self._idle_size -= len(idle.buffer)
                self._wanted_size += len(idle.buffer)
        return missing

    def add(self, number: int, future: Future[Segment]) -> None:
        """It was asked for."""
        self._coming[number] = future
        self._wanted_size += SEGMENT
        self._make_room()

    def use(self, number: int) -> Segment:
        """The segment; raises what came of asking for it."""
        segment = self._there.get(number)
        if segment is None:
            segment = self._workers.result(self._coming[number])
            self._there[number] = segment
            del self._coming[number]
            self._wanted_size += len(segment.buffer) - SEGMENT
        return segment

    def used(self, numbers: Iterable[int]) -> None:
        """A portion waits for these no more."""
        for number in numbers:
            left = self._waiting[number] - 1
            if left:
                self._waiting[number] = left
                continue
            del self._waiting[number]
            segment = self._idle[number] = self._there[number]
            self._wanted_size -= len(segment.buffer)
            self._idle_size += len(segment.buffer)
        self._make_room()

    def _make_room(self) -> None:
        while self._idle and self._wanted_size + self._idle_size > self._limit:
            number, oldest = self._idle.popitem(last=False)
            del self._there[number]
            self._idle_size -= len(oldest.buffer)
            self._buffers.give_back(oldest)

    def end(self) -> None:
        """Nothing is wanted any more."""
        for future in self._coming.values():
            future.cancel()
        for segment in self._there.values():
            self._buffers.give_back(segment)


class _Coming:
    """The portions that come next, as far ahead as it is worthwhile to look."""

    def __init__(self, each: Iterator[Portion]) -> None:
        self._each = each
        self._ahead: deque[Portion] = deque()
        self._segments: Counter[int] = Counter()
        self._ended = False

    @property
    def needs_more(self) -> bool:
        """Whether `look` should be called first, which may have to read."""
        return len(self._ahead) < _WINDOW // 2 and len(self._segments) < _LOOK // 2 and not self._ended

    def look(self) -> None:
        """Look as far ahead as it is worthwhile."""
        ahead, segments = self._ahead, self._segments
        for portion in self._each:
            ahead.append(portion)
            segments.update(portion.needs)
            if len(ahead) >= _WINDOW or len(segments) >= _LOOK:
                return
        self._ended = True

    @property
    def following(self) -> Portion | None:
        """The next one; None at the end."""
        return self._ahead[0] if self._ahead else None

    def take(self) -> Portion:
        """The same, once."""
        portion = self._ahead.popleft()
        for segment in portion.needs:
            self._segments[segment] -= 1
            if not self._segments[segment]:
                del self._segments[segment]
        return portion

    def segments(self) -> frozenset[int]:
        """The numbers of the segments of the portions that were looked at, and not taken yet."""
        return frozenset(self._segments)
