"""From new chunks to packs in the sink: open segment → zstd and AES on threads → open pack → PUT on threads.

All buffers are allocated at the start and reused: segment buffers go to a sealing thread and back, pack buffers to an
uploading thread and back. When none is free, `add` blocks, and with it everything upstream.
"""

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import accumulate
from mmap import mmap
from typing import NamedTuple

from blake3 import blake3

from penstock.format.assembled import MAX_PACKS, Assembled
from penstock.format.chunks import Chunks, seal_chunks
from penstock.format.codec import QUICK, Effort
from penstock.format.encoding import new_id
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.format.index import PackEnds, PackSummary, hooks_of
from penstock.format.pack import (
    MAGIC,
    MAX_SEGMENTS,
    TRAILER_BYTES,
    Place,
    Places,
    SegmentId,
    pin_of,
    seal_places,
    seal_segment,
    sign_trailer,
    zeroes_for,
)
from penstock.format.padding import padded
from penstock.format.sealing import OVERHEAD, Sealer
from penstock.repository.budget import PACK_CAPACITY, PACK_CHUNKS, PACK_TARGET, SEGMENT, Budget, new_buffer
from penstock.repository.domain import Domain
from penstock.repository.extents import Extents, concatenated
from penstock.repository.known.known_pack import KnownPack
from penstock.repository.pool import Workers

__all__ = ["Packer", "Stored"]

#: `compression = "auto"`: new data scattered among known data is little, and worth more effort.
_EFFORT = QUICK
_EFFORT_SCATTERED = 12
#: From this share of its size on, a pack ends just below a size of its class: its last segment is made as long as that
#: takes, if it compresses as the others did, give or take a little. Zeroes would be 1.6 % of all that is stored.
_NEARLY_FULL = 0.8
_DOUBT = 0.03
_STEP = SEGMENT // 64
_SHORTEST = 2 * 65536
#: New data counts as scattered if a segment spans more of the stream than this, counted in batches.
_SCATTERED = 6 * 1024 * 1024
#: A segment of scattered data has so many bytes at most: a restore goes through those of many nights at once. Where
#: very many nights left some in one place, it is so small that all of those there have so many bytes together.
_SMALL = 512 * 1024
_TOGETHER = 24 * 1024 * 1024
_SMALLEST = 64 * 1024
#: Scattered pieces of chunks have one entry in the directory for so many bytes: nobody looks for them.
_LOOSE = 60 * 1024
#: A pack is closed at this many pieces of assembled chunks, to keep its ends small.
_PIECES = 1 << 16
#: Bytes that one takes there, about; and a chunk.
_PIECE_COST = 5
_ENTRY = CHUNK_ID_BYTES + 2


class Stored(NamedTuple):
    """Where bytes were put: a segment, which is in this pack, the offset in its plain bytes, and how many."""

    pack: KnownPack
    segment: SegmentId
    start: int
    length: int


@dataclass(slots=True)
class _Sealing:
    """A segment on a sealing thread."""

    segment: SegmentId
    plain_length: int
    chunks: int
    buffer: mmap
    sealed: Future[tuple[bytes, bytes]]


class _OpenPack:
    """The pack being filled."""

    def __init__(self, buffer: mmap, session: bytes, writer: bytes) -> None:
        self.id = new_id()
        self.buffer = buffer
        self.buffer[: len(MAGIC)] = MAGIC
        self.size = len(MAGIC)
        self.places: list[Place] = []
        #: Of chunks, for each segment; and of all of them, in order.
        self.counts: list[int] = []
        self.lengths = array("H")
        self.ids: list[bytes] = []
        self.known = KnownPack(self.id, (session,), writer=writer)
        self.segments = 0
        #: Chunks that were put together from pieces, and these, by their numbers in the segment table.
        self.assembled_ids: list[bytes] = []
        self.assembled_lengths = array("H")
        self.pieces: list[Extents] = []
        self.pieces_count = 0
        #: Of the segment table, that have pieces.
        self.rows: set[int] = set()

    @property
    def entries(self) -> int:
        """How many chunks can be found in it."""
        return len(self.ids) + len(self.assembled_ids)


class Packer:
    """Takes new chunks in order and stores them in packs. Used by one thread; call `close` or `abort` at the end.

    `origin` gives the pack and its pin for the number of a row of the segment table, the pin b"" for the open pack.
    `closed` is called for every pack whose upload begins, its pin known from then on, `landed` when it is durably in
    the sink; both in the caller's thread.
    """

    def __init__(
        self,
        domain: Domain,
        *,
        session: bytes,
        data_sealer: Sealer,
        budget: Budget,
        level: int | None,
        if_absent: bool,
        chunk_id: Callable[[memoryview], bytes],
        origin: Callable[[int], tuple[bytes, bytes]],
        closed: Callable[[KnownPack], None],
        landed: Callable[[PackSummary], None],
    ) -> None:
        self._domain = domain
        self._session = session
        self._data_sealer = data_sealer
        self._level = level
        self._if_absent = if_absent
        self._chunk_id = chunk_id
        self._origin = origin
        self._closed = closed
        self._landed = landed
        self._segment_buffers = [new_buffer(SEGMENT, at_once=True) for _ in range(budget.sealing)]
        self._target = min(PACK_TARGET, budget.pack_size)
        #: A smaller pack has a smaller directory, too.
        self._most_chunks = PACK_CHUNKS * self._target // PACK_TARGET
        self._pack_buffers = [new_buffer(PACK_CAPACITY, at_once=True) for _ in range(budget.packs)]
        self._sealers = Workers(budget.sealers, "penstock-seal", domain.sink.stop)
        self._uploaders = Workers(budget.uploads, "penstock-upload", domain.sink.stop)
        self._sealing: deque[_Sealing] = deque()
        self._in_flight = 0
        self._uploads: deque[tuple[Future[None], mmap, PackSummary]] = deque()
        self._pack = _OpenPack(self._pack_buffers.pop(), self._session, self._domain.access.key)
        #: The chunks of the open pack. Replaced when `add` opens another pack.
        self.known = self._pack.known
        self._segment = self._segment_buffers.pop()
        self._filled = 0
        #: What fits into the segment; and whether it is the last of its pack.
        self._capacity = SEGMENT
        self._last = False
        self._segment_first = 0
        #: Bytes at the end of the segment that are in no chunk yet.
        self._loose = 0
        self._passed = 0

    def passed(self, size: int, beside: int = 0) -> None:
        """The stream has advanced by a batch of `size` bytes, new or known, which needs `beside` segments of the past.

        The compression level depends on it, and where segments of scattered data end.
        """
        self._passed += size
        most = max(_SMALLEST, min(_SMALL, _TOGETHER // (beside + 1)))
        if self._passed > _SCATTERED and self._filled >= most:
            self._close_segment()

    def add(self, ids: Sequence[bytes], lengths: Sequence[int], data: memoryview) -> Iterator[Stored]:
        """Store chunks that lie in `data` one after another, whether or not they are known.

        Yields the place of every run stored together; `known` is replaced when a pack is closed. Of a chunk that occurs
        twice, the last place is remembered. A segment is full when the next chunk does not fit.
        """
        self._end_loose()
        ends = list(accumulate(lengths))
        done = start = 0
        while done < len(ids):
            if not self._filled:
                self._begin_segment()
            stop = bisect_right(ends, start + self._capacity - self._filled, lo=done)
            if stop == done:
                self._close_segment()
                continue
            pack = self._pack
            end = ends[stop - 1]
            stored = self._append(data[start:end])
            self._note(pack, ids[done:stop], lengths[done:stop])
            yield stored
            done, start = stop, end

    def add_loose(self, data: memoryview) -> Iterator[Stored]:
        """Store a piece of a chunk that need not be found again as such. Yields as `add` does."""
        while data:
            if not self._filled:
                self._begin_segment()
            room = min(self._capacity - self._filled, _LOOSE - self._loose)
            if room <= 0:
                if self._loose < _LOOSE:
                    self._close_segment()
                self._end_loose()
                continue
            self._loose += min(room, len(data))
            yield self._append(data[:room])
            data = data[room:]

    def add_assembled(self, ids: Sequence[bytes], lengths: Sequence[int], pieces: Extents) -> None:
        """Note chunks that lie nowhere in one piece, and what makes them: pieces, with numbers of the segment table.

        A host that does not have the past then finds them as it finds others. They are in the pack that is open when
        their pieces were stored; if that is empty, or lists too many packs, they are left out, which costs such a host
        their bytes.
        """
        pack = self._pack
        rows = pack.rows.union((pieces.segments // MAX_SEGMENTS).tolist())
        if not (pack.segments or self._filled) or len(rows) >= MAX_PACKS:
            return
        pack.rows = rows
        pack.assembled_ids += ids
        pack.assembled_lengths.extend(lengths)
        pack.pieces.append(pieces)
        pack.pieces_count += len(pieces.segments)
        if pack.entries > self._most_chunks or pack.pieces_count > _PIECES:
            self._close_segment()
            self._close_pack()

    def _append(self, data: memoryview) -> Stored:
        begin = self._filled
        self._segment[begin : begin + len(data)] = data
        self._filled += len(data)
        return Stored(self._pack.known, SegmentId(self._pack.id, self._pack.segments), begin, len(data))

    def _note(self, pack: _OpenPack, ids: Sequence[bytes], lengths: Sequence[int]) -> None:
        pack.ids += ids
        pack.lengths.extend(lengths)
        pack.known.add_chunks(ids, lengths)

    def _end_loose(self) -> None:
        if self._loose:
            piece = memoryview(self._segment)[self._filled - self._loose : self._filled]
            self._note(self._pack, [self._chunk_id(piece)], [self._loose])
            self._loose = 0

    def close(self) -> None:
        """Seal and upload the rest, and wait until all of it is in the sink."""
        self._close_segment()
        self._close_pack()
        self._collect_uploads(0)
        self._sealers.close()
        self._uploaders.close()

    def abort(self, *, wait: bool) -> None:
        """Give up: start nothing further. With `wait`, wait for uploads that have begun; otherwise abandon them."""
        for workers in (self._sealers, self._uploaders):
            if wait:
                workers.cancel()
            else:
                workers.abandon()

    def _begin_segment(self) -> None:
        pack = self._room_for_segment()
        length = self._length_of_last(pack)
        self._capacity, self._last = length or SEGMENT, length is not None
        self._segment_first = len(pack.ids)
        pack.known.begin_segment(SegmentId(pack.id, pack.segments), self._segment_first)

    def _room_for_segment(self) -> _OpenPack:
        """The pack for the next segment, possibly a new one."""
        pack = self._pack
        if not pack.segments:
            return pack
        if self._last:
            return self._close_pack()
        if pack.entries + SEGMENT // 512 > self._most_chunks or pack.segments == MAX_SEGMENTS:
            return self._close_pack()
        if pack.size + self._in_flight + SEGMENT + OVERHEAD > self._target:
            # Segments being sealed were counted as incompressible: check again when they are done.
            self._collect_sealed(0)
            if pack.size + SEGMENT + OVERHEAD > self._target:
                return self._close_pack()
        return pack

    def _length_of_last(self, pack: _OpenPack) -> int | None:
        """How long (plain bytes) the next segment must be for the pack to end well after it; None if it goes on."""
        full = max(pack.entries / self._most_chunks, (pack.size + self._in_flight) / self._target)
        if full < _NEARLY_FULL:
            return None
        self._collect_sealed(0)
        plain = sum(place.plain_length for place in pack.places)
        chunks, length = len(pack.ids), pack.size
        listed = _ENTRY * len(pack.assembled_ids) + _PIECE_COST * pack.pieces_count
        # What zstd made nothing of so far is as long as it is.
        doubt = _DOUBT if length < plain else 0
        for room in range(SEGMENT, _SHORTEST, -_STEP):
            sealed = room * length // plain
            whole = length + sealed + _ends_of(chunks + chunks * room // plain, listed)
            if 0 <= padded(whole) - whole - sealed * doubt <= 2 * _STEP * length / plain:
                return room
        return None

    def _close_segment(self) -> None:
        if not self._filled:
            return
        self._end_loose()
        pack = self._pack
        segment = SegmentId(pack.id, pack.segments)
        pack.segments += 1
        view = memoryview(self._segment)[: self._filled]
        effort: Effort | None = self._level
        if effort is None:
            effort = _EFFORT_SCATTERED if self._passed > _SCATTERED else _EFFORT
        sealed = self._sealers.submit(_seal, view, effort, self._data_sealer, self._domain.scope, segment)
        chunks = len(pack.ids) - self._segment_first
        self._sealing.append(_Sealing(segment, self._filled, chunks, self._segment, sealed))
        self._in_flight += self._filled + OVERHEAD + 1
        self._filled = self._passed = 0
        # Wait for the oldest only if no buffer is free for the next segment.
        self._collect_sealed(len(self._sealing) - (not self._segment_buffers))
        self._segment = self._segment_buffers.pop()

    def _collect_sealed(self, left: int) -> None:
        """Append sealed segments to the pack, in order: all that are done, and others until at most `left` remain."""
        pack = self._pack
        while self._sealing and (len(self._sealing) > left or self._sealing[0].sealed.done()):
            done = self._sealing.popleft()
            data, digest = self._sealers.result(done.sealed)
            pack.buffer[pack.size : pack.size + len(data)] = data
            pack.places.append(Place(done.segment, self._session, pack.size, len(data), done.plain_length, digest))
            pack.counts.append(done.chunks)
            pack.size += len(data)
            self._in_flight -= done.plain_length + OVERHEAD + 1
            self._segment_buffers.append(done.buffer)

    def _close_pack(self) -> _OpenPack:
        """Finish the open pack, start its upload, and open the next one."""
        self._collect_sealed(0)
        pack = self._pack
        if pack.segments:
            summary = self._finish(pack)
            key = self._domain.at.pack_key(pack.id)
            view = memoryview(pack.buffer)[: pack.size]
            upload = self._uploaders.submit(self._domain.sink.put, key, view, if_absent=self._if_absent)
            self._uploads.append((upload, pack.buffer, summary))
            self._closed(pack.known)
            self._collect_uploads(len(self._uploads) - (not self._pack_buffers))
            self._pack = _OpenPack(self._pack_buffers.pop(), self._session, self._domain.access.key)
            self.known = self._pack.known
        return self._pack

    def _finish(self, pack: _OpenPack) -> PackSummary:
        """Put the ends behind the segments, with zeroes in between."""
        domain = self._domain
        chunks = Chunks(tuple(pack.counts), pack.lengths, b"".join(pack.ids), self._assembled(pack))
        ids = seal_chunks(chunks, domain.id_sealer, domain.scope, pack.id, [place.id for place in pack.places])
        places = seal_places(Places(pack.id, tuple(pack.places)), domain.layout_sealer, domain.scope)
        trailer = sign_trailer(domain.access.signing, domain.access.key, domain.scope, pack.id, ids, places)
        zeroes = bytes(zeroes_for(pack.size, len(ids) + len(places)))
        for piece in (zeroes, ids, places, trailer):
            pack.buffer[pack.size : pack.size + len(piece)] = piece
            pack.size += len(piece)
        pack.known.pin = pin_of(places)
        ends = PackEnds(pack.id, pack.size, len(ids), len(places))
        return PackSummary(ends, chunks.total, hooks_of(chunks.names))

    def _assembled(self, pack: _OpenPack) -> Assembled:
        """The pack's assembled chunks as it lists them."""
        if not pack.pieces:
            return Assembled()
        pieces = concatenated(pack.pieces)
        rows = pieces.segments // MAX_SEGMENTS
        numbers: dict[int, int] = {}
        packs: list[tuple[bytes, bytes]] = []
        for row in sorted(pack.rows):
            origin = self._origin(row)
            if origin[0] == pack.id:
                numbers[row] = 0
            else:
                packs.append(origin)
                numbers[row] = len(packs)
        columns = (rows, pieces.segments % MAX_SEGMENTS, pieces.starts, pieces.lengths)
        extents = (
            (numbers[row] * MAX_SEGMENTS + ordinal, start, length)
            for row, ordinal, start, length in zip(*(column.tolist() for column in columns), strict=True)
        )
        return Assembled.of(pack.assembled_lengths, b"".join(pack.assembled_ids), packs, extents)

    def _collect_uploads(self, left: int) -> None:
        """Record uploaded packs, in order; wait until at most `left` remain."""
        while self._uploads and (len(self._uploads) > left or self._uploads[0][0].done()):
            upload, buffer, summary = self._uploads.popleft()
            self._uploaders.result(upload)
            self._pack_buffers.append(buffer)
            self._landed(summary)


def _seal(view: memoryview, effort: Effort, sealer: Sealer, scope: bytes, segment: SegmentId) -> tuple[bytes, bytes]:
    """A sealed segment and its digest; on a thread."""
    sealed = seal_segment(view, effort, sealer, scope, segment)
    return sealed, blake3(sealed).digest()


def _ends_of(chunks: int, listed: int) -> int:
    """How long (bytes) the ends of a pack of so many chunks are, about: ids do not compress, places do.

    Its list of assembled chunks takes `listed`.
    """
    return padded(_ENTRY * chunks + listed + OVERHEAD) + padded(0) + TRAILER_BYTES
