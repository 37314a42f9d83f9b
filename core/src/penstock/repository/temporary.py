"""Tables that are as long as a repository is large: in a temporary file, so that memory does not grow with them."""

import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import Any

from penstock.api.errors import PenstockError

__all__ = ["PackSegments", "PackSizes", "TemporaryTables"]

_CACHE_KIB = 256
#: Rows that are in memory at once.
_PAGE = 1000


class TemporaryTables:
    """Tables of SQLite that nobody else can open, for any number of threads.

    They are in memory as long as they are small, then in a file without a name. Raises `PenstockError` where that
    cannot be written.
    """

    def __init__(self, schema: str) -> None:
        self._lock = Lock()
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # Whoever is interrupted, or raises, closes nothing.
        self._end = weakref.finalize(self, self._db.close)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.executescript(schema)
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._end()

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All that a query gives."""
        with self._lock:
            try:
                return self._db.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise _unusable(error) from error

    def change(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """How many rows a statement changes."""
        with self._lock:
            try:
                return self._db.execute(statement, parameters).rowcount
            except sqlite3.Error as error:
                raise _unusable(error) from error

    def change_all(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """The same statement with each of these parameters."""
        with self._lock:
            try:
                self._db.executemany(statement, rows)
            except sqlite3.Error as error:
                raise _unusable(error) from error


def _unusable(error: sqlite3.Error) -> PenstockError:
    return PenstockError(f"a temporary file cannot be used: {error}", hint="Set TMPDIR to a folder with room.")


class PackSizes:
    """Packs that are looked for, and the size in bytes of each that was met. For any number of threads."""

    def __init__(self) -> None:
        self._tables = TemporaryTables("CREATE TABLE packs (pack BLOB PRIMARY KEY, size INTEGER) WITHOUT ROWID")
        #: How many are looked for.
        self.count = 0

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    def add(self, packs: Iterable[bytes]) -> None:
        """Look for these too."""
        for pack in packs:
            self.count += self._tables.change("INSERT OR IGNORE INTO packs VALUES (?, NULL)", (pack,))

    def met(self, found: Iterable[tuple[bytes, int]]) -> None:
        """These packs are there, with these sizes, whether they are looked for or not."""
        rows = [(size, pack) for pack, size in found]
        self._tables.change_all("UPDATE packs SET size = ? WHERE pack = ?", rows)

    def size(self, pack: bytes) -> int | None:
        """The size of a pack that was looked for and met."""
        rows = self._tables.rows("SELECT size FROM packs WHERE pack = ?", (pack,))
        return rows[0][0] if rows else None

    def __iter__(self) -> Iterator[bytes]:
        """All that are looked for, in order."""
        return self._each("pack > ?")

    def missing(self) -> Iterator[bytes]:
        """Those of them that were not met, in order."""
        return self._each("pack > ? AND size IS NULL")

    def _each(self, which: str) -> Iterator[bytes]:
        last = b""
        query = f"SELECT pack FROM packs WHERE {which} ORDER BY pack LIMIT {_PAGE}"  # noqa: S608
        while page := self._tables.rows(query, (last,)):
            yield from (pack for (pack,) in page)
            ((last,),) = page[-1:]


class PackSegments:
    """Packs, and for each the segments of it that are needed: a bit for each, by ordinal. For any number of threads."""

    def __init__(self) -> None:
        self._tables = TemporaryTables("CREATE TABLE packs (pack BLOB PRIMARY KEY, needed BLOB NOT NULL) WITHOUT ROWID")

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    def add(self, found: Iterable[tuple[bytes, int]]) -> None:
        """These are needed too."""
        for pack, needed in found:
            rows = self._tables.rows("SELECT needed FROM packs WHERE pack = ?", (pack,))
            known = int.from_bytes(rows[0][0], "little") if rows else 0
            both = known | needed
            if both != known:
                packed = both.to_bytes(-(-both.bit_length() // 8), "little")
                self._tables.change("INSERT OR REPLACE INTO packs VALUES (?, ?)", (pack, packed))

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """All of them, in order."""
        last = b""
        query = f"SELECT pack, needed FROM packs WHERE pack > ? ORDER BY pack LIMIT {_PAGE}"  # noqa: S608
        while page := self._tables.rows(query, (last,)):
            for last, needed in page:
                yield last, int.from_bytes(needed, "little")
