"""The piece of a past stream that the next one is compared with, around the place where they are alike."""

from collections.abc import Callable, Iterator
from itertools import compress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.format.pack import MAX_SEGMENTS
from penstock.repository.extents import I64, U64, Extents, Laid, concatenated, edges
from penstock.repository.known.frames import NO_CUT, Frame

__all__ = ["PastRecords", "Window"]

#: Bytes of the past stream that are kept behind the place, and looked at in front of it.
_BEHIND = 4 * 1024 * 1024
_AHEAD = 8 * 1024 * 1024
#: A chunk with more extents than this, and one for so many bytes, is stored anew: each costs a restore some time.
_EXTENTS = 8
_BYTES_AN_EXTENT = 256


class PastRecords(NamedTuple):
    """Records of past chunks: the hash of each, and where it begins in the past stream."""

    hashes: U64
    starts: I64


class Window:
    """Chunks of a past stream by id, as far as they may be used.

    `usable` is asked which segments of a row of the segment table may be: a bit for each, by ordinal.

    Chunks have numbers, in the order of the stream.
    """

    def __init__(self, frames: Iterator[Frame], usable: Callable[[int], int]) -> None:
        self._frames = frames
        self._usable = usable
        self._kept: list[_Kept] = []
        #: Where the first of them begins, in bytes, and the number of its first chunk; where the last one ends.
        self._start = self._first = self._end = 0
        self._ids: list[bytes] = []
        #: For each chunk 1 if it may be used, or 0.
        self._good = bytearray()
        self._lengths: list[int] = []
        self._lags: list[int] = []
        #: Where each chunk begins, and the last one ends.
        self._starts = np.zeros(1, dtype=np.int64)
        none = self._starts[:0]
        self._laid = Laid(0, Extents(none, none, none))
        #: How many segments it needs.
        self.segments = 0

    def advance(self, place: int) -> None:
        """The streams are alike at `place` (bytes) of the past one."""
        changed = False
        while self._end < place + _AHEAD:
            frame = next(self._frames, None)
            if frame is None:
                break
            self._take(frame)
            self._drop_before(place - _BEHIND)
            changed = True
        if self._drop_before(place - _BEHIND) or changed:
            self._join()

    def _drop_before(self, place: int) -> bool:
        kept = len(self._kept)
        while len(self._kept) > 1 and self._kept[0].end < place:
            self._let_go(self._kept.pop(0))
        return len(self._kept) < kept

    def _let_go(self, gone: "_Kept") -> None:
        count = len(gone.frame.chunks)
        self._ids, self._good = self._ids[count:], self._good[count:]
        self._start = gone.end
        self._first += count

    def _take(self, frame: Frame) -> None:
        good = self._judge(frame)
        first = self._first + len(self._ids)
        kept = _Kept(frame, first, self._end, good)
        self._ids += frame.chunks
        self._good += good
        self._kept.append(kept)
        self._end = kept.end

    def _judge(self, frame: Frame) -> bytes:
        """Which chunks may be used: those of usable segments, in not too many pieces."""
        chunks = edges(0, [frame.chunk_lengths])
        first, count = Laid(0, frame.extents).touched(chunks[:-1], chunks[1:])
        end = first + count
        good: NDArray[np.bool_] = count <= _EXTENTS + frame.chunk_lengths // _BYTES_AN_EXTENT
        segments = frame.extents.segments
        rows = segments // MAX_SEGMENTS
        usable = {row: self._usable(row) for row in np.unique(rows).tolist()}
        some = [row for row, held in usable.items() if held != -1]
        if some:
            asked = np.unique(segments[np.isin(rows, some)]).tolist()
            bad = [one for one in asked if not usable[one // MAX_SEGMENTS] >> one % MAX_SEGMENTS & 1]
            before = edges(0, [np.isin(segments, bad).astype(np.int64)])
            good &= before[end] == before[first]
        return good.astype(np.uint8).tobytes()

    def _join(self) -> None:
        """Put the short columns of all frames one behind the other."""
        frames = [kept.frame for kept in self._kept]
        self._starts = edges(self._start, [frame.chunk_lengths for frame in frames])
        self._lengths = np.diff(self._starts).tolist()
        self._lags = np.concatenate([frame.lags for frame in frames]).tolist()
        self._laid = Laid(self._start, concatenated(frame.extents for frame in frames))
        self.segments = len(set(self._laid.extents.segments.tolist()))

    def find(self, chunk: bytes, after: int) -> int:
        """The number of a chunk: of one of the two behind `after`, if it is that, or of any; -1 for none."""
        ids = self._ids
        at = after + 1 - self._first
        for near in (at, at + 1):
            if 0 <= near < len(ids) and ids[near] == chunk and self._good[near]:
                return near + self._first
        for kept in self._kept:
            if (number := kept.numbers.get(chunk)) is not None:
                return number
        return -1

    def lag(self, number: int) -> int:
        """How far before the end of a chunk its cut was, or `NO_CUT`; 0 for -1, the beginning of the stream."""
        return self._lags[number - self._first] if number >= 0 else 0

    def following(self, after: int, most: int) -> tuple[list[bytes], list[int], list[int]]:
        """Ids, lengths and lags of the chunks behind `after`, so many at most, as far as all may be used.

        Without the one that the end of the stream cut off: a stream that goes on there may have a longer one.
        """
        first = max(after + 1 - self._first, 0)
        end = self._good_until(first, min(first + most, len(self._good)))
        if end > first and self._lags[end - 1] == NO_CUT:
            end -= 1
        return self._ids[first:end], self._lengths[first:end], self._lags[first:end]

    def _good_until(self, first: int, end: int) -> int:
        """The first of these places in the window whose chunk may not be used, or `end`."""
        found = self._good.find(0, first, end)
        return end if found < 0 else found

    def start(self, number: int) -> int:
        """Where a chunk begins, or the one before ends, in bytes of the stream."""
        return int(self._starts[number - self._first])

    def copied(self, first: int, end: int) -> Iterator[tuple[U64, NDArray[np.uint16], I64]]:
        """Hashes and lengths of the records of these chunks, and how many each chunk has; piece by piece."""
        for kept, some in self._pieces(first, end):
            records = kept.records_of(some)
            yield kept.frame.hashes[records], kept.frame.record_lengths[records], kept.frame.counts[some]

    def records(self, first: int, end: int) -> PastRecords:
        """The records of those of these chunks that are in the window and may be used."""
        hashes, starts = [], []
        for kept, some in self._pieces(first, end):
            at = kept.first - self._first
            begin = some.start
            while begin < some.stop:
                stop = self._good_until(at + begin, at + some.stop) - at
                records = kept.records_of(slice(begin, stop))
                hashes.append(kept.frame.hashes[records])
                starts.append(kept.record_starts[records])
                begin = stop + 1
        if len(hashes) == 1:
            return PastRecords(hashes[0], starts[0])
        if not hashes:
            return PastRecords(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))
        return PastRecords(np.concatenate(hashes), np.concatenate(starts))

    def _pieces(self, first: int, end: int) -> Iterator[tuple["_Kept", slice]]:
        """The chunks from `first` to before `end`, as far as they are kept: frames, and which of their chunks."""
        for kept in self._kept:
            if kept.first >= end:
                return
            begin = max(first - kept.first, 0)
            stop = min(end - kept.first, len(kept.frame.chunks))
            if begin < stop:
                yield kept, slice(begin, stop)

    def resolved(self, starts: I64, lengths: I64) -> tuple[Extents, I64]:
        """The extents of segments that make runs of bytes of the past stream, and how many make each run."""
        return self._laid.cut(starts, starts + lengths)


class _Kept:
    """A frame of the window: the number of its first chunk, where it ends in the stream, where each record begins.

    `numbers` are those of the chunks that may be used, by id; of equal ones that of the first.
    """

    def __init__(self, frame: Frame, first: int, start: int, good: bytes) -> None:
        self.frame = frame
        self.first = first
        usable = list(compress(zip(frame.chunks, range(first, first + len(good)), strict=True), good))
        self.numbers = dict(reversed(usable))
        chunks = edges(start, [frame.chunk_lengths])
        self.end = int(chunks[-1])
        self._firsts = edges(0, [frame.counts])
        # The records of a chunk begin where it does. There may be chunks without records in between.
        some = frame.counts > 0
        begins = edges(0, [frame.record_lengths.astype(np.int64)])[:-1]
        moved = chunks[:-1][some] - begins[self._firsts[:-1][some]]
        self.record_starts = begins + np.repeat(moved, frame.counts[some])

    def records_of(self, chunks: slice) -> slice:
        """Which records these chunks have."""
        return slice(self._firsts[chunks.start], self._firsts[chunks.stop])
