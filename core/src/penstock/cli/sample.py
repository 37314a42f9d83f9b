"""The database of the demo: a shop with orders, made up the same way every time."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

__all__ = ["SampleDatabase"]

_SEED = 20240229
_WORDS = ("tea", "kettle", "copper", "lamp", "garden", "chair", "blue", "paper", "winter", "bread", "stone", "glass")
_STATES = ("placed", "paid", "packed", "sent")
_INSERT = "INSERT INTO orders (customer, state, placed, cents, note) VALUES (?, ?, ?, ?, ?)"


class SampleDatabase:
    """A table of orders in `path`; `rows` of them at first."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.rows = rows
        self._random = random.Random(_SEED)

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self.path.stat().st_size

    def create(self) -> int:
        """Make it; the number of rows."""
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, state TEXT NOT NULL,"
                " placed INTEGER NOT NULL, cents INTEGER NOT NULL, note TEXT NOT NULL)"
            )
            database.executemany(_INSERT, self._orders(self.rows))
            database.execute("CREATE INDEX orders_customer ON orders (customer)")
        return self.rows

    def change_one_percent(self) -> dict[str, int]:
        """A day in the shop: of one percent of the rows, half are new, and half are recent ones that move on."""
        half = max(1, self.rows // 200)
        with closing(sqlite3.connect(self.path)) as database, database:
            recent = range(self.rows - self.rows // 20, self.rows)
            moved = [(self._random.choice(_STATES) + "!", one + 1) for one in self._random.sample(recent, half)]
            database.executemany("UPDATE orders SET state = ? WHERE id = ?", moved)
            database.executemany(_INSERT, self._orders(half))
        return {"updated": half, "inserted": half}

    def copy(self, to: Path) -> Path:
        """A copy of the file, to compare with later."""
        shutil.copyfile(self.path, to)
        return to

    def same_rows(self, one: Path, other: Path) -> int | None:
        """Compare all rows of two copies, in order; their number, or None when any differs."""
        query = "SELECT * FROM orders ORDER BY id"
        with closing(sqlite3.connect(one)) as left, closing(sqlite3.connect(other)) as right:
            count = 0
            rights = iter(right.execute(query))
            for row in left.execute(query):
                if row != next(rights, None):
                    return None
                count += 1
            return count if next(rights, None) is None else None

    def _orders(self, number: int) -> Iterator[tuple[str, str, int, int, str]]:
        random = self._random
        for _ in range(number):
            yield (
                f"customer-{random.randrange(5000):04}",
                random.choice(_STATES),
                1_700_000_000 + random.randrange(10_000_000),
                random.randrange(100, 100_000),
                " ".join(random.choices(_WORDS, k=8)) + f" {random.getrandbits(64):016x}",
            )
