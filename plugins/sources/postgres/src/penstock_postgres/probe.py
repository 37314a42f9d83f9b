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
    "inventory",
    "is_standby",
    "large_objects",
    "may_read_passwords",
    "room_for_locks",
    "server_warnings",
    "size_estimate",
    "warnings",
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
                    known = _count(connection, relation)
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


def _count(connection: Connection, relation: Relation) -> int:
    query = sql.SQL("SELECT count(*) FROM {} {}").format(
        sql.SQL("ONLY" if relation.relkind == "r" else ""), sql.Identifier(relation.schema, relation.name)
    )
    # Nested and rolled back: the locks of a count would stay until the end of the dump, on every index, too.
    with connection.transaction(force_rollback=True):
        row = connection.execute(query).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def warnings(connection: Connection, found: list[Relation], choice: Choice) -> Iterator[str]:
    """What a dump does not hold, or what may disturb it, though it will not fail for certain."""
    yield from _warnings_of_choice(connection, found, choice)
    unlogged = [r.title for r in found if r.persistence == "u" and r.relkind == "r"]
    if unlogged and is_standby(connection):
        yield f"a standby has no rows of {listed(unlogged, 'unlogged table', 'unlogged tables')}"
    if foreign := [r.title for r in found if r.relkind == "f"]:
        yield f"the rows of {listed(foreign, 'foreign table', 'foreign tables')} are elsewhere, and not in the dump"
    left = [r.title for r in found if r.relkind == "r" and r.of_extension and not r.configures_extension]
    if left:
        yield f"the rows of {listed(left, 'table', 'tables')} belong to extensions, and are not in the dump"
    query = "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()"
    if prepared := rows(connection, query)[0][0]:
        yield (
            f"prepared transactions are open ({prepared} of them): what they wrote is not in the dump, "
            "and their locks may hold it up"
        )
    query = """
    SELECT count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
    WHERE d.datname = pg_catalog.current_database() AND NOT (
        SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    """
    if subscriptions := rows(connection, query)[0][0]:
        yield f"subscriptions are left out ({subscriptions} of them): only a superuser can dump them"
    # The view shows options to the mapping's own user and to superusers; pg_user_mapping itself to superusers alone.
    query = """
    SELECT m.srvname || ' for ' || m.usename FROM pg_catalog.pg_user_mappings m
    WHERE m.umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    ORDER BY 1
    """
    if not choice.narrow and (mappings := [name for (name,) in rows(connection, query)]):
        yield (
            f"the options, such as passwords, of {listed(mappings, 'user mapping', 'user mappings')} are not in the "
            "dump, if there are any: only a superuser can read them"
        )


def server_warnings(connection: Connection) -> Iterator[str]:
    """The same of the server as a whole."""
    if is_standby(connection):
        yield (
            "the server is a standby: a long dump may be cancelled by what it replays "
            "(see max_standby_streaming_delay and hot_standby_feedback)"
        )


def _warnings_of_choice(connection: Connection, found: list[Relation], choice: Choice) -> Iterator[str]:
    if not choice.text:
        return
    yield f"the dump is a choice, and no complete backup of {connection.info.dbname}: {choice.text}"
    for idle in choice.idle:
        yield f"{idle} matches nothing in the database {connection.info.dbname}"
    if not choice.large_objects and (objects := large_objects(connection)[0]):
        yield f"large objects are left out ({objects} of them): large_objects = yes takes them"
    taken = {relation.oid for relation in found}
    query = """
    SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent
    WHERE c.relkind = 'p'
    """
    partly = {parent for parent, partition in rows(connection, query) if partition not in taken}
    if titles := [relation.title for relation in found if relation.oid in partly]:
        yield f"{listed(titles, 'partitioned table', 'partitioned tables')} is chosen without all of its partitions"


def room_for_locks(connection: Connection) -> int:
    """How many objects can be locked on the server at a time, at the least."""
    query = """
    SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint
        * (pg_catalog.current_setting('max_connections')::bigint
            + pg_catalog.current_setting('max_prepared_transactions')::bigint)
    """
    number: int = rows(connection, query)[0][0]
    return number


def may_read_passwords(connection: Connection) -> bool:
    """Whether the role may read the password hashes of all roles."""
    allowed: bool = rows(connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')")[0][0]
    return allowed


def is_standby(connection: Connection) -> bool:
    """Whether the server replays what another one writes."""
    standby: bool = rows(connection, "SELECT pg_catalog.pg_is_in_recovery()")[0][0]
    return standby
