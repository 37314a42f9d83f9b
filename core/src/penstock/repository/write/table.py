"""The segment table of a snapshot as a writer makes it: a row for each pack, a number for each segment."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice

from penstock.format.pack import MAX_SEGMENTS, SegmentId
from penstock.format.part import Row
from penstock.repository.known.known_pack import Origin
from penstock.repository.known.past import PastRow
from penstock.repository.temporary import TemporaryTables

__all__ = ["TableBuilder"]

_SCHEMA = """
CREATE TABLE rows (
    number INTEGER PRIMARY KEY,
    pack BLOB NOT NULL UNIQUE,
    pin BLOB NOT NULL,
    segments INTEGER NOT NULL,
    writer BLOB NOT NULL,
    sessions BLOB NOT NULL,
    used BLOB NOT NULL
);
"""
#: Rows in memory: a stream comes back to the same packs.
_KEPT = 1024
_PAGE = 256


class TableBuilder:
    """Numbers segments as they are used. Its rows begin at `first`: writers side by side take numbers far apart.

    It goes on with the rows of a past snapshot, whose numbers are below `first`. A terabyte has some 60,000 rows: all
    but the latest to be used are in a temporary file.
    """

    def __init__(self, first: int, past: Iterable[PastRow] = ()) -> None:
        #: The number of the next row.
        self.next = first
        self._tables = TemporaryTables(_SCHEMA)
        #: The latest to be used last; and by their numbers.
        self._rows: OrderedDict[bytes, _Row] = OrderedDict()
        self._numbered: dict[int, _Row] = {}
        #: Those of packs that were being written when they were last looked at.
        self._open: list[_Row] = []
        rows = iter(past)
        while some := list(islice(rows, _PAGE)):
            self._tables.change_all("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?, ?, x'')", some)

    def number(self, pack: Origin, segment: SegmentId) -> int:
        """The number of a segment, which is in this pack."""
        row = self._rows.get(segment.pack)
        if row is None:
            row = self._find("pack = ?", segment.pack) or self._new(pack, segment.pack)
        self._rows.move_to_end(segment.pack)
        return row.number * MAX_SEGMENTS + segment.ordinal

    def use(self, numbers: Iterable[int]) -> None:
        """The snapshot needs the segments with these numbers."""
        for number in numbers:
            row, ordinal = divmod(number, MAX_SEGMENTS)
            self._row(row).used |= 1 << ordinal

    def origin(self, number: int) -> tuple[bytes, bytes]:
        """The pack of the row with this number, and its pin; b"" while it is being written."""
        row = self._row(number)
        row.settled()
        return row.pack, row.pin

    def row(self, number: int) -> PastRow | None:
        """The row with this number of the past snapshot."""
        found = self._tables.rows(
            "SELECT number, pack, pin, segments, writer, sessions FROM rows WHERE number = ?", (number,)
        )
        return PastRow(*found[0]) if found else None

    def pin(self, pack: bytes) -> bytes | None:
        """The pin of a pack of the past snapshot."""
        found = self._tables.rows("SELECT pin FROM rows WHERE pack = ?", (pack,))
        return found[0][0] if found else None

    def _row(self, number: int) -> "_Row":
        row = self._numbered.get(number) or self._find("number = ?", number)
        assert row is not None
        return row

    def _find(self, which: str, value: bytes | int) -> "_Row | None":
        query = f"SELECT number, pack, pin, segments, writer, sessions, used FROM rows WHERE {which}"  # noqa: S608
        found = self._tables.rows(query, (value,))
        if not found:
            return None
        ((number, name, pin, segments, writer, sessions, used),) = found
        row = _Row(number, name, None, pin, segments, writer, sessions, int.from_bytes(used, "little"))
        self._keep(row)
        return row

    def _new(self, pack: Origin, name: bytes) -> "_Row":
        row = _Row(self.next, name, pack, writer=pack.writer, sessions=b"".join(sorted(pack.sessions)))
        self.next += 1
        # Some may be closed by now: then their chunks need not stay.
        self._open = [one for one in (*self._open, row) if not one.settled()]
        self._keep(row)
        return row

    def _keep(self, row: "_Row") -> None:
        if len(self._rows) >= _KEPT:
            oldest = islice(self._rows.items(), _KEPT // 2)
            self._put_away([one for one, kept in oldest if kept.settled()])
        self._rows[row.pack] = self._numbered[row.number] = row

    def _put_away(self, packs: list[bytes]) -> None:
        rows = [self._rows.pop(pack) for pack in packs]
        for row in rows:
            del self._numbered[row.number]
        self._tables.change_all(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (row.number, row.pack, row.pin, row.segments, row.writer, row.sessions, _packed(row.used))
                for row in rows
            ],
        )

    def rows(self) -> Iterator[tuple[Row, PastRow]]:
        """All rows of which a segment is used, once every pack is closed; and what the next run has to know of each."""
        settled = [row.settled() for row in self._rows.values()]
        assert all(settled)
        self._put_away(list(self._rows))
        last = -1
        query = (
            "SELECT number, pack, pin, segments, writer, sessions, used FROM rows"
            " WHERE number > ? AND used != x'' ORDER BY number LIMIT ?"
        )
        while page := self._tables.rows(query, (last, _PAGE)):
            for *noted, data in page:
                past = PastRow(*noted)
                last, used = past.number, int.from_bytes(data, "little")
                ordinals = frozenset(n for n in range(past.segments) if used >> n & 1)
                yield Row(last, past.pack, past.pin, past.segments, ordinals), past


def _packed(used: int) -> bytes:
    """A bit for each segment, in as few bytes as it takes."""
    return used.to_bytes(-(-used.bit_length() // 8), "little")


class _Row:
    """A row in memory. `used` has a bit for each segment."""

    __slots__ = ("_open", "number", "pack", "pin", "segments", "sessions", "used", "writer")

    def __init__(
        self,
        number: int,
        pack: bytes,
        known: Origin | None,
        pin: bytes = b"",
        segments: int = 0,
        writer: bytes = b"",
        sessions: bytes = b"",
        used: int = 0,
    ) -> None:
        self.number = number
        self.pack = pack
        self.used = used
        self.pin = pin
        self.segments = segments
        self.writer = writer
        self.sessions = sessions
        self._open = known

    def settled(self) -> bool:
        """Keep pin and number of segments, and let go of the pack; False for one that is being written: it has none."""
        if self._open is not None and self._open.pin is not None:
            self.pin, self.segments, self._open = self._open.pin, self._open.segments, None
        return self._open is None
