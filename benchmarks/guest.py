"""What an application notices of a backup and of a restore: pgbench's transactions, and what a migration waits for.

    python -m benchmarks.guest

pgbench runs all the time, and once a second somebody adds a column to a table and drops it, as migrations do. Beside
them run, one after another: nothing, pg_dump, `penstock backup`, and `penstock restore --clean` into the same database.
"""

import argparse
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from benchmarks.plain import Penstock, PlainPostgres, private_server

__all__ = ["main"]

_DATABASE = "shop"
_CLIENTS = 4


@dataclass
class _Noticed:
    """Latencies in seconds, of transactions and of migrations, and the seconds without either."""

    transactions: list[float] = field(default_factory=list)
    migrations: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    def row(self, name: str) -> str:
        """Of the table."""
        rate = len(self.transactions) / self.seconds
        return (
            f"| {name} | {self.seconds:.1f} | {rate:.0f} | {max(self.transactions, default=0) * 1000:.0f} "
            f"| {max(self.migrations, default=0) * 1000:.0f} | {self.refused} |"
        )


class _Application(threading.Thread):
    """One session that does small transactions as pgbench's do, and connects again when it is sent away."""

    def __init__(
        self, plain: PlainPostgres, seen: _Noticed, stop: threading.Event, scale: int, *, migrates: bool
    ) -> None:
        super().__init__(daemon=True)
        self._plain = plain
        self._seen = seen
        self._stop_event = stop
        self._accounts = scale * 100_000
        self._migrates = migrates

    def run(self) -> None:
        """Until it is told to stop."""
        number, lost = 0, 0.0
        while not self._stop_event.is_set():
            try:
                with self._plain.server.connect(_DATABASE) as connection:
                    while not self._stop_event.is_set():
                        number += 7919
                        self._once(connection, number % self._accounts)
                        if lost:  # what its users have noticed
                            self._seen.transactions.append(time.monotonic() - lost)
                            lost = 0.0
            except psycopg.Error:
                self._seen.refused += 1
                lost = lost or time.monotonic()
                self._stop_event.wait(0.01)

    def _once(self, connection: psycopg.Connection[tuple[object, ...]], account: int) -> None:
        begun = time.monotonic()
        if self._migrates:
            connection.execute("ALTER TABLE pgbench_tellers ADD COLUMN more integer")
            connection.execute("ALTER TABLE pgbench_tellers DROP COLUMN more")
            self._seen.migrations.append(time.monotonic() - begun)
            self._stop_event.wait(1)
            return
        connection.execute("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = %s", [account + 1])
        connection.execute("SELECT abalance FROM pgbench_accounts WHERE aid = %s", [account + 1])
        connection.execute("SELECT count(*) FROM pgbench_tellers WHERE tid = 1")
        self._seen.transactions.append(time.monotonic() - begun)


def _noticed(plain: PlainPostgres, scale: int, work: Callable[[], object]) -> _Noticed:
    seen, stop = _Noticed(), threading.Event()
    sessions = [_Application(plain, seen, stop, scale, migrates=number == 0) for number in range(_CLIENTS + 1)]
    for session in sessions:
        session.start()
    begun = time.monotonic()
    try:
        work()
    finally:
        seen.seconds = time.monotonic() - begun
        stop.set()
        for session in sessions:
            session.join(60)
    return seen


def _compare(scale: int) -> None:
    with private_server() as (plain, folder):
        plain.server.execute(f"CREATE DATABASE {_DATABASE}")
        subprocess.run(
            plain.command("pgbench", "--initialize", "--quiet", f"--scale={scale}", _DATABASE),
            check=True,
            capture_output=True,
        )
        penstock = Penstock(folder)
        url = plain.url(_DATABASE, accounts="no")
        archive = Path(folder) / "archive"
        print("| beside | seconds | transactions a second | longest one, ms | longest migration, ms | refused |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        works: dict[str, Callable[[], object]] = {
            "nothing": lambda: time.sleep(10),
            "pg_dump": lambda: plain.run("pg_dump", "--format=custom", "--compress=0", f"--file={archive}", _DATABASE),
            "penstock backup": lambda: penstock.run("backup", url, "--name", "shop"),
            "penstock restore --clean": lambda: penstock.run("restore", "latest", "--to", url, "--clean"),
        }
        for name, work in works.items():
            print(_noticed(plain, scale, work).row(name), flush=True)


def main() -> None:
    """Parse the options and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=20, help="pgbench's scale: 100,000 accounts each")
    _compare(parser.parse_args().scale)


if __name__ == "__main__":
    main()
