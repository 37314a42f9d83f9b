"""Restores of many small things beside the engine's own programs: where each one's overhead counts.

    python -m benchmarks.restores --databases 300
    python -m benchmarks.restores --tables 3000

Databases with two tables and an index each; or one database of so many tables, each with an index, a comment and a
grant. Both sides make the databases; Penstock reads its repository in a local folder, pg_restore its archives.
"""

import argparse
from pathlib import Path

from benchmarks.measure import Cost
from benchmarks.plain import Penstock, PlainPostgres, compared, private_server

__all__ = ["main"]

_SMALL = "CREATE TABLE t AS SELECT 1 AS i; CREATE TABLE u (i serial PRIMARY KEY, x text DEFAULT 'of none')"
#: A transaction locks no more.
_AT_ONCE = 500


def _fill(plain: PlainPostgres, databases: int, tables: int) -> list[str]:
    server = plain.server
    names = [f"small_{number:04}" for number in range(databases)]
    server.execute("CREATE ROLE reader")
    for name in names:
        server.execute(f"CREATE DATABASE {name}")
        server.execute(_SMALL, name)
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


def _compare(databases: int, tables: int, rounds: int) -> None:
    with private_server() as (plain, folder):
        names = _fill(plain, databases, tables)
        penstock = Penstock(folder)
        chosen = {"databases": ",".join(("small_*",) if databases else names), "accounts": "no"}
        penstock.run("backup", plain.url(**chosen), "--name", "all")
        for name in names:
            plain.run("pg_dump", "--format=custom", f"--file={folder / name}", name)

        def without_databases() -> None:
            for name in names:
                plain.server.drop(name)

        def ours() -> Cost:
            without_databases()
            return penstock.run("restore", "latest", "--to", plain.url())

        def theirs() -> Cost:
            without_databases()
            return _plainly(plain, folder, names)

        mine, other, ratio = compared(rounds, ours, theirs)
        what = f"{tables} tables" if tables else f"{databases} databases"
        print("| restore | Penstock, s | createdb, pg_restore, s | ratio |\n| --- | --- | --- | --- |")
        print(f"| {what} | {mine} | {other} | {ratio} |")


def _plainly(plain: PlainPostgres, folder: Path, names: list[str]) -> Cost:
    costs = []
    for name in names:
        costs.append(plain.run("createdb", "--template=template0", name))
        costs.append(plain.run("pg_restore", f"--dbname={name}", str(folder / name)))
    return Cost(sum(one.cpu for one in costs), sum(one.wall for one in costs), max(one.rss for one in costs))


def main() -> None:
    """Parse the options and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--databases", type=int, default=0)
    size.add_argument("--tables", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    _compare(options.databases, options.tables, options.rounds)


if __name__ == "__main__":
    main()
