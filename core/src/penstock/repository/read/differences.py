"""What two snapshots do not have in common, from segment tables and recipes alone: no pack is read.

A segment is known by where it was written first, so what compaction moved is the same still. Two streams have in common
what is made of the same bytes of the same segments, as often as both have it, wherever it stands in them: rows in
another order are the same rows. All else counts as changed, also what was stored once more beside a change: the rest of
a chunk, where a host remembers no rows; or everything, where a backup was renewed.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cached_property, lru_cache
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.api.errors import DamagedObject
from penstock.format.encoding import Malformed
from penstock.format.manifest import StreamRecord
from penstock.format.pack import MAX_SEGMENTS
from penstock.repository.extents import I64, Extents
from penstock.repository.read.content import Content
from penstock.repository.read.recipes import Layers
from penstock.repository.read.table import SegmentTable
from penstock.repository.temporary import TemporaryTables

__all__ = ["Difference", "Differences", "TooMany"]

_PACKS = "CREATE TABLE packs (number INTEGER PRIMARY KEY, pack BLOB UNIQUE)"
#: Packs in memory: a stream comes back to the same ones.
_PACKS_KEPT = 1024
_STEPS = "CREATE TABLE steps (place INTEGER, at INTEGER, step INTEGER, PRIMARY KEY (place, at)) WITHOUT ROWID"
#: Ways through streams of a base that are kept open, each with decoded blocks of its recipe: of what is gone, and of
#: what is there once more or twice.
_LAYERS_KEPT = 3
#: Steps in memory: 24 bytes each, and as much again while they are put in order.
_STEPS_KEPT = 1 << 18
_PAGE = 1 << 14


class TooMany(Exception):
    """Two streams are made of more extents than somebody wanted to look at."""


class Difference(NamedTuple):
    """Bytes of the later of two streams that the earlier does not have, and the other way round."""

    new: int
    gone: int


class Differences:
    """Compares streams of two snapshots, `before` and `after`. Used by one thread at a time.

    It looks at `most` extents of all of them, if that is given, and raises `TooMany` where there are more. Where the
    recipes of one go on from the other's, what it left to those is the same: then only what it did not, and what it
    used more than once, is looked for below.
    """

    def __init__(self, before: Content, after: Content, most: int | None = None) -> None:
        self._before = before
        self._after = after
        self._most = most
        self._looked_at = 0
        self._packs = TemporaryTables(_PACKS)
        self._shared = lru_cache(_PACKS_KEPT)(self._find_shared)

    @cached_property
    def _base(self) -> tuple[Content | None, int | None]:
        """That snapshot from whose recipes the other one's go on, and the layer of these that it is."""
        for lower, upper in ((self._before, self._after), (self._after, self._before)):
            floor = _layer_of(lower, upper)
            if floor is not None:
                return lower, floor
        return None, None

    def close(self) -> None:
        """Nothing is compared any more."""
        self._shared.cache_clear()
        self._packs.close()

    def of(
        self, before: StreamRecord, after: StreamRecord, *, on_bytes: Callable[[int], object] = lambda _: None
    ) -> Difference:
        """What became of a stream; `on_bytes` hears, now and then, how far in it the work is.

        Raises `MissingObject` and `DamagedObject`, the latter also for a recipe that does not make its stream.
        """
        if (before.size, before.digest) == (after.size, after.digest):
            return Difference(0, 0)
        base, floor = self._base
        with closing(_Steps()) as steps, closing(_Steps()) as spans:
            walks = []
            for content, record, count in ((self._before, before, -1), (self._after, after, 1)):
                if content is base:
                    if record.size:
                        spans.add(Extents(*np.array([[content.number(record)], [0], [record.size]])), count)
                else:
                    walks.append(_Walk(content, record, floor, count))
            # Side by side, for most of a dump is where it was: so what both have soon comes out even.
            while walk := min((one for one in walks if not one.ended), key=lambda one: one.done, default=None):
                self._go_on(walk, steps, spans)
                on_bytes(min(walk.done, after.size))
            self._go_below(steps, spans)
            return steps.sums()

    def _go_on(self, walk: "_Walk", steps: "_Steps", spans: "_Steps") -> None:
        """The next extents of a stream; those of the base's streams go to `spans`."""
        with walk.recipe():
            cut = walk.next()
            if cut is None:
                return
            self._look_at(cut)
            below = cut.segments < 0
            streams, own = _chosen(cut, below), _chosen(cut, ~below)
            base, _ = self._base
            if base is not None and (~streams.segments >= len(base.manifest.streams)).any():
                raise Malformed("it asks for a stream that its base does not have")
            spans.add(streams._replace(segments=~streams.segments), walk.count)
            self._add(walk.content, own, walk.count, steps)

    def _go_below(self, steps: "_Steps", spans: "_Steps") -> None:
        """What one has of the base's streams and the other does not, or less often, in segments."""
        base, _ = self._base
        if base is None:
            return

        @lru_cache(_LAYERS_KEPT)
        def layers(stream: int, count: int) -> Layers:
            """Of runs that are in order: one way through a stream for each count."""
            del count
            return base.recipe(base.manifest.streams[stream])

        for runs, counts in spans.runs():
            for stream, count in np.unique(np.stack((runs.segments, counts)), axis=1).T.tolist():
                some = _chosen(runs, (runs.segments == stream) & (counts == count))
                with _recipe_of(base, base.manifest.streams[stream]):
                    for cut in layers(stream, count).cuts_of(some.starts, some.lengths):
                        self._look_at(cut)
                        self._add(base, cut, count, steps)

    def _look_at(self, extents: Extents) -> None:
        self._looked_at += len(extents.segments)
        if self._most is not None and self._looked_at > self._most:
            raise TooMany

    def _add(self, content: Content, extents: Extents, count: int, steps: "_Steps") -> None:
        """One stream has these, all of segments: those that the other snapshot does not need have no place."""
        places = self._places(content.table, extents.segments)
        shared = places >= 0
        steps.add_alone(count * int(extents.lengths[~shared].sum()))
        steps.add(_chosen(extents._replace(segments=places), shared), count)

    def _places(self, table: SegmentTable, segments: I64) -> I64:
        """A number for each of these segments, the same in both snapshots; -1 for one that not both need."""
        each, which = np.unique(segments, return_inverse=True)
        found = np.empty(len(each), dtype=np.int64)
        for at, number in enumerate(each.tolist()):
            segment = table.find(number)
            pack, both = self._shared(segment.pack)
            found[at] = pack * MAX_SEGMENTS + segment.ordinal if both >> segment.ordinal & 1 else -1
        return found[which]

    def _find_shared(self, pack: bytes) -> tuple[int, int]:
        """The number of a pack, and a bit for each segment of it that both snapshots need."""
        both = self._before.table.needed(pack) & self._after.table.needed(pack)
        if not both:
            return 0, 0
        self._packs.change("INSERT OR IGNORE INTO packs (pack) VALUES (?)", (pack,))
        ((number,),) = self._packs.rows("SELECT number FROM packs WHERE pack = ?", (pack,))
        return number, both


def _layer_of(lower: Content, upper: Content) -> int | None:
    """In which layer of a snapshot the recipes of another are, if its own go on from them.

    Then the parts below are the same, and the numbers of segments mean the same in both.
    """
    for layer, base in enumerate(upper.entry.head.bases, start=1):
        if (upper.entry.domain.id, base.snapshot) == (lower.entry.domain.id, lower.entry.id):
            below = upper.layers[layer:]
            same = len(below) <= len(lower.layers) and all(
                session == its_session and set(parts) <= set(its_parts)
                for (session, parts), (its_session, its_parts) in zip(below, lower.layers, strict=False)
            )
            return layer if same and _agree(lower.table, upper.table) else None
    return None


def _agree(one: SegmentTable, other: SegmentTable) -> bool:
    """Whether no row is of one pack here, and of another there."""
    rows = groupby(merge(one.rows(), other.rows()), key=itemgetter(0))
    return all(len(set(of_one_number)) == 1 for _, of_one_number in rows)


class _Walk:
    """The way through one of two streams, above `floor`: `count` for each byte, `done` of them so far."""

    def __init__(self, content: Content, record: StreamRecord, floor: int | None, count: int) -> None:
        self.content = content
        self.count = count
        self.done = 0
        self.ended = False
        self._record = record
        self._cuts = content.recipe(record, floor).cuts()

    def recipe(self) -> AbstractContextManager[None]:
        """What is malformed in the block, is so in the recipe."""
        return _recipe_of(self.content, self._record)

    def next(self) -> Extents | None:
        """The extents that follow; None at the end. Raises `Malformed`."""
        cut = next(self._cuts, None)
        if cut is None:
            self.ended = True
        else:
            self.done += cut.size
        return cut


@contextmanager
def _recipe_of(content: Content, record: StreamRecord) -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise DamagedObject(content.key, f"the recipe of {record.name}: {error}") from None


def _chosen(extents: Extents, which: NDArray[np.bool_]) -> Extents:
    return Extents(*(column[which] for column in extents))


class _Steps:
    """How much more often one stream has a byte of a segment than another: where in the segment that changes, by what.

    Of a segment, or of whatever else has numbers and bytes. What both have takes no room, as soon as both have come
    there; what is left beyond a bound is in a temporary file.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[I64, I64, I64]] = []
        self._count = 0
        self._tables: TemporaryTables | None = None
        self._new = self._gone = 0

    def close(self) -> None:
        """Nothing is asked any more."""
        if self._tables is not None:
            self._tables.close()

    def add(self, runs: Extents, count: int) -> None:
        """One of them has these so often: the earlier one, where that is below 0."""
        steps = np.full(len(runs.segments), count, dtype=np.int64)
        self._kept.append((runs.segments, runs.starts, steps))
        self._kept.append((runs.segments, runs.starts + runs.lengths, -steps))
        self._count += 2 * len(steps)
        if self._count > _STEPS_KEPT:
            self._put_in_order()
            # Else every further one would put nearly as many in order again.
            if self._count > _STEPS_KEPT // 2:
                self._write()

    def add_alone(self, size: int) -> None:
        """One of them has so many bytes of which the other has none, below 0 the earlier one."""
        self._new += max(0, size)
        self._gone += max(0, -size)

    def sums(self) -> Difference:
        """How many bytes the later has and the earlier does not, and the other way round; each as often."""
        new, gone = self._new, self._gone
        for runs, counts in self.runs():
            areas = runs.lengths * counts
            new += int(areas[areas > 0].sum())
            gone -= int(areas[areas < 0].sum())
        return Difference(new, gone)

    def runs(self) -> Iterator[tuple[Extents, I64]]:
        """The runs that not both have, in order, and how much more often one of them has each."""
        last = depth = np.zeros(1, dtype=np.int64)
        for places, at, steps in self._all():
            starts = np.concatenate((last, at))
            depths = np.cumsum(np.concatenate((depth, steps)))
            # From one segment to the next the sum is 0, so a run that is left ends in the segment that it begins in.
            left = np.flatnonzero(depths[:-1])
            yield Extents(places[left], starts[left], starts[left + 1] - starts[left]), depths[left]
            last, depth = starts[-1:], depths[-1:]

    def _all(self) -> Iterator[tuple[I64, I64, I64]]:
        """Every step: its segment, where in it, and what it is, in order."""
        self._put_in_order()
        if self._tables is None:
            yield from self._kept
            return
        self._write()
        last = (-1, 0)
        while page := self._tables.rows(
            "SELECT place, at, step FROM steps WHERE (place, at) > (?, ?) ORDER BY place, at LIMIT ?", (*last, _PAGE)
        ):
            last = page[-1][:2]
            places, at, steps = np.array(page, dtype=np.int64).T
            yield places, at, steps

    def _put_in_order(self) -> None:
        """As few of those that are in memory as say the same."""
        if not self._count:
            self._kept = []
            return
        places, at, steps = map(np.concatenate, zip(*self._kept, strict=True))
        order = np.lexsort((at, places))
        places, at = places[order], at[order]
        firsts = np.flatnonzero(np.concatenate(([True], (np.diff(places) != 0) | (np.diff(at) != 0))))
        sums = np.add.reduceat(steps[order], firsts)
        left = sums != 0
        firsts = firsts[left]
        self._kept = [(places[firsts], at[firsts], sums[left])]
        self._count = len(firsts)

    def _write(self) -> None:
        if self._tables is None:
            self._tables = TemporaryTables(_STEPS)
        for columns in self._kept:
            rows = list(zip(*(column.tolist() for column in columns), strict=True))
            statement = "INSERT INTO steps VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET step = step + excluded.step"
            self._tables.change_all(statement, rows)
        self._kept, self._count = [], 0
