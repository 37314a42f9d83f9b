"""The segment table of a snapshot as a reader asks it: which segment has a number, and what pins its pack."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from penstock.format.encoding import Malformed
from penstock.format.pack import MAX_SEGMENTS, SegmentId
from penstock.format.part import Row
from penstock.repository.temporary import TemporaryTables

__all__ = ["SegmentTable"]

_SCHEMA = """
CREATE TABLE rows (number INTEGER PRIMARY KEY, pack BLOB NOT NULL, used BLOB NOT NULL);
CREATE TABLE packs (pack BLOB PRIMARY KEY, pin BLOB NOT NULL, segments INTEGER NOT NULL, used BLOB NOT NULL)
    WITHOUT ROWID;
"""
_PAGE = 256
#: Rows in memory: a stream comes back to the same packs.
_KEPT = 1024


class SegmentTable:
    """The segments of a snapshot by number. For any number of threads.

    A terabyte has some 60,000 rows: all but the latest to be asked for are in a temporary file.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._tables = TemporaryTables(_SCHEMA)
        self._row = lru_cache(_KEPT)(self._find_row)
        for row in rows:
            self._add(row)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._row.cache_clear()
        self._tables.close()

    def _add(self, row: Row) -> None:
        """Raises `Malformed` for a row that contradicts another."""
        tables, used = self._tables, sum(1 << ordinal for ordinal in row.used)
        numbered = (row.number, row.pack, _packed(used))
        if not tables.change("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", numbered):
            ((pack, known),) = tables.rows("SELECT pack, used FROM rows WHERE number = ?", (row.number,))
            if pack != row.pack:
                raise Malformed("two rows of the segment table have one number")
            both = _packed(_bits(known) | used)
            tables.change("UPDATE rows SET used = ? WHERE number = ?", (both, row.number))
        values = (row.pack, row.pin, row.segments, _packed(used))
        if not tables.change("INSERT OR IGNORE INTO packs VALUES (?, ?, ?, ?)", values):
            ((pin, segments, known),) = tables.rows("SELECT pin, segments, used FROM packs WHERE pack = ?", (row.pack,))
            if (pin, segments) != (row.pin, row.segments):
                raise Malformed("the segment table has two pins of one pack")
            tables.change("UPDATE packs SET used = ? WHERE pack = ?", (_packed(_bits(known) | used), row.pack))

    def _find_row(self, number: int) -> tuple[bytes, int] | None:
        rows = self._tables.rows("SELECT pack, used FROM rows WHERE number = ?", (number,))
        return (rows[0][0], _bits(rows[0][1])) if rows else None

    def find(self, number: int) -> SegmentId:
        """The segment with this number; raises `Malformed` unless the row with its number says that it is needed."""
        row, ordinal = divmod(number, MAX_SEGMENTS)
        found = self._row(row)
        if found is None or not found[1] >> ordinal & 1:
            raise Malformed("a recipe asks for a segment that the snapshot does not list")
        return SegmentId(found[0], ordinal)

    def pin(self, pack: bytes) -> tuple[bytes, int]:
        """The pin of a pack of the table, and how many segments its places have."""
        ((pin, segments),) = self._tables.rows("SELECT pin, segments FROM packs WHERE pack = ?", (pack,))
        return pin, segments

    def needed(self, pack: bytes) -> int:
        """A bit for each segment of a pack that any row needs; none for a pack that is not in the table."""
        rows = self._tables.rows("SELECT used FROM packs WHERE pack = ?", (pack,))
        return _bits(rows[0][0]) if rows else 0

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """The number and the pack of each row, in order."""
        last = -1
        while page := self._tables.rows(
            "SELECT number, pack FROM rows WHERE number > ? ORDER BY number LIMIT ?", (last, _PAGE)
        ):
            yield from page
            last = page[-1][0]

    def used(self) -> Iterator[tuple[bytes, int]]:
        """The packs of which segments are needed, in order, with a bit for each segment that any row needs."""
        last = b""
        while page := self._tables.rows(
            "SELECT pack, used FROM packs WHERE pack > ? AND used != x'' ORDER BY pack LIMIT ?", (last, _PAGE)
        ):
            for last, used in page:
                yield last, _bits(used)


def _packed(used: int) -> bytes:
    """A bit for each segment, in as few bytes as it takes."""
    return used.to_bytes(-(-used.bit_length() // 8), "little")


def _bits(packed: bytes) -> int:
    return int.from_bytes(packed, "little")
