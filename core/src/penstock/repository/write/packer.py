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

from blake3 import blake3

from penstock.format.encoding import new_id
from penstock.format.index import PackSummary, summarize
from penstock.format.pack import (
    MAGIC,
    Directory,
    SegmentId,
    SegmentPlace,
    encode_trailer,
    seal_directory,
    seal_segment,
)
from penstock.format.sealing import OVERHEAD, Sealer
from penstock.repository import layout
from penstock.repository.budget import PACK_CAPACITY, PACK_CHUNKS, PACK_TARGET, SEGMENT, Budget, new_buffer
from penstock.repository.known.sparse_index import KnownPack
from penstock.repository.pool import Workers
from penstock.repository.repository import Repository

__all__ = ["Packer"]

#: `compression = "auto"`: new data scattered among known data is little, and worth more effort.
_LEVEL = 3
_LEVEL_SCATTERED = 9
#: Where the previous segment compressed to less than 1/32 of its size, level 3 gains nothing.
_LEVEL_EASY = 1
_EASY = 32
#: New data counts as scattered if a segment spans more of the stream than this, counted in batches.
_SCATTERED = 6 * SEGMENT


@dataclass(slots=True)
class _Sealing:
    """A segment on a sealing thread."""

    segment: SegmentId
    plain_length: int
    chunks: int
    buffer: mmap
    sealed: Future[bytes]


class _OpenPack:
    """The pack being filled."""

    def __init__(self, buffer: mmap, session: bytes) -> None:
        self.id = new_id()
        self.buffer = buffer
        self.buffer[: len(MAGIC)] = MAGIC
        self.size = len(MAGIC)
        self.places: list[SegmentPlace] = []
        self.lengths = array("H")
        self.ids: list[bytes] = []
        self.known = KnownPack((session,))
        self.segments = 0


class Packer:
    """Takes new chunks in order and stores them in packs. Used by one thread; call `close` or `abort` at the end.

    `closed` is called for every pack whose upload begins, `landed` when it is durably in the sink; both in the
    caller's thread.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        session: bytes,
        data_sealer: Sealer,
        budget: Budget,
        level: int | None,
        closed: Callable[[bytes, KnownPack], None],
        landed: Callable[[PackSummary], None],
    ) -> None:
        self._repository = repository
        self._session = session
        self._data_sealer = data_sealer
        self._level = level
        self._closed = closed
        self._landed = landed
        self._segment_buffers = [new_buffer(SEGMENT) for _ in range(budget.sealing)]
        self._pack_buffers = [new_buffer(PACK_CAPACITY) for _ in range(budget.packs)]
        self._sealers = Workers(budget.sealers, "penstock-seal", repository.sink.stop)
        self._uploaders = Workers(budget.uploads, "penstock-upload", repository.sink.stop)
        self._sealing: deque[_Sealing] = deque()
        self._in_flight = 0
        self._uploads: deque[tuple[Future[None], mmap, PackSummary]] = deque()
        self._pack = _OpenPack(self._pack_buffers.pop(), self._session)
        #: The chunks of the open pack. Replaced when `add` opens another pack.
        self.known = self._pack.known
        self._segment = self._segment_buffers.pop()
        self._filled = 0
        self._segment_first = 0
        self._passed = 0
        self._easy = False

    def passed(self, size: int) -> None:
        """The stream has advanced by a batch of `size` bytes, new or known. The compression level depends on it."""
        self._passed += size

    def add(
        self, ids: Sequence[bytes], lengths: Sequence[int], data: memoryview
    ) -> Iterator[tuple[KnownPack, int, int]]:
        """Store chunks that lie in `data` one after another, whether or not they are known.

        Yields (pack, first chunk, one past the last chunk) for every run stored together; `known` is replaced when a
        pack is closed. Of a chunk that occurs twice, the last place is remembered. A segment is full when the next
        chunk does not fit.
        """
        ends = list(accumulate(lengths))
        done = start = 0
        while done < len(ids):
            stop = bisect_right(ends, start + SEGMENT - self._filled, lo=done)
            if stop == done:
                self._close_segment()
                continue
            if not self._filled:
                self._begin_segment()
            pack = self._pack
            end = ends[stop - 1]
            self._segment[self._filled : self._filled + end - start] = data[start:end]
            self._filled += end - start
            first = len(pack.ids)
            pack.ids += ids[done:stop]
            pack.lengths.extend(lengths[done:stop])
            pack.known.chunks.update(zip(ids[done:stop], range(first, len(pack.ids)), strict=True))
            yield pack.known, first, len(pack.ids)
            done, start = stop, end

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
        self._segment_first = len(pack.ids)
        pack.known.begin_segment(SegmentId(pack.id, pack.segments), self._segment_first)

    def _room_for_segment(self) -> _OpenPack:
        """The pack for the next segment, possibly a new one."""
        pack = self._pack
        if not pack.segments:
            return pack
        if len(pack.ids) + SEGMENT // 512 > PACK_CHUNKS:
            return self._close_pack()
        if pack.size + self._in_flight + SEGMENT + OVERHEAD > PACK_TARGET:
            # Segments being sealed were counted as incompressible: check again when they are done.
            self._collect_sealed(0)
            if pack.size + SEGMENT + OVERHEAD > PACK_TARGET:
                return self._close_pack()
        return pack

    def _close_segment(self) -> None:
        if not self._filled:
            return
        pack = self._pack
        segment = SegmentId(pack.id, pack.segments)
        pack.segments += 1
        view = memoryview(self._segment)[: self._filled]
        level = self._level
        if level is None:
            level = _LEVEL_SCATTERED if self._passed > _SCATTERED else _LEVEL_EASY if self._easy else _LEVEL
        sealed = self._sealers.submit(seal_segment, view, level, self._data_sealer, self._repository.id, segment)
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
            data = self._sealers.result(done.sealed)
            pack.buffer[pack.size : pack.size + len(data)] = data
            pack.places.append(
                SegmentPlace(done.segment, self._session, pack.size, len(data), done.plain_length, done.chunks)
            )
            pack.size += len(data)
            self._in_flight -= done.plain_length + OVERHEAD + 1
            self._easy = len(data) * _EASY < done.plain_length
            self._segment_buffers.append(done.buffer)

    def _close_pack(self) -> _OpenPack:
        """Finish the open pack, start its upload, and open the next one."""
        self._collect_sealed(0)
        pack = self._pack
        if pack.segments:
            view = memoryview(pack.buffer)
            digest = blake3(view[len(MAGIC) : pack.size]).digest()
            directory = Directory(pack.id, digest, tuple(pack.places), pack.lengths, b"".join(pack.ids))
            sealed = seal_directory(directory, self._repository.index_sealer, self._repository.id)
            offset = pack.size
            for part in (sealed, encode_trailer(len(sealed))):
                view[pack.size : pack.size + len(part)] = part
                pack.size += len(part)
            summary = summarize(directory, pack.size, offset, len(sealed))
            upload = self._uploaders.submit(self._repository.sink.put, layout.pack_key(pack.id), view[: pack.size])
            self._uploads.append((upload, pack.buffer, summary))
            self._closed(pack.id, pack.known)
            self._collect_uploads(len(self._uploads) - (not self._pack_buffers))
            self._pack = _OpenPack(self._pack_buffers.pop(), self._session)
            self.known = self._pack.known
        return self._pack

    def _collect_uploads(self, left: int) -> None:
        """Record uploaded packs, in order; wait until at most `left` remain."""
        while self._uploads and (len(self._uploads) > left or self._uploads[0][0].done()):
            upload, buffer, summary = self._uploads.popleft()
            self._uploaders.result(upload)
            self._pack_buffers.append(buffer)
            self._landed(summary)
