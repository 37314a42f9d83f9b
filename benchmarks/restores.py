"""Restores of many small things beside the engine's own programs: where each one's overhead counts.

    python -m benchmarks.restores --databases 300
    python -m benchmarks.restores --tables 3000 --engine mariadb

Databases with two tables and an index each; or one database of so many tables, each with an index and a comment, and a
grant on PostgreSQL. Both sides make the databases; Penstock reads its repository in a local folder, the plain programs
their dumps.
"""

import argparse
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from benchmarks.measure import Cost
from benchmarks.plain import ENGINES, Penstock, PlainMySQL, PlainPostgres, compared, private_engine

__all__ = ["main"]

#: A transaction of PostgreSQL locks no more.
_AT_ONCE = 500


class _Engine(Protocol):
    """One of them, with a server that is there for the benchmark alone."""

    #: What brings the dumps back without Penstock.
    programs: str

    def fill(self, databases: int, tables: int) -> list[str]:
        """Make what is restored; gives the names of the databases."""

    def url(self, **settings: str) -> str:
        """The server, for Penstock."""

    def dump(self, name: str) -> None:
        """A dump of one database by the engine's own program."""

    def restore(self, name: str) -> list[Cost]:
        """Make the database, and restore that dump into it."""

    def drop(self, name: str) -> None:
        """Drop the database."""


class _Postgres:
    programs = "createdb, pg_restore"

    def __init__(self, plain: PlainPostgres, folder: Path) -> None:
        self._plain = plain
        self._folder = folder
        self.url = plain.url
        self.drop = plain.server.drop

    def fill(self, databases: int, tables: int) -> list[str]:
        server = self._plain.server
        server.execute("CREATE ROLE reader")
        names = [f"small_{number:04}" for number in range(databases)]
        for name in names:
            server.execute(f"CREATE DATABASE {name}")
            server.execute(
                "CREATE TABLE t AS SELECT 1 AS i; CREATE TABLE u (i serial PRIMARY KEY, x text DEFAULT 'of none')", name
            )
        if tables:
            names = ["many"]
            server.execute("CREATE DATABASE many")
        for first in range(0, tables, _AT_ONCE):
            some = range(first, min(first + _AT_ONCE, tables))
            server.execute(
                "".join(
                    f"CREATE TABLE t{n} (i integer PRIMARY KEY, x text); INSERT INTO t{n} VALUES ({n}, 'row');"
                    f"COMMENT ON TABLE t{n} IS 'number {n}'; GRANT SELECT ON t{n} TO reader; CREATE INDEX ON t{n} (x);"
                    for n in some
                ),
                "many",
            )
        return names

    def dump(self, name: str) -> None:
        self._plain.run("pg_dump", "--format=custom", f"--file={self._folder / name}", name)

    def restore(self, name: str) -> list[Cost]:
        return [
            self._plain.run("createdb", "--template=template0", name),
            self._plain.run("pg_restore", f"--dbname={name}", str(self._folder / name)),
        ]


class _MySQL:
    def __init__(self, plain: PlainMySQL, folder: Path) -> None:
        self._plain = plain
        self._folder = folder
        self.programs: str = plain.client
        self.url = plain.url
        self.drop = plain.server.drop

    def fill(self, databases: int, tables: int) -> list[str]:
        server = self._plain.server
        names = [f"small_{number:04}" for number in range(databases)] or ["many"]
        for name in names:
            server.execute(f"CREATE DATABASE {name}")
        for name in names if databases else ():
            server.execute("CREATE TABLE t AS SELECT 1 AS i", name)
            server.execute("CREATE TABLE u (i INT AUTO_INCREMENT PRIMARY KEY, x VARCHAR(90), KEY (x))", name)
        script = "".join(
            f"CREATE TABLE t{n} (i INT PRIMARY KEY, x VARCHAR(90), KEY (x)) COMMENT 'number {n}';"
            f"INSERT INTO t{n} VALUES ({n}, 'row');\n"
            for n in range(tables)
        )
        server.run_script(script.encode(), names[0])
        return names

    def dump(self, name: str) -> None:
        self._plain.run(self._plain.dumper, "--single-transaction", name, stdout=self._folder / name)

    def restore(self, name: str) -> list[Cost]:
        return [
            self._plain.run(self._plain.client, "--execute", f"CREATE DATABASE {name}"),
            self._plain.run(self._plain.client, name, stdin=self._folder / name),
        ]


def _compare(engine: str, databases: int, tables: int, rounds: int) -> None:
    made: AbstractContextManager[tuple[_Engine, Path]] = private_engine(engine, _Postgres, _MySQL)
    with made as (plain, folder):
        names = plain.fill(databases, tables)
        penstock = Penstock(folder)
        chosen: Mapping[str, str] = {"databases": "small_*" if databases else "many", "accounts": "no"}
        penstock.run("backup", plain.url(**chosen), "--name", "all")
        for name in names:
            plain.dump(name)

        def without_databases() -> None:
            for name in names:
                plain.drop(name)

        def ours() -> Cost:
            without_databases()
            return penstock.run("restore", "latest", "--to", plain.url())

        def theirs() -> Cost:
            without_databases()
            costs = [cost for name in names for cost in plain.restore(name)]
            return Cost(sum(one.cpu for one in costs), sum(one.wall for one in costs), max(one.rss for one in costs))

        mine, other, ratio = compared(rounds, ours, theirs)
        what = f"{tables} tables" if tables else f"{databases} databases"
        print(f"| restore into {engine} | Penstock, s | {plain.programs}, s | ratio |\n| --- | --- | --- | --- |")
        print(f"| {what} | {mine} | {other} | {ratio} |")


def main() -> None:
    """Parse the options and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--databases", type=int, default=0)
    size.add_argument("--tables", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    _compare(options.engine, options.databases, options.tables, options.rounds)


if __name__ == "__main__":
    main()
