"""Portions: pieces of a stream that are worthwhile to put together, hash and write at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penstock.repository.read.content import Cut

__all__ = ["PORTION_BYTES", "Portion", "portions"]

#: Bytes and extents of a portion at most, if it has more than one extent: changes of many nights lie scattered.
PORTION_BYTES = 256 * 1024
_EXTENTS = 1024


@dataclass(frozen=True, slots=True)
class Portion:
    """Extents that follow one another: segment, start, end of each; the segments, each once; the bytes of all."""

    extents: list[tuple[int, int, int]]
    needs: tuple[int, ...]
    size: int


def portions(cuts: Iterator[Cut], most: int) -> Iterator[Portion]:
    """The extents of a stream in portions, each of at most so many segments."""
    for cut in cuts:
        ends = np.cumsum(cut.lengths)
        first, done = 0, 0
        while first < len(ends):
            end = max(first + 1, int(np.searchsorted(ends, done + PORTION_BYTES, side="right")))
            end = min(end, first + _EXTENTS)
            needs = dict.fromkeys(cut.segments[first:end].tolist())
            while len(needs) > most:
                end = first + max(1, (end - first) // 2)
                needs = dict.fromkeys(cut.segments[first:end].tolist())
            some = slice(first, end)
            columns = (cut.segments[some], cut.starts[some], cut.starts[some] + cut.lengths[some])
            size = int(ends[end - 1]) - done
            yield Portion(list(zip(*(column.tolist() for column in columns), strict=True)), tuple(needs), size)
            first, done = end, int(ends[end - 1])
