"""Which backups need each segment and part of a domain, and since which day: in a temporary file, however many."""

from itertools import islice
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.format.part import Row
from penstock.repository.read.content import each_row, parts_of
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.temporary import TemporaryTables

__all__ = ["Needed", "Needs"]

_SCHEMA = """
CREATE TABLE segments (pack BLOB, backup INTEGER, since BLOB NOT NULL, PRIMARY KEY (pack, backup)) WITHOUT ROWID;
CREATE TABLE parts (part BLOB, backup INTEGER, since INTEGER NOT NULL, PRIMARY KEY (part, backup)) WITHOUT ROWID;
"""
#: In the place of the day: this backup does not need the segment.
_NEVER = (1 << 32) - 1
_DAYS = np.dtype("<u4")
_USE_PART = """
INSERT INTO parts VALUES (?, ?, ?) ON CONFLICT (part, backup) DO UPDATE SET since = min(since, excluded.since)
"""
_PAGE = 1000


class Needed(NamedTuple):
    """One backup's need of some things: which of them it needs, and the day of its first snapshot that does."""

    backup: int
    needed: NDArray[np.bool_]
    since: NDArray[np.uint32]


class Needs:
    """What snapshots need, by the numbers of their backups. Days are `date.toordinal()`. For any number of threads.

    Whoever finds a thing takes it: it is counted once, whatever other copies of it there are.
    """

    def __init__(self) -> None:
        self._tables = TemporaryTables(_SCHEMA)
        self._lock = Lock()

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    def add(self, entry: SnapshotEntry, backup: int, day: int) -> None:
        """All that a snapshot of that day needs. Raises `DamagedObject`, `MissingObject`, `Malformed`."""
        rows = (row for row in each_row(entry) if row.used)
        while page := list(islice(rows, _PAGE)):
            # Once for all of them: threads that take turns row by row spend most of their time on that.
            with self._lock:
                for row in page:
                    self._use(row, backup, day)
        parts = ((ref.part, backup, day) for ref in parts_of(entry))
        while some := list(islice(parts, _PAGE)):
            self._tables.change_all(_USE_PART, some)

    def _use(self, row: Row, backup: int, day: int) -> None:
        used = np.fromiter(row.used, np.intp, len(row.used))
        since = self._since(row.pack, backup)
        if len(since) < row.segments:
            since = np.concatenate((since, np.full(row.segments - len(since), _NEVER, _DAYS)))
        elif (since[used] <= day).all():
            return
        since[used] = np.minimum(since[used], day)
        self._tables.change("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", (row.pack, backup, since.tobytes()))

    def _since(self, pack: bytes, backup: int) -> NDArray[np.uint32]:
        rows = self._tables.rows("SELECT since FROM segments WHERE pack = ? AND backup = ?", (pack, backup))
        return np.frombuffer(rows[0][0] if rows else b"", _DAYS).copy()

    def take_segments(self, pack: bytes, ordinals: NDArray[np.intp]) -> list[Needed]:
        """Who needs these segments, by the pack that they were first written to."""
        found = []
        for backup, packed in self._tables.rows("SELECT backup, since FROM segments WHERE pack = ?", (pack,)):
            days = np.frombuffer(packed, _DAYS).copy()
            there = ordinals < len(days)
            since = np.full(len(ordinals), _NEVER, _DAYS)
            since[there] = days[ordinals[there]]
            found.append(Needed(backup, since != _NEVER, since))
            days[ordinals[there]] = _NEVER
            if (days == _NEVER).all():
                self._tables.change("DELETE FROM segments WHERE pack = ? AND backup = ?", (pack, backup))
            else:
                statement = "UPDATE segments SET since = ? WHERE pack = ? AND backup = ?"
                self._tables.change(statement, (days.tobytes(), pack, backup))
        return found

    def take_part(self, part: bytes) -> list[tuple[int, int]]:
        """The backups that need a part, each with the day since when."""
        found = self._tables.rows("SELECT backup, since FROM parts WHERE part = ?", (part,))
        if found:
            self._tables.change("DELETE FROM parts WHERE part = ?", (part,))
        return found

    def needs_pack(self, pack: bytes) -> bool:
        """Whether a segment is needed that was first written to this pack, and that was not taken."""
        return bool(self._tables.rows("SELECT 1 FROM segments WHERE pack = ? LIMIT 1", (pack,)))

    def left(self) -> tuple[int, int]:
        """How many packs and parts are needed of which something was not taken."""
        ((packs,),) = self._tables.rows("SELECT COUNT(DISTINCT pack) FROM segments")
        ((parts,),) = self._tables.rows("SELECT COUNT(DISTINCT part) FROM parts")
        return packs, parts
