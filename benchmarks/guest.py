"""What an application notices of a backup and of a restore: small transactions, and what a migration waits for.

    python -m benchmarks.guest
    python -m benchmarks.guest --engine mysql --no-migrations

Transactions as pgbench's run all the time, and once a second somebody adds a column to a table and drops it, as
migrations do. Beside them run, one after another: nothing, the engine's own dump program, `penstock backup`, and
`penstock restore --clean` into the same database.
"""

import argparse
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psycopg
import pymysql
from benchmarks.plain import ENGINES, Penstock, PlainMySQL, PlainPostgres, private_engine

__all__ = ["main"]

_DATABASE = "shop"
_CLIENTS = 4
_PER_SCALE = 100_000

_Execute = Callable[[str, list[int]], object]


class _Engine(Protocol):
    """A server with the database, for the benchmark alone."""

    dumper: str
    errors: type[Exception]

    def fill(self, scale: int) -> None:
        """Make the database, with pgbench's tables."""

    def session(self) -> AbstractContextManager[_Execute]:
        """A session of the application, that commits each statement."""

    def dump(self) -> object:
        """By the engine's own program."""

    def url(self) -> str:
        """The database, for Penstock."""


class _Postgres:
    dumper: str = "pg_dump"
    errors: type[Exception] = psycopg.Error

    def __init__(self, plain: PlainPostgres, folder: Path) -> None:
        self._plain = plain
        self._archive = folder / "archive"

    def fill(self, scale: int) -> None:
        self._plain.server.execute(f"CREATE DATABASE {_DATABASE}")
        command = self._plain.command("pgbench", "--initialize", "--quiet", f"--scale={scale}", _DATABASE)
        subprocess.run(command, check=True, capture_output=True)

    @contextmanager
    def session(self) -> Iterator[_Execute]:
        with self._plain.server.connect(_DATABASE) as connection:
            yield connection.execute

    def dump(self) -> object:
        return self._plain.run("pg_dump", "--format=custom", "--compress=0", f"--file={self._archive}", _DATABASE)

    def url(self) -> str:
        return self._plain.url(_DATABASE, accounts="no")


class _MySQL:
    errors: type[Exception] = pymysql.Error

    def __init__(self, plain: PlainMySQL, folder: Path) -> None:
        self._plain = plain
        self._archive = folder / "archive"
        self.dumper: str = plain.dumper

    def fill(self, scale: int) -> None:
        server = self._plain.server
        server.execute(f"CREATE DATABASE {_DATABASE}")
        for table, key, rows in (("tellers", "tid", scale * 10), ("accounts", "aid", scale * _PER_SCALE)):
            name, filler = f"pgbench_{table}", "REPEAT('filler', 14)"
            balance = f"{key[0]}balance"
            server.execute(f"CREATE TABLE {name} ({key} INT PRIMARY KEY, {balance} INT, filler CHAR(84))", _DATABASE)
            server.execute(f"INSERT INTO {name} VALUES (1, 0, {filler})", _DATABASE)
            made = 1
            while made < rows:
                more = min(made, rows - made)
                server.execute(
                    f"INSERT INTO {name} SELECT {key} + {made}, 0, filler FROM {name} WHERE {key} <= {more}", _DATABASE
                )
                made += more

    @contextmanager
    def session(self) -> Iterator[_Execute]:
        with self._plain.server.connect(_DATABASE) as connection, connection.cursor() as cursor:

            def execute(statement: str, parameters: list[int]) -> object:
                cursor.execute(statement, parameters)
                return cursor.fetchall()

            yield execute

    def dump(self) -> object:
        return self._plain.run(self._plain.dumper, "--single-transaction", _DATABASE, stdout=self._archive)

    def url(self) -> str:
        return self._plain.url(databases=_DATABASE, accounts="no")


@dataclass
class _Noticed:
    """Latencies in seconds of transactions and of migrations, sessions sent away, and how the work ended."""

    transactions: list[float] = field(default_factory=list)
    migrations: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0
    ended: int = 0

    def row(self, name: str) -> str:
        """Of the table."""
        rate = len(self.transactions) / self.seconds
        return (
            f"| {name} | {self.seconds:.1f} | {rate:.0f} | {max(self.transactions, default=0) * 1000:.0f} "
            f"| {max(self.migrations, default=0) * 1000:.0f} | {self.refused} | {self.ended} |"
        )


class _Application(threading.Thread):
    """One session that does small transactions as pgbench's do, and connects again when it is sent away."""

    def __init__(self, engine: _Engine, seen: _Noticed, stop: threading.Event, scale: int, *, migrates: bool) -> None:
        super().__init__(daemon=True)
        self._engine = engine
        self._seen = seen
        self._stop_event = stop
        self._accounts = scale * _PER_SCALE
        self._migrates = migrates

    def run(self) -> None:
        """Until it is told to stop."""
        number, lost = 0, 0.0
        while not self._stop_event.is_set():
            try:
                with self._engine.session() as execute:
                    while not self._stop_event.is_set():
                        number += 7919
                        self._once(execute, number % self._accounts)
                        if lost:  # what its users have noticed
                            self._seen.transactions.append(time.monotonic() - lost)
                            lost = 0.0
            except self._engine.errors:
                self._seen.refused += 1
                lost = lost or time.monotonic()
                self._stop_event.wait(0.01)

    def _once(self, execute: _Execute, account: int) -> None:
        begun = time.monotonic()
        if self._migrates:
            execute("ALTER TABLE pgbench_tellers ADD COLUMN more integer", [])
            execute("ALTER TABLE pgbench_tellers DROP COLUMN more", [])
            self._seen.migrations.append(time.monotonic() - begun)
            self._stop_event.wait(1)
            return
        execute("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = %s", [account + 1])
        execute("SELECT abalance FROM pgbench_accounts WHERE aid = %s", [account + 1])
        execute("SELECT count(*) FROM pgbench_tellers WHERE tid = 1", [])
        self._seen.transactions.append(time.monotonic() - begun)


def _noticed(engine: _Engine, scale: int, work: Callable[[], object], *, migrations: bool) -> _Noticed:
    seen, stop = _Noticed(), threading.Event()
    sessions = [_Application(engine, seen, stop, scale, migrates=False) for _ in range(_CLIENTS)]
    if migrations:
        sessions.append(_Application(engine, seen, stop, scale, migrates=True))
    for session in sessions:
        session.start()
    begun = time.monotonic()
    try:
        work()
    except subprocess.CalledProcessError as failed:  # MySQL's snapshot cannot read a table that was altered since
        seen.ended = failed.returncode
    finally:
        seen.seconds = time.monotonic() - begun
        stop.set()
        for session in sessions:
            session.join(60)
    return seen


def _compare(name: str, scale: int, *, migrations: bool) -> None:
    made: AbstractContextManager[tuple[_Engine, Path]] = private_engine(name, _Postgres, _MySQL)
    with made as (engine, folder):
        engine.fill(scale)
        penstock = Penstock(folder)
        print("| beside | seconds | transactions a second | longest one, ms | longest migration, ms | refused | exit |")
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        works: dict[str, Callable[[], object]] = {
            "nothing": lambda: time.sleep(10),
            engine.dumper: engine.dump,
            "penstock backup": lambda: penstock.run("backup", engine.url(), "--name", "shop"),
            "penstock restore --clean": lambda: penstock.run("restore", "latest", "--to", engine.url(), "--clean"),
        }
        for what, work in works.items():
            print(_noticed(engine, scale, work, migrations=migrations).row(what), flush=True)


def main() -> None:
    """Parse the options and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=20, help="pgbench's scale: 100,000 accounts each")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--no-migrations", action="store_false", dest="migrations", help="mysqldump fails beside them")
    options = parser.parse_args()
    _compare(options.engine, options.scale, migrations=options.migrations)


if __name__ == "__main__":
    main()
