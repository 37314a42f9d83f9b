"""Reading streams back: extents to segments, segments fetched ahead on threads, every byte verified on its way out."""

from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from mmap import mmap
from threading import Lock

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SnapshotNotFound
from penstock.format.encoding import Malformed
from penstock.format.ids import StreamDigest
from penstock.format.pack import MAGIC, Directory, SegmentId, SegmentPlace, open_segment
from penstock.format.recipe import Extent, decode_recipe
from penstock.format.sealing import Sealer
from penstock.format.snapshot import StreamRecord
from penstock.repository import layout
from penstock.repository.budget import SEGMENT, new_buffer
from penstock.repository.read.directories import read_pack_end
from penstock.repository.read.ranges import RANGE, Ranges
from penstock.repository.repository import Repository
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import SnapshotEntry, open_manifest

__all__ = ["SnapshotReader"]

_THREADS = 2
#: Segments that are kept after their use: scattered changes come back to the same ones.
_KEPT = 16
#: Segments under way ahead of the one in use.
_AHEAD = 6
#: How far down the snapshot's table of segments, which is in the order of their first use, reading ahead looks.
_LOOK = 64
#: Scattered changes make extents of few bytes: they are joined until a block has so many.
_BLOCK = 256 * 1024
#: Extents that may wait in the window, however few segments they need.
_WINDOW = 4096
#: Directories kept without their ids: some 2 bytes a chunk.
_DIRECTORIES = 64


class _Segment:
    """One opened segment: its bytes, in a buffer that goes round, and where each chunk begins."""

    __slots__ = ("buffer", "data", "starts")

    def __init__(self, buffer: mmap, size: int, lengths: Iterable[int]) -> None:
        self.buffer = buffer
        self.data = memoryview(buffer)[:size]
        self.starts = list(accumulate(lengths, initial=0))


class _Buffers:
    """Buffers for opened segments, each made when it is first needed, and used again.

    Segments live until others push them out. In memory of malloc's, with all that is fetched and opened between them,
    they would leave holes, more and more of them the longer a restore takes.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._free: list[mmap] = []

    def filled(self, data: bytes, lengths: Iterable[int]) -> _Segment:
        """The segment, its bytes copied into a buffer."""
        with self._lock:
            buffer = self._free.pop() if self._free and len(data) <= SEGMENT else None
        buffer = buffer or new_buffer(max(SEGMENT, len(data)))
        buffer[: len(data)] = data
        return _Segment(buffer, len(data), lengths)

    def give_back(self, segment: _Segment) -> None:
        """Nobody uses the segment any more."""
        if len(segment.buffer) == SEGMENT:
            with self._lock:
                self._free.append(segment.buffer)


class _PlacedPack:
    """A pack's directory without its ids: places of segments by ordinal, and lengths of chunks."""

    __slots__ = ("_lengths", "_places", "_segments")

    def __init__(self, directory: Directory) -> None:
        self._lengths = directory.lengths
        self._segments = directory.segments
        self._places: dict[SegmentId, tuple[int, int]] = {}
        start = 0
        for number, place in enumerate(directory.segments):
            self._places[place.id] = (number, start)
            start += place.chunks

    def find(self, segment: SegmentId) -> tuple[SegmentPlace, Iterable[int]]:
        """Where the segment is, and its chunks' lengths; raises `MissingObject`."""
        found = self._places.get(segment)
        if found is None:
            raise MissingObject(layout.pack_key(segment.pack), f"segment {segment.ordinal} is not in it")
        number, start = found
        place = self._segments[number]
        return place, self._lengths[start : start + place.chunks]

    def end_of_run(self, segment: SegmentId, wanted: Container[SegmentId], most: int) -> int:
        """Where those end that follow `segment` in the pack and are wanted, `most` bytes from its start at most."""
        number, _ = self._places[segment]
        first = self._segments[number]
        end = first.offset + first.sealed_length
        for place in self._segments[number + 1 :]:
            if place.id not in wanted or place.offset + place.sealed_length - first.offset > most:
                break
            end = place.offset + place.sealed_length
        return end


class SnapshotReader:
    """Reads the streams of one snapshot. Needs the owner's access. Use as a context manager; `blocks` by one thread."""

    def __init__(self, repository: Repository, entry: SnapshotEntry) -> None:
        self._repository = repository
        self._entry = entry
        self.manifest = open_manifest(repository, entry)
        self._table = entry.catalogue.segments
        self._sealers: dict[bytes, Sealer] = {}
        self._directories: OrderedDict[bytes, _PlacedPack] = OrderedDict()
        self._lock = Lock()
        self._ranges = Ranges(repository.sink)
        #: The last segment of the table that was asked for: those behind it are yet to come.
        self._reached = -1
        self._pool = ThreadPoolExecutor(_THREADS, "penstock-fetch")
        self._buffers = _Buffers()
        self.segments_read = 0

    def __enter__(self) -> "SnapshotReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def stream(self, name: str) -> StreamRecord:
        """The stream of that name; raises `SnapshotNotFound` that names those there are."""
        for record in self.manifest.streams:
            if record.name == name:
                return record
        known = ", ".join(record.name for record in self.manifest.streams)
        raise SnapshotNotFound(f"the snapshot has no stream {name!r}", hint=f"it has {known}")

    def blocks(self, record: StreamRecord) -> Iterator[memoryview]:
        """The bytes of a stream, in order; each block is valid until the next is asked for.

        Raises `DamagedObject` or `MissingObject` as soon as something is not what was written, and at the end when the
        whole is not: only after the iteration has ended is the stream known to be complete.
        """
        digest = StreamDigest()
        size = 0
        self._reached = -1
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
            segment = future.result()
            end = extent.first + extent.chunks
            if end >= len(segment.starts):
                raise Malformed(f"the recipe of {record.name} asks for chunks that its segment does not have")
            yield segment.data[segment.starts[extent.first] : segment.starts[end]]

    def _ahead(self, extents: Iterator[Extent]) -> Iterator[tuple[Extent, Future[_Segment]]]:
        """Each extent with its segment, which was asked for a while before its turn comes."""
        window: deque[Extent] = deque()
        waiting: dict[int, int] = {}
        held: OrderedDict[int, Future[_Segment]] = OrderedDict()
        exhausted = False
        try:
            while True:
                while not exhausted and len(window) < _WINDOW and len(waiting) <= _AHEAD:
                    extent = next(extents, None)
                    if extent is None:
                        exhausted = True
                        break
                    if extent.segment not in held:
                        held[extent.segment] = self._pool.submit(self._fetch, extent.segment)
                    held.move_to_end(extent.segment)
                    waiting[extent.segment] = waiting.get(extent.segment, 0) + 1
                    window.append(extent)
                if not window:
                    return
                extent = window.popleft()
                yield extent, held[extent.segment]
                waiting[extent.segment] -= 1
                if not waiting[extent.segment]:
                    del waiting[extent.segment]
                if len(held) > _KEPT + len(waiting):
                    self._buffers.give_back(held.pop(next(number for number in held if number not in waiting)).result())
        finally:
            for future in held.values():
                future.cancel()

    def _fetch(self, number: int) -> _Segment:
        """Read, open and index one segment; on a thread of the pool."""
        if number >= len(self._table):
            raise Malformed("a recipe asks for a segment that the snapshot does not list")
        segment = self._table[number]
        placed = self._directory(segment.pack)
        place, lengths = placed.find(segment)
        key = layout.pack_key(segment.pack)
        # The first segment is read with the mark in front of it, so that no byte in use goes unlooked at.
        margin = len(MAGIC) if place.offset == len(MAGIC) else 0
        try:
            read = self._ranges.read(
                key,
                place.offset - margin,
                place.offset + place.sealed_length,
                lambda: placed.end_of_run(segment, self._coming(number), RANGE),
            )
        except ObjectMissing:
            raise MissingObject(key, "the pack is gone") from None
        try:
            if read[:margin] != MAGIC[:margin]:
                raise Malformed("the pack does not begin like one")
            data = open_segment(read[margin:], self._sealer(place.session), self._repository.id, segment)
            if len(data) != place.plain_length:
                raise Malformed("it has another length than its directory says")
        except Malformed as error:
            raise DamagedObject(key, f"segment {segment.ordinal}: {error}") from None
        self.segments_read += 1
        return self._buffers.filled(data, lengths)

    def _coming(self, number: int) -> set[SegmentId]:
        """The segments that will be wanted soon, and were not yet."""
        begin = max(number, self._reached) + 1
        self._reached = max(number, self._reached)
        return set(self._table[begin : number + _LOOK])

    def _directory(self, pack: bytes) -> _PlacedPack:
        with self._lock:
            placed = self._directories.get(pack)
            if placed is None:
                directory, _ = read_pack_end(self._repository, pack)
                placed = self._directories[pack] = _PlacedPack(directory)
                if len(self._directories) > _DIRECTORIES:
                    self._directories.popitem(last=False)
            else:
                self._directories.move_to_end(pack)
            return placed

    def _sealer(self, session: bytes) -> Sealer:
        with self._lock:
            sealer = self._sealers.get(session)
            if sealer is None:
                sealer = self._sealers[session] = data_sealer(self._repository, session)
            return sealer


def _joined(pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    """The same bytes in blocks that are worth while to hash and to write."""
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
