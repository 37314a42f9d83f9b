"""A database by tables: its streams, and the statements that write and take rows."""

import json
from collections.abc import Iterator, Sequence

from psycopg import sql

from penstock.api import SourceError, StreamSpec
from penstock.api.servers import path_like
from penstock_postgres import probe
from penstock_postgres.attributes import RowsAttributes
from penstock_postgres.choice import Choice
from penstock_postgres.connection import Connection, rows
from penstock_postgres.dumping import LARGE_OBJECTS, ROWS, SCHEMA, SEQUENCES
from penstock_postgres.relations import Relation

__all__ = ["copy_in", "copy_out", "parts_of"]

#: Encodings in which the driver cannot write a name: the first has none at all.
_WITHOUT_CODEC = {"SQL_ASCII", "EUC_TW", "MULE_INTERNAL"}


def parts_of(connection: Connection, found: Sequence[Relation], choice: Choice) -> Iterator[StreamSpec]:
    """The streams of the database at hand: the schema, and what is filled into it in any order.

    `found` is what was chosen. The attributes lack what all streams of the dump have in common. Raises `SourceError`
    where statements cannot be written in the encoding of the database.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding in _WITHOUT_CODEC:
        raise SourceError(
            f"the database {connection.info.dbname} has the encoding {encoding}, and cannot be dumped by tables",
            hint="Dump it with layout = archive.",
        )
    yield StreamSpec("schema.dump", SCHEMA, 1)
    count, size = probe.large_objects(connection)
    if count and choice.large_objects:
        yield StreamSpec("large-objects.dump", LARGE_OBJECTS, 2, size)
    yield StreamSpec("sequences.sql", SEQUENCES, 2, record_separator=b"\n")
    standby = probe.is_standby(connection)
    yield from _row_streams(
        connection,
        [
            one
            for one in found
            if one.relkind == "r"
            and one.dumped
            and one.oid not in choice.without_rows
            and not (standby and one.persistence == "u")
        ],
    )


def _row_streams(connection: Connection, tables: list[Relation]) -> Iterator[StreamSpec]:
    """One stream for each of the tables, whose attributes are all that it takes to open it under a snapshot."""
    found = _columns(connection, tables)
    for table in tables:
        columns, condition = found[table.oid]
        attributes = {
            "schema": table.schema,
            "table": table.name,
            "columns": json.dumps(columns, ensure_ascii=False),
            "oid": str(table.oid),
            "filenode": str(table.filenode),
            "kind": "partition" if table.is_partition else "table",
        }
        if condition:
            attributes["condition"] = condition
        name = f"data/{_part(table.schema)}.{_part(table.name)}"
        yield StreamSpec(name, ROWS, 2, table.size, attributes=attributes, record_separator=b"\n")


def copy_out(recorded: RowsAttributes) -> sql.Composable:
    """The statement that writes the rows, as pg_dump has it (`dumpTableData_copy` of its sources)."""
    table = sql.Identifier(recorded.namespace, recorded.table)
    if recorded.condition is None:
        return sql.SQL("COPY {}{} TO stdout").format(table, _list(recorded))
    # It is SQL of the extension itself, as the server has it: `WHERE own`.
    condition = sql.SQL(recorded.condition)
    return sql.SQL("COPY (SELECT {} FROM {} {}) TO stdout").format(_names(recorded), table, condition)


def copy_in(recorded: RowsAttributes) -> sql.Composable:
    """The statement that takes the rows."""
    table = sql.Identifier(recorded.namespace, recorded.table)
    return sql.SQL("COPY {}{} FROM stdin").format(table, _list(recorded))


def _list(recorded: RowsAttributes) -> sql.Composable:
    """The columns in parentheses; nothing for a table without any, whose rows are empty lines."""
    return sql.SQL(" ({})").format(_names(recorded)) if recorded.columns else sql.SQL("")


def _names(recorded: RowsAttributes) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(column) for column in recorded.columns)


def _columns(connection: Connection, tables: list[Relation]) -> dict[int, tuple[list[str], str | None]]:
    """Of each table the columns that are stored and not generated, and which rows an extension calls the user's."""
    # As JSON of the row, since there were no generated columns before PostgreSQL 12.
    query = """
    SELECT t.oid, coalesce((SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND coalesce(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') = ''), '{}'),
        (SELECT nullif(e.extcondition[pg_catalog.array_position(e.extconfig, t.oid)], '')
            FROM pg_catalog.pg_extension e WHERE t.oid = ANY (e.extconfig))
    FROM pg_catalog.unnest(%(oids)s::oid[]) AS t (oid)
    """
    return {
        oid: (columns, condition)
        for oid, columns, condition in rows(connection, query, {"oids": [table.oid for table in tables]})
    }


def _part(name: str) -> str:
    """A name as a part of a stream's name, without dots of its own."""
    return path_like(name).replace(".", "%2E")
