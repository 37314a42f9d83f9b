"""Reading streams back: extents to segments, segments fetched ahead on threads, every byte verified on its way out."""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from threading import Lock
from types import TracebackType

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SnapshotNotFound
from penstock.format.encoding import Malformed
from penstock.format.ids import StreamDigest
from penstock.format.pack import MAGIC, SegmentId, open_segment
from penstock.format.recipe import Extent, decode_recipe
from penstock.format.sealing import Sealer
from penstock.format.snapshot import StreamRecord
from penstock.repository import layout
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, RANGE, ReadBudget
from penstock.repository.read.directories import read_pack_end
from penstock.repository.read.listing import find_packs
from penstock.repository.read.once import Once
from penstock.repository.read.ranges import Ranges
from penstock.repository.read.segments import Buffers, PlacedPack, Segment
from penstock.repository.repository import Repository
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import SnapshotEntry, open_manifest

__all__ = ["SnapshotReader"]

#: How far down the snapshot's table of segments, which is in the order of their first use, reading ahead looks.
_LOOK = 64
#: Scattered changes make extents of few bytes: they are joined until a block has so many.
_BLOCK = 256 * 1024
#: Extents that may wait in the window, however few segments they need.
_WINDOW = 4096
#: Directories kept without their ids: some 2 bytes a chunk.
_DIRECTORIES = 64
#: Data keys that are kept: one for each run whose segments the snapshot uses.
_SEALERS = 4096
#: Missing packs that an error names.
_NAMED = 20


class SnapshotReader:
    """Reads the streams of one snapshot. Needs the owner's access. Use as a context manager; `blocks` by one thread.

    Its buffers take `memory` bytes at most. Every wait ends with `Interrupted` as soon as the sink's `stop` stops;
    requests that hang are abandoned then.
    """

    def __init__(self, repository: Repository, entry: SnapshotEntry, memory: int = DEFAULT_MEMORY) -> None:
        self._repository = repository
        self._entry = entry
        self._budget = ReadBudget.of(memory, repository.sink.connections)
        self._table = entry.catalogue.segments
        self._sealers: Once[bytes, Sealer] = Once(lambda session: data_sealer(repository, session), kept=_SEALERS)
        self._directories: Once[bytes, PlacedPack] = Once(self._read_directory, kept=_DIRECTORIES)
        #: Sizes of packs, in bytes, as far as `require` has met them.
        self._sizes: dict[bytes, int] = {}
        self._ranges = Ranges(repository.sink, self._budget.ranges)
        self._lock = Lock()
        #: The last segment of the table that a thread has begun to read, and those about it that were read.
        self._reached = -1
        self._read: set[int] = set()
        self._buffers = Buffers()
        self.segments_read = 0
        self._workers = Workers(self._budget.requests, "penstock-fetch", repository.sink.stop)
        try:
            self.manifest = self._workers.call(open_manifest, repository, entry)
        except BaseException:
            self._workers.abandon()
            raise

    def __enter__(self) -> "SnapshotReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, traceback)

    def stream(self, name: str) -> StreamRecord:
        """The stream of that name; raises `SnapshotNotFound`, which names the streams of the snapshot."""
        for record in self.manifest.streams:
            if record.name == name:
                return record
        known = ", ".join(record.name for record in self.manifest.streams)
        raise SnapshotNotFound(f"the snapshot has no stream {name!r}", hint=f"Choose one of: {known}.")

    def require(self, records: Sequence[StreamRecord]) -> None:
        """See that what these streams need is there: their packs, and the sessions with the keys of their segments.

        Nothing is read of the packs but, where a session is lost and not all streams are wanted, directories.
        Raises `MissingObject` or `DamagedObject`.
        """
        packs = self._packs_of(records)
        sizes, gone = find_packs(self._workers, self._repository.sink, packs)
        self._sizes.update(sizes)
        if gone:
            keys = sorted(map(layout.pack_key, gone))
            raise MissingObject(
                keys[0],
                "the pack is gone",
                hint="Run penstock check to see what is lost, and restore other streams or another snapshot.",
                details=tuple(f"{key}: the pack is gone" for key in keys[1:_NAMED]),
            )
        lost = {
            session: error
            for session, error in self._workers.map(self._session_problem, self._entry.catalogue.sessions)
            if error is not None
        }
        # Another stream of the snapshot may be the only one that needs a lost session.
        needed = self._sessions_of(packs) if lost and len(records) < len(self.manifest.streams) else lost.keys()
        for session, error in lost.items():
            if session in needed:
                raise error

    def _packs_of(self, records: Sequence[StreamRecord]) -> set[bytes]:
        if len(records) == len(self.manifest.streams):
            return {segment.pack for segment in self._table}
        packs = set()
        try:
            for record in records:
                packs |= {self._segment(extent.segment).pack for extent in decode_recipe(record.recipe)}
        except Malformed as error:
            raise DamagedObject(layout.snapshot_key(self._entry.id), str(error)) from None
        return packs

    def _session_problem(self, session: bytes) -> tuple[bytes, DamagedObject | MissingObject | None]:
        try:
            self._sealers(session)
        except (DamagedObject, MissingObject) as error:
            return session, error
        return session, None

    def _sessions_of(self, packs: Collection[bytes]) -> set[bytes]:
        sessions: set[bytes] = set()
        for placed in self._workers.map(self._directories, sorted(packs)):
            sessions |= placed.sessions
        return sessions

    def blocks(self, record: StreamRecord) -> Iterator[memoryview]:
        """The bytes of a stream, in order; each block is valid until the next is asked for.

        Raises `DamagedObject` or `MissingObject` as soon as something is not what was written, and at the end when the
        whole is not: only after the iteration has ended is the stream known to be complete.
        """
        digest = StreamDigest()
        size = 0
        with self._lock:
            self._reached = -1
            self._read = set()
        try:
            for block in _joined(self._pieces(record)):
                digest.update(block)
                size += len(block)
                yield block
            if size != record.size or digest.digest() != record.digest:
                raise Malformed(f"the stream {record.name} does not have the digest that was recorded for it")
        except Malformed as error:
            raise DamagedObject(layout.snapshot_key(self._entry.id), str(error)) from None

    def _pieces(self, record: StreamRecord) -> Iterator[memoryview]:
        """The bytes of a stream, an extent at a time."""
        for extent, future in self._ahead(decode_recipe(record.recipe)):
            segment = self._workers.result(future)
            end = extent.first + extent.chunks
            if end >= len(segment.starts):
                raise Malformed(f"the recipe of {record.name} asks for chunks that its segment does not have")
            yield segment.data[segment.starts[extent.first] : segment.starts[end]]

    def _ahead(self, extents: Iterator[Extent]) -> Iterator[tuple[Extent, Future[Segment]]]:
        """Each extent with its segment, which was asked for a while before its turn came."""
        window: deque[Extent] = deque()
        waiting: dict[int, int] = {}
        held: OrderedDict[int, Future[Segment]] = OrderedDict()
        exhausted = False
        try:
            while True:
                while not exhausted and len(window) < _WINDOW and len(waiting) <= self._budget.ahead:
                    extent = next(extents, None)
                    if extent is None:
                        exhausted = True
                        break
                    if extent.segment not in held:
                        held[extent.segment] = self._workers.submit(self._fetch, extent.segment)
                        self.segments_read += 1
                    held.move_to_end(extent.segment)
                    waiting[extent.segment] = waiting.get(extent.segment, 0) + 1
                    window.append(extent)
                if not window:
                    break
                extent = window.popleft()
                yield extent, held[extent.segment]
                waiting[extent.segment] -= 1
                if not waiting[extent.segment]:
                    del waiting[extent.segment]
                if len(held) > self._budget.kept + len(waiting):
                    self._buffers.give_back(held.pop(next(number for number in held if number not in waiting)).result())
            while held:
                self._buffers.give_back(held.popitem()[1].result())
        finally:
            for future in held.values():
                future.cancel()

    def _segment(self, number: int) -> SegmentId:
        if number >= len(self._table):
            raise Malformed("a recipe asks for a segment that the snapshot does not list")
        return self._table[number]

    def _fetch(self, number: int) -> Segment:
        """Read, open and index one segment; on a thread of the pool."""
        segment = self._segment(number)
        placed = self._directories(segment.pack)
        place, lengths = placed.find(segment)
        key = layout.pack_key(segment.pack)
        # The first segment is read with the mark in front of it, so that every byte in use is verified.
        margin = len(MAGIC) if place.offset == len(MAGIC) else 0
        stop = placed.end_of_run(segment, self._coming(number), RANGE)
        try:
            read = self._ranges.read(key, place.offset - margin, place.offset + place.sealed_length, stop)
        except ObjectMissing:
            raise MissingObject(key, "the pack is gone") from None
        self._note_read(number)
        try:
            if read[:margin] != MAGIC[:margin]:
                raise Malformed("not a pack: wrong magic bytes")
            data = open_segment(read[margin:], self._sealers(place.session), self._repository.id, segment)
            if len(data) != place.plain_length:
                raise Malformed("it has another length than its directory says")
        except Malformed as error:
            raise DamagedObject(key, f"segment {segment.ordinal}: {error}") from None
        return self._buffers.filled(data, lengths)

    def _coming(self, number: int) -> set[SegmentId]:
        """The segments that will be wanted soon, and were not read yet."""
        with self._lock:
            self._reached = max(self._reached, number)
            first, end = max(number, self._passed) + 1, min(number + _LOOK, len(self._table))
            return {self._table[one] for one in range(first, end) if one not in self._read}

    def _note_read(self, number: int) -> None:
        with self._lock:
            self._read.add(number)
            if len(self._read) > 2 * _LOOK:
                self._read = {one for one in self._read if one > self._passed}

    @property
    def _passed(self) -> int:
        """All segments of the table up to here were asked for, if the stream needs them."""
        return self._reached - self._budget.ahead

    def _read_directory(self, pack: bytes) -> PlacedPack:
        directory, _ = read_pack_end(self._repository, pack, self._sizes.get(pack))
        return PlacedPack(directory)


def _joined(pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    """The same bytes in blocks that are worthwhile to hash and to write."""
    block = bytearray()
    for piece in pieces:
        if not block and len(piece) >= _BLOCK:
            yield piece
            continue
        # Copied at once: a piece keeps the whole of its segment in memory.
        block += piece
        if len(block) >= _BLOCK:
            yield memoryview(block)
            block = bytearray()
    if block:
        yield memoryview(block)
