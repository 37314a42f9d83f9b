"""Portions: pieces of a stream that are worthwhile to put together, hash and write at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from penstock.repository.extents import Extents

__all__ = ["Portion", "portions"]

#: Bytes and extents of a portion at most, if it has more than one extent: changes of many nights lie scattered.
_BYTES = 1024 * 1024
_EXTENTS = 4096


@dataclass(frozen=True, slots=True)
class Portion:
    """Extents that follow one another: segment, start and end of each; the segments, each once; the bytes of all."""

    segments: list[int]
    starts: list[int]
    ends: list[int]
    needs: tuple[int, ...]
    size: int

    def of(self, data: Mapping[int, memoryview]) -> bytes | memoryview:
        """Its bytes, from the bytes of each segment: fewer than `size` if a segment has fewer than it should."""
        # One piece is given out as it is.
        if len(self.segments) == 1:
            return data[self.segments[0]][self.starts[0] : self.ends[0]]
        columns = zip(self.segments, self.starts, self.ends, strict=True)
        return b"".join([data[segment][start:end] for segment, start, end in columns])


def portions(cuts: Iterator[Extents], most: int) -> Iterator[Portion]:
    """The extents of a stream in portions, each of at most so many segments."""
    for cut in cuts:
        ends = np.cumsum(cut.lengths)
        segments, starts, stops = (column.tolist() for column in (cut.segments, cut.starts, cut.starts + cut.lengths))
        first, done = 0, 0
        while first < len(ends):
            limit = max(first + 1, int(np.searchsorted(ends, done + _BYTES, side="right")))
            needs: dict[int, None] = {}
            end = first
            while end < min(limit, first + _EXTENTS) and (len(needs) < most or segments[end] in needs):
                needs[segments[end]] = None
                end += 1
            size = int(ends[end - 1]) - done
            yield Portion(segments[first:end], starts[first:end], stops[first:end], tuple(needs), size)
            first, done = end, done + size
