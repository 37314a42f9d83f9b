"""Recipes as a reader needs them: what makes a run of a stream, through all layers, many extents at once."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from penstock.format.encoding import Malformed
from penstock.format.manifest import StreamRecord
from penstock.format.recipe import MAX_RUNS, Extent, decode_columns, range_of
from penstock.repository.extents import I64, Extents, Laid, concatenated
from penstock.repository.read.parts import STREAM_BYTES, OpenedPart

__all__ = ["Layers", "Recipe", "Runs", "each_extent"]

#: Bytes of decoded blocks of recipes that are kept, of all layers: those where runs end and the next ones begin. One of
#: 4,096 extents takes 128 KiB, one of a stranger 1 MiB.
_KEPT = 8 * 1024 * 1024
#: Runs that go back, of those that are cut at once, up to which they are taken as they come.
_BACK = 64
#: Extents that are resolved at once, about: of all layers, and this share of each that would be left with fewer.
_MANY = 1 << 15
_SHARE = 8
#: Bytes of a stream that are resolved at once, at first.
_BYTES = 64 * 1024 * 1024


class Cut(NamedTuple):
    """What makes some runs of a stream: `extents`, so many for each run in `counts`; the first is the run `first`.

    Where an extent has no segment, it is of the stream `base` of the layer below.
    """

    base: int
    first: int
    counts: I64
    extents: Extents


class Recipe:
    """The recipe of one stream in one layer.

    `part` opens a part by its layer and number, and raises what it likes. `record` is the stream that is read, `stream`
    the number that its bytes have in this layer. `blocks` are those that are kept, of all layers.
    """

    def __init__(
        self,
        part: Callable[[int, int], OpenedPart],
        record: StreamRecord,
        layer: int,
        stream: int,
        blocks: "Blocks | None" = None,
    ) -> None:
        self._part = part
        self._layer = layer
        self._stream = stream
        self._parts = iter(record.recipe[layer] if layer < len(record.recipe) else ())
        #: Where the blocks begin that were met so far, and where each is: part, section.
        self._starts: list[int] = []
        self._places: list[tuple[int, int]] = []
        self._end = 0
        self._blocks = Blocks() if blocks is None else blocks

    def cut(self, starts: I64, lengths: I64, most: int | None = None) -> Iterator[Cut]:
        """What makes these runs in this layer, up to `most` extents at once; a run may go on in the next.

        Raises `Malformed`.
        """
        most = most or _MANY
        first, together = 0, most
        while first < len(starts):
            some = slice(first, first + together)
            found = None
            if np.count_nonzero(np.diff(starts[some]) < 0) > _BACK:
                found = self._sorted(starts[some], lengths[some], most)
                if found is None:
                    together = max(1, min(together, len(starts) - first) // 2)
                    continue
            for cut in self._in_order(starts[some], lengths[some], most) if found is None else (found,):
                yield cut._replace(first=first + cut.first)
            first += len(starts[some])

    def _sorted(self, starts: I64, lengths: I64, most: int) -> Cut | None:
        """What makes these runs, each block looked at once: rows may have been in quite another order the night before.

        None where it is more extents than `most`, or of several streams of the layer below.
        """
        order = np.argsort(starts, kind="stable")
        cuts: list[Cut] = []
        size = 0
        for cut in self._in_order(starts[order], lengths[order], most):
            cuts.append(cut)
            size += len(cut.extents.segments)
            if size > most or cut.base != cuts[0].base:
                return None
        runs = np.concatenate([np.repeat(order[cut.first : cut.first + len(cut.counts)], cut.counts) for cut in cuts])
        back = np.argsort(runs, kind="stable")
        extents = concatenated(cut.extents for cut in cuts)
        counts = np.bincount(runs, minlength=len(starts))
        return Cut(cuts[0].base, 0, counts, Extents(*(column[back] for column in extents)))

    def _in_order(self, starts: I64, lengths: I64, most: int) -> Iterator[Cut]:
        starts, lengths = starts.copy(), lengths.copy()
        first = 0
        while first < len(starts):
            block = self._block_at(int(starts[first]))
            some = slice(first, first + most)
            extents, counts = block.cut(starts[some], starts[some] + lengths[some], most)
            yield Cut(block.base, first, counts, extents)
            done = extents.size - int(lengths[first : first + len(counts) - 1].sum())
            first += len(counts) - 1
            starts[first] += done
            lengths[first] -= done
            first += not lengths[first]

    def _block_at(self, position: int) -> "_Block":
        while position >= self._end:
            self._meet_next_part()
        number = bisect_right(self._starts, position) - 1
        part, section = place = self._places[number]
        return self._blocks.get((self._layer, *place), lambda: _Block(self._part(self._layer, part).data(section)))

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
        #: Bytes that it takes: four columns.
        self.weight = 4 * 8 * len(found.segments)

    def cut(self, starts: I64, ends: I64, most: int) -> tuple[Extents, I64]:
        """The extents of the first of these runs of the stream, how many make each, and so of how many runs they are.

        They go on until a run does not begin in the block, or there are more than `most` extents. The last run may be
        cut off: where the block ends, or at the last extent.
        """
        end = self.start + self.size
        outside = (starts < self.start) | (starts >= end)
        beyond = ends > end
        count = int(np.argmax(outside)) if outside.any() else len(starts)
        if beyond[:count].any():
            count = int(np.argmax(beyond)) + 1
        starts, ends = starts[:count], np.minimum(ends[:count], end)
        touched, counts = self._laid.touched(starts, ends)
        total = np.cumsum(counts)
        if total[-1] > most:
            count = max(1, int(np.searchsorted(total, most, side="right")))
            if total[0] > most:
                ends[0] = self._laid.edges[touched[0] + most]
        return self._laid.cut(starts[:count], ends[:count])


class Blocks:
    """Decoded blocks, by layer, part and section: those that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int, int], _Block] = OrderedDict()
        self._size = 0

    def get(self, place: tuple[int, int, int], made: Callable[[], _Block]) -> _Block:
        """The block of that place, made if it is not kept."""
        block = self._kept.get(place)
        if block is None:
            block = self._kept[place] = made()
            self._size += block.weight
            while self._size > _KEPT and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1].weight
        self._kept.move_to_end(place)
        return block


class Layers:
    """The recipe of one stream through all layers, or through those above `floor`, many extents at once."""

    def __init__(
        self,
        part: Callable[[int, int], OpenedPart],
        record: StreamRecord,
        stream: int,
        floor: int | None = None,
    ) -> None:
        self._part = part
        self._record = record
        self._stream = stream
        self._floor = floor
        self._recipes: dict[tuple[int, int], Recipe] = {}
        self._blocks = Blocks()
        #: Bytes that are resolved at once: what was possible the last time, or somewhat more.
        self._bytes = _BYTES

    def cuts(self) -> Iterator[Extents]:
        """The extents of the stream, all of segments, but for runs of stream n of `floor`: they have segment -1 - n.

        Raises `Malformed`.
        """
        if self._record.size:
            yield from self.cuts_of(np.array([0]), np.array([self._record.size]))

    def cuts_of(self, starts: I64, lengths: I64) -> Iterator[Extents]:
        """The same of these runs of the stream, one behind the other."""
        while len(starts):
            ends = np.cumsum(lengths)
            first = slice(int(np.searchsorted(ends, self._bytes)) + 1)
            some = lengths[first].copy()
            some[-1] -= max(0, int(some.sum()) - self._bytes)
            found = self._resolved(starts[first], some)
            yield found
            done, wanted = found.size, int(some.sum())
            self._bytes = done if done < wanted else self._bytes + self._bytes // 4 + 1
            rest = slice(int(np.searchsorted(ends, done, side="right")), None)
            starts, lengths = starts[rest].copy(), lengths[rest].copy()
            if len(starts):
                left = int(ends[rest][0]) - done
                starts[0] += lengths[0] - left
                lengths[0] = left

    def _resolved(self, starts: I64, lengths: I64) -> Extents:
        """What makes these runs of the stream, or as much from their beginning on as is possible.

        Each layer has to make the runs that the one above it left to it. Of what it makes of segments itself only the
        place is kept, until the last layer has come to an end: that of one which comes less far bounds all.
        """
        places = np.cumsum(lengths) - lengths
        pieces: list[tuple[I64, Extents]] = []
        layer, stream, count, reached = 0, self._stream, 0, int(lengths.sum())
        while len(starts):
            if layer == self._floor:
                pieces.append((places, Extents(np.full(len(starts), -1 - stream), starts, lengths)))
                break
            most = max(_MANY - count, _MANY // _SHARE, 1)
            base, counts, cut = self._cut(layer, stream, starts, lengths, most)
            ends = np.cumsum(lengths)
            stops = np.cumsum(cut.lengths)
            done = int(stops[-1])
            if done < ends[-1]:
                run = int(np.searchsorted(ends, done, side="right"))
                reached = int(places[run] + lengths[run] - (ends[run] - done))
            begins = stops - cut.lengths + np.repeat(places - ends + lengths, counts)
            below = cut.segments < 0
            own = ~below
            pieces.append((begins[own], Extents(*(column[own] for column in cut))))
            count += len(pieces[-1][0])
            starts, lengths, places = cut.starts[below], cut.lengths[below], begins[below]
            layer, stream = layer + 1, base
        begins = np.concatenate([begin for begin, _ in pieces])
        order = np.argsort(begins)
        order = order[: int(np.searchsorted(begins, reached, sorter=order))]
        return Extents(*(column[order] for column in concatenated(extents for _, extents in pieces)))

    def _cut(self, layer: int, stream: int, starts: I64, lengths: I64, most: int) -> tuple[int, I64, Extents]:
        """What makes these runs, or some at the beginning, in a layer; the stream of the base; extents of each run."""
        recipe = self._recipes.get((layer, stream))
        if recipe is None:
            recipe = self._recipes[layer, stream] = Recipe(self._part, self._record, layer, stream, self._blocks)
        counts = np.zeros(len(starts), dtype=np.int64)
        found: list[Cut] = []
        size = 0
        for cut in recipe.cut(starts, lengths, most):
            if found and cut.base != found[0].base:
                break
            found.append(cut)
            counts[cut.first : cut.first + len(cut.counts)] += cut.counts
            size += len(cut.extents.segments)
            if size >= most:
                break
        return found[0].base, counts, concatenated(cut.extents for cut in found)


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
