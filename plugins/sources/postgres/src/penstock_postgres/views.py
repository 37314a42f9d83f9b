"""The view that a dump of a database holds: a transaction, whose snapshot pg_dump is given."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from penstock.api import DumpFailed
from penstock_postgres.connection import Connection, connect, rows, said_by, translated
from penstock_postgres.relations import Relation
from penstock_postgres.settings import PostgresSettings

__all__ = ["View", "changed_tables", "open_view"]


@dataclass(frozen=True, slots=True)
class View:
    """One database as it was at one moment: an open transaction, and the name under which it exported its snapshot.

    It holds no lock: whatever changes the schema meanwhile waits for nothing but pg_dump.
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
            connection.autocommit = False
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            return View(connection, rows(connection, "SELECT pg_catalog.pg_export_snapshot()")[0][0])
    except BaseException:
        connection.close()
        raise


def changed_tables(settings: PostgresSettings, database: str, found: Sequence[Relation]) -> list[str]:
    """Tables that were truncated, rewritten or dropped since `found` was found.

    Every snapshot sees those changes: rows would be missing. Once pg_dump has locked its tables, there are no more.
    """
    query = "SELECT oid, relfilenode FROM pg_catalog.pg_class WHERE oid = ANY (%(oids)s)"
    tables = [one for one in found if one.relkind == "r" and one.dumped]
    doing = f"cannot see whether tables of {database} were rewritten"
    with connect(settings, database=database) as connection, translated(doing, DumpFailed):
        now = dict(rows(connection, query, {"oids": [one.oid for one in tables]}))
    return [one.title for one in tables if now.get(one.oid) != one.filenode]
