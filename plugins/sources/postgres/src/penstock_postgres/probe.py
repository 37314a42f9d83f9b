"""What a database holds, asked over a connection: sizes, rows, and whatever would make a dump fail or surprise."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

from psycopg import sql

from penstock.api import InventoryItem, SourceDenied
from penstock.api.servers import listed
from penstock_postgres.choice import Choice
from penstock_postgres.connection import Connection, rows
from penstock_postgres.relations import Relation

__all__ = [
    "CountingTime",
    "check_readable",
    "count_rows",
    "inventory",
    "is_standby",
    "large_objects",
    "may_read_passwords",
    "names_of_other_bytes",
    "room_for_locks",
    "size_estimate",
]

#: Larger tables are not counted unless asked for (bytes).
_COUNTED_BELOW = 1 << 30
#: No table is counted after that, unless asked for: a dump should start (seconds).
_COUNTING_SECONDS = 120.0

_KINDS = {"r": "table", "p": "partitioned table", "m": "materialized view", "f": "foreign table", "S": "sequence"}


class CountingTime:
    """The time that is left to count rows, shared by the streams of a dump (seconds)."""

    def __init__(self) -> None:
        self._left = _COUNTING_SECONDS

    def allows(self, row_counts: str, relation: Relation) -> bool:
        """Whether to count the rows of a table."""
        small = (relation.size or 0) < _COUNTED_BELOW and self._left > 0
        return row_counts == "exact" or (row_counts == "auto" and small)

    @contextmanager
    def spent(self) -> Iterator[None]:
        """What the block takes is spent."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._left -= time.monotonic() - begun


def large_objects(connection: Connection) -> tuple[int, int]:
    """How many large objects there are, and the bytes that all of them take."""
    query = """
    SELECT (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata),
        pg_catalog.pg_relation_size('pg_catalog.pg_largeobject')
    """
    ((count, size),) = rows(connection, query)
    return count, size if count else 0


def check_readable(connection: Connection, found: list[Relation], choice: Choice) -> None:
    """Raises `SourceDenied`, which names what the role may not read: pg_dump would fail on it, perhaps after hours."""
    unreadable = [relation.title for relation in found if relation.dumped and not relation.readable]
    query: LiteralString = "SELECT rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    role, superuser = rows(connection, query)[0]
    if unreadable:
        raise SourceDenied(
            f"the role {role} may not read {listed(unreadable, 'table or sequence', 'tables and sequences')}",
            hint=f'As a superuser, run GRANT pg_read_all_data TO "{role}" (before 14: GRANT SELECT on each).',
        )
    with_rows = [relation for relation in found if relation.dumped and relation.oid not in choice.without_rows]
    policed = [relation.title for relation in with_rows if relation.policed]
    if policed:
        raise SourceDenied(
            f"row-level security may hide rows of {listed(policed, 'table', 'tables')} from the role {role}",
            hint=f'As a superuser, run ALTER ROLE "{role}" BYPASSRLS.',
        )
    if superuser or not choice.large_objects or rows(connection, "SHOW lo_compat_privileges") == [("on",)]:
        return
    query = """
    SELECT m.oid::text FROM pg_catalog.pg_largeobject_metadata m
    WHERE NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
        SELECT FROM pg_catalog.aclexplode(m.lomacl) a
        WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
    """
    if unreadable := [oid for (oid,) in rows(connection, query)]:
        raise SourceDenied(
            f"the role {role} may not read {listed(unreadable, 'large object', 'large objects')}",
            hint="Grant it SELECT on each, let it own them, or dump as a superuser.",
        )


def size_estimate(connection: Connection, found: list[Relation], choice: Choice) -> int:
    """Bytes that the archive will have, roughly: numbers take more or fewer in a text than in a table."""
    tables = sum(one.size or 0 for one in found if one.dumped and one.oid not in choice.without_rows)
    return tables + (large_objects(connection)[1] if choice.large_objects else 0)


def inventory(
    connection: Connection,
    found: list[Relation],
    choice: Choice,
    row_counts: str,
    *,
    counting: CountingTime | None = None,
    prefix: str = "",
) -> Iterator[InventoryItem]:
    """What people want to read of what is dumped: tables with their rows, the rest in figures.

    With `counting` rows are counted as `row_counts` says, in the connection's own view; else the statistics must do.
    `prefix` stands before every name.
    """
    count = counting is not None
    standby = is_standby(connection)
    encoded = connection.info.encoding == "utf-8"  # else names cannot be given back as they came
    for relation in found:
        if relation.relkind in ("S", "v") or (relation.of_extension and not relation.configures_extension):
            continue
        kind = "partition" if relation.is_partition and relation.relkind == "r" else _KINDS[relation.relkind]
        known: int | None = None
        exact = False
        if relation.oid in choice.without_rows and relation.relkind == "r":
            yield InventoryItem(f"{kind} without rows", f"{prefix}{relation.title}")
            continue
        if relation.relkind in ("r", "m") and row_counts != "off":
            there = relation.populated and not (standby and relation.persistence == "u")
            countable = relation.readable and there and (encoded or relation.title.isascii())
            exact = countable and counting is not None and counting.allows(row_counts, relation)
            known = relation.estimated_rows
            if exact and counting is not None:
                with counting.spent():
                    known = count_rows(connection, relation.schema, relation.name, only=relation.relkind == "r")
        yield InventoryItem(kind, f"{prefix}{relation.title}", known, relation.size, exact)
    objects, size = large_objects(connection)
    if objects and choice.large_objects:
        yield InventoryItem("large objects", f"{prefix}large objects", objects, size, exact=count)
    sequences = sum(relation.relkind == "S" and relation.dumped for relation in found)
    yield InventoryItem("sequences", f"{prefix}sequences", sequences, None, exact=count)
    if choice.tables is None:
        query = "SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        schemas = sum(choice.has_schema(oid) for (oid,) in rows(connection, query))
        yield InventoryItem("schemas", f"{prefix}schemas", schemas, None, exact=count)


def count_rows(connection: Connection, schema: str, name: str, *, only: bool) -> int:
    """The rows of a table or a view; with `only` without those of its children."""
    query = sql.SQL("SELECT count(*) FROM {} {}").format(sql.SQL("ONLY" if only else ""), sql.Identifier(schema, name))
    # Nested and rolled back: the locks of a count would stay until the end of the dump, on every index, too.
    with connection.transaction(force_rollback=True):
        row = connection.execute(query).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def room_for_locks(connection: Connection) -> int:
    """How many objects can be locked on the server at a time, at the least."""
    query = """
    SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint
        * (pg_catalog.current_setting('max_connections')::bigint
            + pg_catalog.current_setting('max_prepared_transactions')::bigint)
    """
    number: int = rows(connection, query)[0][0]
    return number


def names_of_other_bytes(connection: Connection) -> list[str]:
    """Roles and tablespaces whose names are not UTF-8, as far as such a name can be shown.

    They belong to the whole server, and are what whoever made them sent: from a database of another encoding.
    """
    query = "SELECT rolname FROM pg_catalog.pg_roles UNION SELECT spcname FROM pg_catalog.pg_tablespace ORDER BY 1"
    # The connection replaces bytes that are not valid UTF-8 with this character.
    return [name for (name,) in rows(connection, query) if "\N{REPLACEMENT CHARACTER}" in name]


def may_read_passwords(connection: Connection) -> bool:
    """Whether the role may read the password hashes of all roles."""
    allowed: bool = rows(connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')")[0][0]
    return allowed


def is_standby(connection: Connection) -> bool:
    """Whether the server replays what another one writes."""
    standby: bool = rows(connection, "SELECT pg_catalog.pg_is_in_recovery()")[0][0]
    return standby
