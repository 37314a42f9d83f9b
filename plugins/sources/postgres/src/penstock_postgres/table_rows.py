"""A database by tables: its streams, and the statements that write and take rows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
#: The version that scans a range of pages without the others.
_TID_RANGES_SINCE = 140000


def parts_of(
    connection: Connection, found: Sequence[Relation], choice: Choice, split_above: int
) -> Iterator[StreamSpec]:
    """The streams of the database at hand: the schema, and what is filled into it in any order.

    `found` is what was chosen; a table of more bytes than `split_above` is several streams. The attributes lack what
    all streams of the dump have in common. Raises `SourceError` where statements cannot be written in the encoding of
    the database.
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
    tables = [one for one in found if one.relkind == "r" and one.dumped and not (standby and one.persistence == "u")]
    yield from _row_streams(connection, [one for one in tables if one.oid not in choice.without_rows], split_above)


def _row_streams(connection: Connection, tables: list[Relation], split_above: int) -> Iterator[StreamSpec]:
    """A stream or several for each of the tables, whose attributes are all that it takes to open it under a snapshot.

    `kind` and `size` are in those whose rows are counted; of several, the first counts for all of them.
    """
    found = _stored(connection, tables)
    for table in tables:
        stored = found[table.oid]
        attributes = {
            "schema": table.schema,
            "table": table.name,
            "columns": json.dumps(stored.columns, ensure_ascii=False),
            "oid": str(table.oid),
            "filenode": str(table.filenode),
        }
        if stored.condition:
            attributes["condition"] = stored.condition
        name = f"data/{_part(table.schema)}.{_part(table.name)}"
        item = {"kind": "partition" if table.is_partition else "table", "size": str(table.size)}
        whole = StreamSpec(name, ROWS, 2, table.size, attributes=attributes | item, record_separator=b"\n")
        if not stored.may_be_cut or stored.page_count * stored.page_size <= split_above:
            yield whole
            continue
        for number, pages in enumerate(_ranges(stored.page_count, split_above // stored.page_size)):
            # The first has the name of the whole: it is found again when the table has grown beyond the limit.
            yield replace(
                whole,
                name=f"{name}.{number}" if number else name,
                size_estimate=split_above,
                attributes={**(whole.attributes if not number else attributes), "pages": json.dumps(pages)},
            )


def _ranges(page_count: int, length: int) -> Iterator[tuple[int, int | None]]:
    """Pages from the first to the second, exclusively: the same every night but for the last, which has no end."""
    for first in range(0, page_count, length):
        yield first, first + length if first + length < page_count else None


def copy_out(recorded: RowsAttributes) -> sql.Composable:
    """The statement that writes the rows, as pg_dump has it (`dumpTableData_copy` of its sources)."""
    table = sql.Identifier(recorded.namespace, recorded.table)
    if recorded.pages is not None:
        first, end = recorded.pages
        until = sql.SQL(" AND ctid < {}").format(_place(end)) if end is not None else sql.SQL("")
        return sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE ctid >= {}{}) TO stdout").format(
            _names(recorded), table, _place(first), until
        )
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


def _place(page: int) -> sql.Composable:
    """The very beginning of a page."""
    return sql.SQL("{}::pg_catalog.tid").format(sql.Literal(f"({page},0)"))


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a table is stored: its columns but those that are generated, and its pages of `page_size` bytes.

    `condition` says which rows an extension calls the user's.
    """

    columns: list[str]
    condition: str | None
    page_count: int
    page_size: int
    may_be_cut: bool


def _stored(connection: Connection, tables: list[Relation]) -> dict[int, _Stored]:
    # Before PostgreSQL 12 there were neither generated columns, hence the JSON of the row, nor other ways to store.
    query = """
    SELECT t.oid, coalesce((SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND coalesce(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') = ''), '{}'),
        (SELECT nullif(e.extcondition[pg_catalog.array_position(e.extconfig, t.oid)], '')
            FROM pg_catalog.pg_extension e WHERE t.oid = ANY (e.extconfig)),
        coalesce(pg_catalog.pg_relation_size(t.oid), 0) / b.size, b.size,
        coalesce(m.amname = 'heap', true)
    FROM pg_catalog.unnest(%(oids)s::oid[]) AS t (oid) JOIN pg_catalog.pg_class c ON c.oid = t.oid
        LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam,
        (SELECT pg_catalog.current_setting('block_size')::bigint) AS b (size)
    """
    # An older server would read the whole table for each range of pages.
    ranges = connection.info.server_version >= _TID_RANGES_SINCE
    return {
        oid: _Stored(columns, condition, pages, size, ranges and heap and bool(columns) and not condition)
        for oid, columns, condition, pages, size, heap in rows(connection, query, {"oids": [one.oid for one in tables]})
    }


def _part(name: str) -> str:
    """A name as a part of a stream's name, without dots of its own."""
    return path_like(name).replace(".", "%2E")
