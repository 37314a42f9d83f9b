"""What two snapshots do not have in common, from segment tables and recipes alone: no pack is read.

A segment is known by where it was written first, so what compaction moved is the same still. Two streams have in common
what is made of the same bytes of the same segments, as often as both have it, wherever it stands in them: rows in
another order are the same rows. All else counts as changed, also what was stored once more beside a change: the rest of
a chunk, where a host remembers no rows; or everything, where a backup was renewed.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from penstock.api.errors import DamagedObject
from penstock.format.encoding import Malformed
from penstock.format.manifest import StreamRecord
from penstock.format.pack import MAX_SEGMENTS
from penstock.repository.extents import I64, Extents
from penstock.repository.read.content import Content
from penstock.repository.read.table import SegmentTable
from penstock.repository.temporary import TemporaryTables

__all__ = ["Difference", "Differences"]

_PACKS = "CREATE TABLE packs (number INTEGER PRIMARY KEY, pack BLOB UNIQUE)"
#: Packs in memory: a stream comes back to the same ones.
_PACKS_KEPT = 1024
_STEPS = "CREATE TABLE steps (place INTEGER, at INTEGER, step INTEGER, PRIMARY KEY (place, at)) WITHOUT ROWID"
#: Steps in memory: 24 bytes each, and as much again while they are put in order.
_STEPS_KEPT = 1 << 18
_PAGE = 1 << 14


class Difference(NamedTuple):
    """Bytes of the later of two streams that the earlier does not have, and the other way round."""

    new: int
    gone: int


class Differences:
    """Compares streams of two snapshots, `before` and `after`. Used by one thread at a time."""

    def __init__(self, before: Content, after: Content) -> None:
        self._before = before
        self._after = after
        self._packs = TemporaryTables(_PACKS)
        self._shared = lru_cache(_PACKS_KEPT)(self._find_shared)

    def close(self) -> None:
        """Nothing is compared any more."""
        self._shared.cache_clear()
        self._packs.close()

    def of(self, before: StreamRecord, after: StreamRecord) -> Difference:
        """What became of a stream.

        Raises `MissingObject` and `DamagedObject`, the latter also for a recipe that does not make its stream.
        """
        if (before.size, before.digest) == (after.size, after.digest):
            return Difference(0, 0)
        walks = (_Walk(self._before, before, -1), _Walk(self._after, after, 1))
        with closing(_Steps()) as steps:
            # Side by side, for most of a dump is where it was: so what both have soon comes out even.
            while walk := min((one for one in walks if not one.ended), key=lambda one: one.done, default=None):
                self._go_on(walk, steps)
            found = steps.sums()
        gone, new = (walk.alone for walk in walks)
        return Difference(found.new + new, found.gone + gone)

    def _go_on(self, walk: "_Walk", steps: "_Steps") -> None:
        try:
            cut = walk.next()
            if cut is None:
                return
            places = self._places(walk.table, cut.segments)
        except Malformed as error:
            raise DamagedObject(walk.key, f"the recipe of {walk.name}: {error}") from None
        shared = places >= 0
        walk.alone += int(cut.lengths[~shared].sum())
        steps.add(places[shared], Extents(*(column[shared] for column in cut)), walk.step)

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


class _Walk:
    """The way through one of two streams: `step` for each byte, `done` of them so far."""

    def __init__(self, content: Content, record: StreamRecord, step: int) -> None:
        self._cuts = content.cuts(record)
        self.table = content.table
        self.key = content.key
        self.name = record.name
        self.step = step
        self.done = 0
        self.ended = False
        #: Bytes in segments that the other snapshot does not need.
        self.alone = 0

    def next(self) -> Extents | None:
        """The extents that follow; None at the end. Raises `Malformed`."""
        cut = next(self._cuts, None)
        if cut is None:
            self.ended = True
        else:
            self.done += cut.size
        return cut


class _Steps:
    """How much more often one stream has a byte of a segment than another: where in the segment that changes, by what.

    What both have takes no room, as soon as both have come there; what is left beyond a bound is in a temporary file.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[I64, I64, I64]] = []
        self._count = 0
        self._tables: TemporaryTables | None = None

    def close(self) -> None:
        """Nothing is asked any more."""
        if self._tables is not None:
            self._tables.close()

    def add(self, places: I64, extents: Extents, step: int) -> None:
        """One of them has these runs of the segments at `places`: `step` for each byte."""
        begins = np.full(len(places), step, dtype=np.int64)
        self._kept.append((places, extents.starts, begins))
        self._kept.append((places, extents.starts + extents.lengths, -begins))
        self._count += 2 * len(places)
        if self._count > _STEPS_KEPT:
            self._put_in_order()
            # Else every further one would put nearly as many in order again.
            if self._count > _STEPS_KEPT // 2:
                self._write()

    def sums(self) -> Difference:
        """How often the one has a byte that the other does not, and the other way round."""
        new = gone = 0
        last = np.zeros(1, dtype=np.int64)
        depth = np.zeros(1, dtype=np.int64)
        for at, steps in self._all():
            depths = np.cumsum(np.concatenate((depth, steps)))
            # From one segment to the next the sum is 0, so that it does not matter where in them they are.
            areas = np.diff(np.concatenate((last, at))) * depths[:-1]
            new += int(areas[areas > 0].sum())
            gone -= int(areas[areas < 0].sum())
            last, depth = at[-1:], depths[-1:]
        return Difference(new, gone)

    def _all(self) -> Iterator[tuple[I64, I64]]:
        """Where each step is in its segment, and what it is, in the order of segments."""
        self._put_in_order()
        if self._tables is None:
            yield from ((at, step) for _, at, step in self._kept)
            return
        self._write()
        last = (-1, 0)
        while page := self._tables.rows(
            "SELECT place, at, step FROM steps WHERE (place, at) > (?, ?) ORDER BY place, at LIMIT ?", (*last, _PAGE)
        ):
            last = page[-1][:2]
            columns = np.array(page, dtype=np.int64)
            yield columns[:, 1], columns[:, 2]

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
