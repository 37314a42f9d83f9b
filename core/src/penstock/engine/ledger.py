"""What a check has to remember of a whole repository, in a temporary file: memory does not grow with either."""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import TracebackType
from typing import Self

from penstock.api.errors import PenstockError
from penstock.api.models import ObjectInfo

__all__ = ["Ledger"]

_SCHEMA = """
CREATE TABLE objects (key TEXT PRIMARY KEY, size INTEGER NOT NULL, good INTEGER) WITHOUT ROWID;
CREATE TABLE segments (pack BLOB PRIMARY KEY, held BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE findings (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_CACHE_KIB = 8 * 1024
_PAGE = 1000
#: Packs whose segments are kept in memory: snapshots come back to the same ones.
_PACKS = 256


class Ledger:
    """Which objects there are, what was found wrong, and what packs hold. Used by one thread, as a context manager.

    Leaving the block turns SQLite's errors, such as a full disk, into a `PenstockError`.
    """

    def __init__(self) -> None:
        # Without a name: SQLite keeps it in memory as long as it is small, then in a file that nobody else can open.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        #: Segments by number in a pack, and their chunks; None for a pack that is gone or damaged.
        self.segments = lru_cache(_PACKS)(self._segments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.segments.cache_clear()
        self._db.close()
        if isinstance(error, sqlite3.Error):
            raise PenstockError(
                f"the temporary file of the check cannot be used: {error}", hint="Set TMPDIR to a folder with room."
            ) from error

    # objects

    def add(self, objects: Iterable[ObjectInfo]) -> None:
        """Note that these objects exist."""
        rows = ((info.key, info.size) for info in objects)
        self._db.executemany("INSERT OR REPLACE INTO objects (key, size) VALUES (?, ?)", rows)

    def holds(self, key: str) -> bool:
        """Whether the object is known to exist."""
        return self._db.execute("SELECT 1 FROM objects WHERE key = ?", (key,)).fetchone() is not None

    def judge(self, key: str, *, good: bool) -> None:
        """Note that the object was looked at."""
        self._db.execute(
            "INSERT INTO objects VALUES (?, 0, ?) ON CONFLICT (key) DO UPDATE SET good = excluded.good", (key, good)
        )

    def judged(self, key: str) -> bool | None:
        """Whether the object was found good; None for one that was not looked at."""
        row = self._db.execute("SELECT good FROM objects WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else bool(row[0])

    def under(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys start with `prefix`, in their order; others may be noted meanwhile."""
        last = prefix
        while rows := self._db.execute(
            "SELECT key, size FROM objects WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
            (last, prefix + "\x7f", _PAGE),
        ).fetchall():
            yield from (ObjectInfo(key, size) for key, size in rows)
            last = rows[-1][0]

    def count(self, prefix: str, *, good: bool = False) -> tuple[int, int]:
        """How many objects' keys start with `prefix`, and their bytes; with `good`, only those found good."""
        count, size = self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE key > ? AND key < ? AND (good = 1 OR NOT ?)",
            (prefix, prefix + "\x7f", good),
        ).fetchone()
        return count, size

    # findings

    def find(self, key: str) -> bool:
        """Note that something is wrong with an object; whether that is new."""
        return self._db.execute("INSERT OR IGNORE INTO findings VALUES (?)", (key,)).rowcount > 0

    def found(self, key: str) -> bool:
        """Whether something is known to be wrong with an object."""
        return self._db.execute("SELECT 1 FROM findings WHERE key = ?", (key,)).fetchone() is not None

    # packs

    def add_pack(self, pack: bytes, held: "array[int]") -> None:
        """Note the segments that were born in a pack and are there: number and chunks of each, one after the other."""
        self._db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (pack, held.tobytes()))

    def _segments(self, pack: bytes) -> dict[int, int] | None:
        row = self._db.execute("SELECT held FROM segments WHERE pack = ?", (pack,)).fetchone()
        if row is None:
            return None
        held = array("I")
        held.frombytes(row[0])
        return dict(zip(held[::2], held[1::2], strict=True))

    # what was seen before

    def expect(self, keys: Iterable[str]) -> None:
        """Note objects that were seen before this check."""
        self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((key,) for key in keys))

    def vanished(self) -> Iterator[str]:
        """Those of them that do not exist any more."""
        rows = self._db.execute("SELECT key FROM seen WHERE key NOT IN (SELECT key FROM objects) ORDER BY key")
        yield from (key for (key,) in rows)

    def unseen(self) -> Iterator[list[str]]:
        """The objects that exist, were not seen before, and that nothing is wrong with; some at a time."""
        rows = self._db.execute("SELECT key FROM objects EXCEPT SELECT key FROM seen EXCEPT SELECT key FROM findings")
        while page := rows.fetchmany(_PAGE):
            yield [key for (key,) in page]
