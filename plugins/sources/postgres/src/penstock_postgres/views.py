"""The view that a dump of a database holds: a transaction, whose snapshot every stream is read under."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from penstock.api import DumpFailed
from penstock.api.servers import listed
from penstock_postgres.connection import Connection, connect, rows, said_by, set_all, translated
from penstock_postgres.relations import Relation
from penstock_postgres.settings import PostgresSettings

__all__ = ["TablesChanged", "View", "changed_tables", "join_view", "lock_tables", "open_view"]

_LOCKED_AT_ONCE = 1000


#: The settings of pg_dump's own session (`setup_connection` of its sources), beside those of every connection.
_AS_PG_DUMP = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "synchronize_seqscans": "off",
    "row_security": "off",
    # pg_dump need not say so, whose COPY is of no query: rows in the order in which they are stored, every night.
    "max_parallel_workers_per_gather": "0",
}


class TablesChanged(DumpFailed):
    """Something is done to tables that no snapshot protects from: the next dump may be without."""

    retryable = True


@dataclass(frozen=True, slots=True)
class View:
    """One database as it was at one moment: an open transaction, and the name under which it exported its snapshot.

    It holds no lock unless `lock_tables` takes some: whatever changes the schema meanwhile waits for pg_dump alone.
    """

    connection: Connection
    snapshot: str

    @property
    def database(self) -> str:
        """The name of the database."""
        return self.connection.info.dbname

    def lost(self) -> str:
        """What the server said when it ended the view by itself; empty as long as it lasts, and after its end."""
        if self.connection.closed and not self.connection.broken:
            return ""
        try:
            self.connection.execute("SELECT")
        except psycopg.OperationalError as error:
            return said_by(error)
        except psycopg.Error:
            pass  # an error of before, which leaves the transaction open
        return ""


def open_view(settings: PostgresSettings, name: str | None) -> View:
    """A view of a database; None is the settings' own. Close its connection to end it."""
    connection = connect(settings, database=name)
    try:
        with translated(f"cannot start to dump {settings.location_of(connection.info.dbname)}"):
            _begin(connection)
            return View(connection, rows(connection, "SELECT pg_catalog.pg_export_snapshot()")[0][0])
    except BaseException:  # an interrupt, too, leaves no transaction behind
        connection.close()
        raise


def join_view(settings: PostgresSettings, database: str, snapshot: str) -> Connection:
    """A connection whose transaction sees what the view sees that exported `snapshot`, in whatever process.

    Rows come out of it as pg_dump has them, and all of them or an error.
    """
    connection = connect(settings, database=database)
    try:
        with translated(f"cannot start to dump {settings.location_of(database)}", DumpFailed):
            set_all(connection, _AS_PG_DUMP)
            _begin(connection)
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
    except BaseException:  # an interrupt, too, leaves no transaction behind
        connection.close()
        raise
    return connection


def lock_tables(settings: PostgresSettings, view: View, found: Sequence[Relation]) -> None:
    """Lock all tables that are dumped, as pg_dump does, so that each is as the view sees it until the view ends.

    Raises `TablesChanged` if one was truncated, rewritten, renamed or dropped before.
    """
    tables = [one for one in found if one.relkind in ("r", "p") and one.dumped]
    doing = f"cannot lock the tables of {view.database}"
    try:
        for begin in range(0, len(tables), _LOCKED_AT_ONCE):
            some = [sql.Identifier(one.schema, one.name) for one in tables[begin : begin + _LOCKED_AT_ONCE]]
            each = sql.SQL(", ").join(sql.SQL("ONLY {}").format(one) for one in some)
            with translated(doing, DumpFailed):
                view.connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(each))
    except DumpFailed as error:
        if isinstance(error.__cause__, (errors.UndefinedTable, errors.InvalidSchemaName)):
            raise TablesChanged(error.message) from error
        raise
    if changed := changed_tables(settings, view.database, found):
        raise TablesChanged(f"{listed(changed, 'table', 'tables')} of {view.database} changed just when the dump began")


def _begin(connection: Connection) -> None:
    """From the next statement on, everything is in one transaction that reads under one snapshot."""
    connection.autocommit = False
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def changed_tables(settings: PostgresSettings, database: str, found: Sequence[Relation]) -> list[str]:
    """Tables that were truncated, rewritten, renamed or dropped since `found` was found.

    Every snapshot sees those changes: rows would be missing. Once pg_dump has locked its tables, there are no more.
    """
    query = """
    SELECT c.oid, n.nspname, c.relname, c.relfilenode FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%(oids)s)
    """
    tables = [one for one in found if one.relkind == "r" and one.dumped]
    doing = f"cannot see whether tables of {database} were rewritten"
    with connect(settings, database=database) as connection, translated(doing, DumpFailed):
        now = {oid: rest for oid, *rest in rows(connection, query, {"oids": [one.oid for one in tables]})}
    return [one.title for one in tables if now.get(one.oid) != [one.schema, one.name, one.filenode]]
