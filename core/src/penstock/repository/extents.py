"""Extents in arrays: runs of bytes of segments that make a piece of a stream, one after the other, many at once.

Writers and readers ask the same of them: what makes this run of the stream, and what if this is put in the place of
that. There are millions in a large dump, too many for loops of Python.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["I64", "U64", "Extents", "Laid", "concatenated", "edges", "within"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class Extents(NamedTuple):
    """The number of the segment of each (below 0: of something else that is made of extents), its start and length."""

    segments: I64
    starts: I64
    lengths: I64

    @property
    def size(self) -> int:
        """How many bytes they make."""
        return int(self.lengths.sum())

    def with_in_place(self, where: NDArray[np.bool_], found: "Extents", counts: I64) -> "Extents":
        """The same with `found` in the place of those at `where`; so many for each of them."""
        many = np.ones(len(where), dtype=np.int64)
        many[where] = counts
        which = np.repeat(where, many)
        columns = [np.empty(len(which), dtype=np.int64) for _ in self]
        for column, own, other in zip(columns, self, found, strict=True):
            column[which] = other
            column[~which] = own[~where]
        return Extents(*columns)

    def joined(self) -> "Extents":
        """The same, those joined that lie one behind the other in their segment."""
        if not len(self.segments):
            return self
        segments, starts, lengths = self
        goes_on = (segments[1:] == segments[:-1]) & (starts[1:] == starts[:-1] + lengths[:-1])
        begins: I64 = np.flatnonzero(np.concatenate(([True], ~goes_on)))
        return Extents(segments[begins], starts[begins], np.add.reduceat(lengths, begins))


class Laid:
    """Extents that make the stream from `start` (bytes) on, to be cut anywhere."""

    def __init__(self, start: int, extents: Extents) -> None:
        self.extents = extents
        #: Where each begins in the stream, and the last ends.
        self.edges = edges(start, [extents.lengths])

    def touched(self, starts: I64, ends: I64) -> tuple[I64, I64]:
        """The number of the first extent of each of these runs of the stream, and how many make it."""
        first = np.searchsorted(self.edges, starts, side="right") - 1
        return first, np.searchsorted(self.edges, ends) - first

    def cut(self, starts: I64, ends: I64) -> tuple[Extents, I64]:
        """The extents that make these runs, cut to them, and how many make each run."""
        first, counts = self.touched(starts, ends)
        which = np.repeat(first, counts) + within(counts)
        begins = np.maximum(self.edges[which], np.repeat(starts, counts))
        stops = np.minimum(self.edges[which + 1], np.repeat(ends, counts))
        segments, places, _ = self.extents
        return Extents(segments[which], places[which] + begins - self.edges[which], stops - begins), counts


def edges(start: int, columns: Sequence[I64]) -> I64:
    """Where each of these lengths begins if they lie one behind the other from `start` on, and where the last ends."""
    found = np.zeros(sum(map(len, columns)) + 1, dtype=np.int64)
    np.cumsum(np.concatenate(columns), out=found[1:])
    found += start
    return found


def within(counts: I64) -> I64:
    """0, 1, 2 ... for each of these counts."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def concatenated(some: Iterable[Extents]) -> Extents:
    """All of them, one behind the other; there is one at least."""
    return Extents(*map(np.concatenate, zip(*some, strict=True)))
