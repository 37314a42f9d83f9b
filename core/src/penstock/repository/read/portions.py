"""Portions: pieces of a stream that are worthwhile to put together, hash and write at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.repository.budget import SEGMENT
from penstock.repository.extents import Extents

__all__ = ["Portion", "portions"]

#: Bytes and extents of a portion at most, if it has more than one extent: changes of many nights lie scattered.
_BYTES = 1024 * 1024
_EXTENTS = 4096


@dataclass(frozen=True, slots=True)
class Portion:
    """Extents that follow one another: segment, start and end of each; the segments, each once; the bytes of all.

    `guessed`: it ends for want of room, and that is mostly because sizes of segments were not known.
    """

    segments: list[int]
    starts: list[int]
    ends: list[int]
    needs: tuple[int, ...]
    size: int
    guessed: bool = False

    def of(self, data: Mapping[int, memoryview]) -> bytes | memoryview:
        """Its bytes, from the bytes of each segment: fewer than `size` if a segment has fewer than it should."""
        # One piece is given out as it is.
        if len(self.segments) == 1:
            return data[self.segments[0]][self.starts[0] : self.ends[0]]
        columns = zip(self.segments, self.starts, self.ends, strict=True)
        return b"".join([data[segment][start:end] for segment, start, end in columns])


def portions(cuts: Iterator[Extents], room: int, known: Callable[[int], int | None]) -> Iterator[Portion]:
    """The extents of a stream in portions, each of segments that take `room` bytes together at most, or of one.

    `known` tells what a segment takes; None for one that was never opened, which counts as a large one.
    """
    for cut in cuts:
        ends = np.cumsum(cut.lengths)
        stops = cut.starts + cut.lengths
        first, done = 0, 0
        while first < len(ends):
            limit = max(first + 1, int(np.searchsorted(ends, done + _BYTES, side="right")))
            segments = cut.segments[first : min(limit, first + _EXTENTS)].tolist()
            # In the order of their first use. Changes of many nights are hundreds of extents of few segments: what is
            # asked for each segment is not asked for each extent.
            distinct = list(dict.fromkeys(segments))
            count, guessed = _fitting(distinct, room, known)
            if count < len(distinct):
                del segments[segments.index(distinct[count]) :]
            these = slice(first, first + len(segments))
            size = int(ends[these.stop - 1]) - done
            yield Portion(
                segments, cut.starts[these].tolist(), stops[these].tolist(), tuple(distinct[:count]), size, guessed
            )
            first, done = these.stop, done + size


def _fitting(segments: Sequence[int], room: int, known: Callable[[int], int | None]) -> tuple[int, bool]:
    """How many of these segments take `room` bytes at most, one at least; whether they end for what is not known."""
    left, unknown = room, 0
    for count, segment in enumerate(segments):
        cost = known(segment)
        unknown += SEGMENT if cost is None else 0
        left -= SEGMENT if cost is None else cost
        if left < 0 and count:
            return count, unknown > room // 2
    return len(segments), False
