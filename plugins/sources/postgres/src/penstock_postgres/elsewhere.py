"""One connection for all that concerns databases from outside: whether they exist, making them, what they are given."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import psycopg

from penstock.api import SourceDenied
from penstock_postgres.connection import Connection, connect_anywhere, connect_beside, rows, translated
from penstock_postgres.refusals import MissingDatabase
from penstock_postgres.settings import PostgresSettings

__all__ = ["Elsewhere"]


class Elsewhere:
    """A connection to another database than those that are restored, kept from one to the next.

    A restore of hundreds of small databases would spend most of its time on connections.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._kept: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next use makes a new one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            with suppress(psycopg.Error):
                kept.close()

    def beside(self, name: str) -> Connection:
        """A connection to another database than `name`, as `connect_beside` finds it; it stays this object's."""
        if self._kept is not None and self._kept.info.dbname != name and _lives(self._kept):
            return self._kept
        self.close()
        self._kept = connect_beside(self._settings, name)
        return self._kept

    @contextmanager
    def look_at(self, name: str | None) -> Iterator[tuple[Connection, str, bool]]:
        """As `connect_anywhere`; but to see that a database is missing takes no connection of its own."""
        there = self._without(name) if name is not None else None
        if there is not None and name is not None:
            yield there, name, False
            return
        with connect_anywhere(self._settings, name) as found:
            yield found

    def _without(self, name: str) -> Connection | None:
        """A connection to another database of the server, which has none that is called `name`."""
        try:
            beside = self.beside(name)
        except (MissingDatabase, SourceDenied):
            return None
        query = "SELECT FROM pg_catalog.pg_database WHERE datname = %(name)s"
        with translated(f"cannot look at {self._settings.location}"):
            return None if rows(beside, query, {"name": name}) else beside


def _lives(connection: Connection) -> bool:
    try:
        connection.execute("SELECT")
    except psycopg.Error:
        return False
    return True
