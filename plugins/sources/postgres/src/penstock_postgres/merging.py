"""Rows of an extension's configuration tables: merged with those that CREATE EXTENSION has made."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from penstock_postgres.connection import Connection, rows

__all__ = ["Collisions", "configuration_tables", "merge"]

#: Rows that the statement of `Collisions` has.
_MOST_ROWS = 1000

_NAME = rb'(?:"(?:[^"]|"")*"|[^\s".()]+)'
_COPY = re.compile(rb"COPY (%(name)s(?:\.%(name)s)?) (\(.*\)) FROM stdin" % {b"name": _NAME}, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Collisions:
    """Rows that were not merged, since others have their keys; `statement` inserts them where these are gone."""

    count: int
    statement: str


def configuration_tables(connection: Connection) -> set[tuple[str, str]]:
    """Schema and name of the tables that installed extensions call their configuration: a dump has rows of them."""
    query = """
    SELECT n.nspname, c.relname FROM pg_catalog.pg_extension e, pg_catalog.unnest(e.extconfig) AS t (oid)
        JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    """
    return set(rows(connection, query))


def merge(connection: Connection, statement: bytes, lines: Iterable[bytes]) -> Collisions | None:
    """Do what `COPY ... FROM stdin` does, but leave out rows that are there, and those whose keys others have.

    One transaction, or a part of the one that is open. Gives the rows with colliding keys, if there are any.
    """
    found = _COPY.fullmatch(statement)
    if found is None:
        raise ValueError("not a COPY of pg_dump's")
    table, columns = found[1], found[2]
    names = columns[1:-1]
    cursor = connection.cursor()
    with connection.transaction():
        cursor.execute(b"CREATE TEMPORARY TABLE penstock_rows AS SELECT %s FROM %s WITH NO DATA" % (names, table))
        with cursor.copy(b"COPY pg_temp.penstock_rows %s FROM stdin" % columns) as copy:
            for line in lines:
                copy.write(line)
        there = b"(SELECT ROW(%s)::text FROM %s)" % (names, table)
        wanted = b"FROM pg_temp.penstock_rows WHERE ROW(%s)::text NOT IN %s" % (names, there)
        cursor.execute(
            b"INSERT INTO %s %s OVERRIDING SYSTEM VALUE SELECT %s %s ON CONFLICT DO NOTHING"
            % (table, columns, names, wanted)
        )
        cursor.execute(b"SELECT count(*) " + wanted)
        (count,) = cursor.fetchone() or (0,)
        values: list[str] = []
        if count:
            cursor.execute(b"SELECT %s %s LIMIT %d" % (names, wanted, _MOST_ROWS))
            values = [
                "(" + ", ".join(sql.Literal(value).as_string(connection) for value in row) + ")" for row in cursor
            ]
        cursor.execute(b"DROP TABLE pg_temp.penstock_rows")
    if not count:
        return None
    target = f"{table.decode(errors='replace')} {columns.decode(errors='replace')}"
    return Collisions(count, f"INSERT INTO {target} VALUES\n    " + ",\n    ".join(values) + ";")
