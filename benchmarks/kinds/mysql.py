"""A MySQL or MariaDB database as Penstock dumps it: `mysqldump` with INSERTs of 4 MB.

Two tables grow at their ends, sessions have keys in no order. Every day 2,000 rows are updated, 500 inserted and 200
deleted, all chosen at random.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from benchmarks.kinds.kind import Changing, write_dump
from benchmarks.kinds.words import Chance
from tests.servers.mysql import MySQLServer, MySQLServers, Vendor

from penstock_mysql.settings import MySQLSettings
from penstock_mysql.source import MySQLSource

__all__ = ["mysql", "rows"]

_DATABASE = "nights"
_PASSWORD = "BENCHMARK_SERVER_PASSWORD"
_TABLES = {
    "orders": "id BIGINT PRIMARY KEY, placed DATETIME(3), customer VARCHAR(80), note TEXT, total DECIMAL(12, 2),"
    " token CHAR(32)",
    "order_lines": "id BIGINT PRIMARY KEY, order_id BIGINT, sku VARCHAR(12), quantity INT, price DECIMAL(10, 2)",
    "sessions": "id CHAR(32) PRIMARY KEY, seen DATETIME(3), address VARCHAR(40), hits INT",
}
_ROWS = {"orders": 600_000, "order_lines": 1_400_000, "sessions": 250_000}
#: A day's updates, inserts and deletes.
_CHANGES = {"orders": (1000, 150, 80), "order_lines": (600, 200, 70), "sessions": (400, 150, 50)}
#: How a row is updated, and which columns of a new row that takes.
_UPDATES = {
    "orders": ("UPDATE orders SET note = %s, total = %s WHERE id = %s", (3, 4)),
    "order_lines": ("UPDATE order_lines SET quantity = %s, price = %s WHERE id = %s", (3, 4)),
    "sessions": ("UPDATE sessions SET seen = %s, hits = %s WHERE id = %s", (1, 3)),
}
_AT_ONCE = 20_000
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_BETWEEN_ROWS = re.compile(rb"(?<=\)),\n?(?=\()")


@contextmanager
def mysql(vendor: Vendor) -> Iterator[Changing]:
    """On the server of that vendor."""
    with closing(MySQLServers()) as servers:
        server = servers.get(vendor)
        with server.database(_DATABASE, "CHARACTER SET utf8mb4"):
            yield _MySQL(server)


def rows(dump: BinaryIO) -> Iterator[bytes]:
    """The rows of a dump; and what is not a row, by lines."""
    for line in dump:
        yield from _BETWEEN_ROWS.split(line.removesuffix(b";\n"))


class _MySQL(Changing):
    def __init__(self, server: MySQLServer) -> None:
        self._server = server
        chance = Chance(1)
        self._ids: dict[str, list[object]] = {}
        self._last = 0
        for table, columns in _TABLES.items():
            server.execute(f"CREATE TABLE {table} ({columns}) CHARACTER SET utf8mb4", _DATABASE)
            self._ids[table] = []
            for _ in range(0, _ROWS[table], _AT_ONCE):
                self._insert(table, chance, _AT_ONCE)

    def change(self, night: int) -> None:
        chance = Chance(night)
        for table, (updates, inserts, deletes) in _CHANGES.items():
            ids = self._ids[table]
            statement, columns = _UPDATES[table]
            changed = []
            for one in chance.sample(ids, updates):
                row = _NEW[table](chance, one)
                changed.append((*(row[column] for column in columns), one))
            gone = set(chance.sample(ids, deletes))
            with self._server.connect(_DATABASE, autocommit=False) as connection, connection.cursor() as cursor:
                cursor.executemany(statement, changed)
                cursor.executemany(f"DELETE FROM {table} WHERE id = %s", [(one,) for one in sorted(gone, key=str)])
                connection.commit()
            self._ids[table] = [one for one in ids if one not in gone]
            self._insert(table, chance, inserts)

    def dump(self, place: Path) -> bytes:
        server = self._server
        os.environ[_PASSWORD] = server.password
        settings = {"host": server.host, "port": server.port, "user": server.user, "password": {"env": _PASSWORD}}
        settings |= {"client_path": server.bin, "database": _DATABASE, "accounts": "no"}
        return write_dump(MySQLSource(MySQLSettings.model_validate(settings)), place)

    def _insert(self, table: str, chance: Chance, count: int) -> None:
        made = []
        for _ in range(count):
            self._last += 1
            made.append(_NEW[table](chance, chance.hexadecimal(32) if table == "sessions" else self._last))
        self._ids[table] += [row[0] for row in made]
        marks = ", ".join(["%s"] * len(made[0]))
        with self._server.connect(_DATABASE) as connection, connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", made)


def _order(chance: Chance, key: object) -> tuple[object, ...]:
    note = chance.words(chance.randrange(20)) or None
    return key, _moment(chance), chance.words(2).title(), note, _amount(chance, 5000), chance.hexadecimal(32)


def _order_line(chance: Chance, key: object) -> tuple[object, ...]:
    sku = chance.hexadecimal(10).upper()
    return key, chance.randrange(_ROWS["orders"]), sku, chance.randrange(1, 10), _amount(chance, 500)


def _session(chance: Chance, key: object) -> tuple[object, ...]:
    address = ".".join(str(chance.randrange(256)) for _ in range(4))
    return key, _moment(chance), address, chance.randrange(1000)


def _moment(chance: Chance) -> datetime:
    return _BEGINNING + timedelta(milliseconds=chance.randrange(10**10))


def _amount(chance: Chance, most: int) -> str:
    return f"{chance.random() * most:.2f}"


_NEW: dict[str, Callable[[Chance, object], tuple[object, ...]]] = {
    "orders": _order,
    "order_lines": _order_line,
    "sessions": _session,
}
