"""A SQLite database of a million rows and one index, as Penstock dumps it: its file.

Every day 1,000 rows are updated in place, chosen at random, and 2,000 added; their entries in the index come between
others.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from benchmarks.kinds.kind import Changing, write_dump
from benchmarks.kinds.words import Chance

from penstock_sqlite.settings import SqliteSettings
from penstock_sqlite.source import SqliteSource

__all__ = ["pages", "sqlite"]

_PAGE = 4096
_ROWS = 1_000_000
_UPDATES = 1_000
_INSERTS = 2_000
_TABLES = """
CREATE TABLE events (id INTEGER PRIMARY KEY, at INTEGER, level INTEGER, amount REAL, token TEXT, message TEXT);
CREATE INDEX events_by_token ON events (token);
"""


@contextmanager
def sqlite() -> Iterator[Changing]:
    """In a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "nights.sqlite3"
        with closing(sqlite3.connect(place)) as database:
            database.execute(f"PRAGMA page_size = {_PAGE}")
            database.executescript(_TABLES)
            changing = _SQLite(place, database)
            changing.insert(Chance(1), _ROWS)
            yield changing


def pages(dump: BinaryIO) -> Iterator[bytes]:
    """The pages of a database file."""
    return iter(partial(dump.read, _PAGE), b"")


class _SQLite(Changing):
    def __init__(self, place: Path, database: sqlite3.Connection) -> None:
        self._place = place
        self._database = database

    def change(self, night: int) -> None:
        chance = Chance(night)
        with self._database:
            self._database.executemany(
                "UPDATE events SET level = ?, amount = ? WHERE id = ?",
                [(chance.randrange(2, 100), chance.random(), chance.randrange(1, _ROWS + 1)) for _ in range(_UPDATES)],
            )
        self.insert(chance, _INSERTS)

    def insert(self, chance: Chance, count: int) -> None:
        """Add so many rows."""
        rows = (
            (
                1_767_225_600_000 + chance.randrange(10**10),
                chance.randrange(2, 100),
                chance.random(),
                chance.hexadecimal(24),
                chance.words(9),
            )
            for _ in range(count)
        )
        with self._database:
            self._database.executemany(
                "INSERT INTO events (at, level, amount, token, message) VALUES (?, ?, ?, ?, ?)", rows
            )

    def dump(self, place: Path) -> bytes:
        return write_dump(SqliteSource(SqliteSettings(path=self._place)), place)
