"""The views that a dump holds: one transaction for each database, whose snapshot pg_dump is given."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from penstock.api import DumpFailed
from penstock_postgres.connection import Connection, connect, rows, translated
from penstock_postgres.probe import room_for_locks
from penstock_postgres.relations import Relation
from penstock_postgres.settings import PostgresSettings

__all__ = ["View", "check_unchanged", "hold_tables", "open_views"]

#: Tables that one LOCK TABLE names.
_AT_ONCE = 200
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class View:
    """One database as it was at one moment: an open transaction, and the name under which it exported its snapshot."""

    connection: Connection
    snapshot: str

    @property
    def database(self) -> str:
        """The name of the database."""
        return self.connection.info.dbname


@contextmanager
def open_views(settings: PostgresSettings, names: Sequence[str | None]) -> Iterator[list[View]]:
    """A view of each database, for the length of the block; None is the settings' own.

    All connections are there before the first snapshot is taken: they are as close to each other as can be.
    """
    opened: list[Connection] = []
    try:
        for name in names:
            opened.append(connect(settings, database=name))  # noqa: PERF401 - what was opened must be known if one fails
        yield [_begin(settings, connection) for connection in opened]
    finally:
        for connection in opened:
            # A lost connection cannot harm any more: pg_dump has its own, and says itself if it was too late.
            with suppress(psycopg.Error):
                connection.close()


def _begin(settings: PostgresSettings, connection: Connection) -> View:
    with translated(f"cannot start to dump {settings.location_of(connection.info.dbname)}"):
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return View(connection, rows(connection, "SELECT pg_catalog.pg_export_snapshot()")[0][0])


def hold_tables(views: Sequence[View], tables: Sequence[Sequence[Relation]]) -> bool:
    """Lock what is dumped of each view as pg_dump will, so that nobody truncates, rewrites or drops it before.

    Those changes are seen in every snapshot: rows would be missing. Returns whether it was done: the server's table of
    locks may be too small for all at once, or a name may not be UTF-8, and then `check_unchanged` must tell afterwards.
    """
    room = room_for_locks(views[0].connection)
    # Half of it: pg_dump takes the same locks again, and others work, too.
    if 2 * sum(one.relkind in ("r", "p") for found in tables for one in found) > room:
        return False
    for view, found in zip(views, tables, strict=True):
        if view.connection.info.encoding != "utf-8" and not all(one.title.isascii() for one in found if one.dumped):
            return False  # names that cannot be given back as they came
    for view, found in zip(views, tables, strict=True):
        names = [sql.Identifier(one.schema, one.name) for one in found if one.relkind in ("r", "p") and one.dumped]
        for start in range(0, len(names), _AT_ONCE):
            only = [sql.SQL("ONLY {}").format(name) for name in names[start : start + _AT_ONCE]]
            view.connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(only)))
    return True


def check_unchanged(settings: PostgresSettings, database: str, found: Sequence[Relation]) -> None:
    """Raises `DumpFailed` if a table was truncated, rewritten or dropped since the view was opened."""
    query = "SELECT oid, relfilenode FROM pg_catalog.pg_class WHERE oid = ANY (%(oids)s)"
    tables = [one for one in found if one.relkind == "r" and one.dumped]
    doing = f"cannot see whether tables of {database} were rewritten"
    with connect(settings, database=database) as connection, translated(doing, DumpFailed):
        now = dict(rows(connection, query, {"oids": [one.oid for one in tables]}))
    changed = [one.title for one in tables if now.get(one.oid) != one.filenode]
    if changed:
        more = f" and {len(changed) - _NAMES_SHOWN} more" if len(changed) > _NAMES_SHOWN else ""
        raise DumpFailed(
            f"{database}: {', '.join(changed[:_NAMES_SHOWN])}{more}: truncated, rewritten or dropped after the "
            "dump began, which a snapshot does not protect against",
            hint="Run the backup again when nothing truncates, rewrites or drops these tables.",
        )
