"""The segment table of a snapshot as a writer makes it: a row for each pack, a number for each segment."""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from penstock.format.pack import MAX_SEGMENTS, SegmentId
from penstock.format.part import Row
from penstock.repository.known.sparse_index import KnownPack
from penstock.repository.temporary import TemporaryTables

__all__ = ["TableBuilder"]

_SCHEMA = """
CREATE TABLE rows (
    number INTEGER PRIMARY KEY,
    pack BLOB NOT NULL UNIQUE,
    pin BLOB NOT NULL,
    segments INTEGER NOT NULL,
    used BLOB NOT NULL
);
"""
#: Rows in memory: a stream comes back to the same packs.
_KEPT = 1024
_PAGE = 256


class TableBuilder:
    """Numbers segments as they are used. Its rows begin at `first`: writers side by side take numbers far apart.

    A terabyte has some 60,000 rows: all but the latest to be used are in a temporary file.
    """

    def __init__(self, first: int) -> None:
        self._next = first
        self._tables = TemporaryTables(_SCHEMA)
        #: The latest to be used last.
        self._rows: OrderedDict[bytes, _Row] = OrderedDict()
        #: Those of packs that were being written when they were last looked at.
        self._open: list[_Row] = []
        #: The sessions whose data keys seal what is used.
        self.sessions: set[bytes] = set()

    def number(self, pack: KnownPack, segment: SegmentId) -> int:
        """The number of a segment, which is in this pack."""
        row = self._rows.get(segment.pack) or self._row(pack, segment.pack)
        self._rows.move_to_end(segment.pack)
        row.used |= 1 << segment.ordinal
        return row.number * MAX_SEGMENTS + segment.ordinal

    def _row(self, pack: KnownPack, name: bytes) -> "_Row":
        found = self._tables.rows("SELECT number, pin, segments, used FROM rows WHERE pack = ?", (name,))
        if found:
            ((number, pin, segments, used),) = found
            row = _Row(number, None, pin, segments, int.from_bytes(used, "little"))
        else:
            row = _Row(self._next, pack)
            self._next += 1
            # Some may be closed by now: then their chunks need not stay.
            self._open = [one for one in (*self._open, row) if not one.settled()]
            self.sessions |= pack.sessions
        if len(self._rows) >= _KEPT:
            oldest = islice(self._rows.items(), _KEPT // 2)
            self._put_away([one for one, kept in oldest if kept.settled()])
        self._rows[name] = row
        return row

    def _put_away(self, packs: list[bytes]) -> None:
        rows = [(pack, self._rows.pop(pack)) for pack in packs]
        self._tables.change_all(
            "INSERT OR REPLACE INTO rows (number, pack, pin, segments, used) VALUES (?, ?, ?, ?, ?)",
            [
                (row.number, pack, row.pin, row.segments, row.used.to_bytes(-(-row.used.bit_length() // 8), "little"))
                for pack, row in rows
            ],
        )

    def rows(self) -> Iterator[Row]:
        """All rows, once every pack is closed."""
        settled = [row.settled() for row in self._rows.values()]
        assert all(settled)
        self._put_away(list(self._rows))
        last = -1
        query = "SELECT number, pack, pin, segments, used FROM rows WHERE number > ? ORDER BY number LIMIT ?"
        while page := self._tables.rows(query, (last, _PAGE)):
            for last, pack, pin, segments, data in page:
                used = int.from_bytes(data, "little")
                yield Row(last, pack, pin, segments, frozenset(n for n in range(segments) if used >> n & 1))


class _Row:
    """A row in memory. `used` has a bit for each segment."""

    __slots__ = ("_pack", "number", "pin", "segments", "used")

    def __init__(self, number: int, pack: KnownPack | None, pin: bytes = b"", segments: int = 0, used: int = 0) -> None:
        self.number = number
        self.used = used
        self.pin = pin
        self.segments = segments
        self._pack = pack

    def settled(self) -> bool:
        """Keep pin and number of segments, and let go of the pack; False for one that is being written: it has none."""
        if self._pack is not None and self._pack.pin is not None:
            self.pin, self.segments, self._pack = self._pack.pin, self._pack.segments, None
        return self._pack is None
