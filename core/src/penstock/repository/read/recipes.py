"""Recipes as a reader needs them: what makes a run of a stream, through all layers, many extents at once."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

from penstock.format.encoding import Malformed
from penstock.format.manifest import StreamRecord
from penstock.format.recipe import MAX_RUNS, Extent, decode_columns, range_of
from penstock.repository.extents import I64, Extents, Laid
from penstock.repository.read.parts import STREAM_BYTES, OpenedPart

__all__ = ["Recipe", "Runs", "each_extent"]

#: Blocks of recipes that are kept, of less than 1 MiB, for each stream of each layer.
_BLOCKS = 2
#: Extents that are resolved at once: at most, and if layers often end sooner.
_MANY = 1 << 16
_FEW = 64


class Recipe:
    """The recipe of one stream in one layer, whose extents are resolved through the layers below it.

    `part` opens a part by its layer and number, and raises what it likes. `record` is the stream that is read, `stream`
    the number that its bytes have in this layer.
    """

    def __init__(self, part: Callable[[int, int], OpenedPart], record: StreamRecord, layer: int, stream: int) -> None:
        self._part = part
        self._record = record
        self._layer = layer
        self._stream = stream
        self._parts = iter(record.recipe[layer] if layer < len(record.recipe) else ())
        #: Where the blocks begin that were met so far, and where each is: part, section.
        self._starts: list[int] = []
        self._places: list[tuple[int, int]] = []
        self._end = 0
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._below: dict[int, Recipe] = {}
        #: How many extents are cut at once.
        self._many = _MANY

    def resolved(self, starts: I64, lengths: I64) -> Extents:
        """What makes these runs of the stream, or a piece of them at the beginning, in extents of segments.

        Raises `Malformed`.
        """
        block, cut = self._first(starts, lengths)
        base = cut.segments < 0
        if not base.any():
            return cut
        below = self._below.get(block.base)
        if below is None:
            below = self._below[block.base] = Recipe(self._part, self._record, self._layer + 1, block.base)
        found = below.resolved(cut.starts[base], cut.lengths[base])
        ends = np.cumsum(cut.lengths[base])
        if found.size < ends[-1]:
            # Up to where the layer below came. What was cut beyond it was in vain: less of it the next time.
            last = int(np.searchsorted(ends, found.size))
            count = int(np.flatnonzero(base)[last]) + 1
            self._many = max(_FEW, min(self._many, 2 * count))
            cut, base, ends = cut.before(count), base[:count], ends[: last + 1]
            cut.lengths[-1] -= ends[-1] - found.size
            ends[-1] = found.size
        else:
            self._many = min(2 * self._many, _MANY)
        counts = np.diff(np.searchsorted(np.cumsum(found.lengths), ends) + 1, prepend=0)
        return cut.with_in_place(base, found, counts)

    def cut(self, starts: I64, lengths: I64) -> Iterator[tuple[int, Extents]]:
        """What makes these runs in this layer, with the stream of the base that extents may be of."""
        while len(starts):
            block, cut = self._first(starts, lengths)
            yield block.base, cut
            ends = np.cumsum(lengths)
            done = int(np.searchsorted(ends, cut.size, side="right"))
            starts, lengths, ends = starts[done:], lengths[done:], ends[done:]
            if len(starts):
                left = ends[0] - cut.size
                starts = np.concatenate((starts[:1] + lengths[:1] - left, starts[1:]))
                lengths = np.concatenate(([left], lengths[1:]))

    def _first(self, starts: I64, lengths: I64) -> "tuple[_Block, Extents]":
        """As many of these runs as lie in the block of the first one, cut to its extents."""
        block = self._block_at(int(starts[0]))
        end = block.start + block.size
        outside = (starts < block.start) | (starts >= end)
        beyond = starts + lengths > end
        count = len(starts)
        if outside.any():
            count = int(np.argmax(outside))
        if beyond[:count].any():
            count = int(np.argmax(beyond)) + 1
        return block, block.cut(starts[:count], np.minimum(starts[:count] + lengths[:count], end), self._many)

    def _block_at(self, position: int) -> "_Block":
        while position >= self._end:
            self._meet_next_part()
        number = bisect_right(self._starts, position) - 1
        block = self._blocks.get(number)
        if block is None:
            part, section = self._places[number]
            block = _Block(self._part(self._layer, part).data(section))
            self._blocks[number] = block
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return block

    def _meet_next_part(self) -> None:
        part = next(self._parts, None)
        if part is None:
            raise Malformed("a recipe ends before its stream")
        opened = self._part(self._layer, part)
        for number in opened.blocks(self._stream):
            start, size = range_of(opened.data(number)[STREAM_BYTES:])
            if start != self._end or not size:
                raise Malformed("the blocks of a recipe do not follow one another")
            self._starts.append(start)
            self._places.append((part, number))
            self._end += size


def each_extent(extents: Extents) -> Iterator[Extent]:
    """The same, one by one."""
    columns = (column.tolist() for column in extents)
    return (Extent(None if one < 0 else one, start, length) for one, start, length in zip(*columns, strict=True))


class _Block:
    """A decoded block."""

    def __init__(self, data: memoryview) -> None:
        found = decode_columns(data[STREAM_BYTES:])
        self.start, self.size, self.base = found.start, found.size, found.base
        self._laid = Laid(self.start, Extents(found.segments, found.starts, found.lengths))

    def cut(self, starts: I64, ends: I64, most: int) -> Extents:
        """The extents of these runs of the stream, all within the block; of some at the beginning where it is too many.

        That is, more than `most`, but never less than those of one run.
        """
        _, counts = self._laid.touched(starts, ends)
        total = np.cumsum(counts)
        if total[-1] > most:
            count = max(1, int(np.searchsorted(total, most, side="right")))
            starts, ends = starts[:count], ends[:count]
        return self._laid.cut(starts, ends)[0]


class Runs:
    """Runs of bytes of streams, those that adjoin or overlap joined now and then, so that memory stays bounded."""

    def __init__(self) -> None:
        self._runs: dict[int, list[tuple[int, int]]] = {}
        self._count = 0
        self._enough = 2 * MAX_RUNS

    def add(self, stream: int, start: int, end: int) -> None:
        """Raises `Malformed` for more than a snapshot may need."""
        self._runs.setdefault(stream, []).append((start, end))
        self._count += 1
        if self._count > self._enough:
            self._runs = self.merged()
            self._count = sum(map(len, self._runs.values()))
            if self._count > MAX_RUNS:
                raise Malformed("a recipe needs more runs of bytes of its base than allowed")

    def merged(self) -> dict[int, list[tuple[int, int]]]:
        """The runs of each stream, in order."""
        merged = {}
        for stream, runs in self._runs.items():
            runs.sort()
            joined = [runs[0]]
            for start, end in runs:
                if start > joined[-1][1]:
                    joined.append((start, end))
                elif end > joined[-1][1]:
                    joined[-1] = (joined[-1][0], end)
            merged[stream] = joined
        return merged
