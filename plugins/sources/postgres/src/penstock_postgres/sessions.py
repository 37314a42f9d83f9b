"""Sessions that read under one view, kept from one stream to the next."""

from collections import deque
from contextlib import suppress

import psycopg

from penstock.api import DumpFailed
from penstock_postgres.connection import Connection, translated
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.views import join_view

__all__ = ["Sessions"]


_MARK = "SAVEPOINT penstock"


class Sessions:
    """Gives each stream a session of its own, and the same one to the next stream.

    A dump of thousands of small tables would spend most of its time on connections. There are no more sessions than
    streams that are read at a time. Any thread may call the methods.
    """

    def __init__(self, settings: PostgresSettings, database: str, snapshot: str) -> None:
        self._settings = settings
        self._database = database
        self._snapshot = snapshot
        self._idle: deque[Connection] = deque()
        self._closed = False

    def take(self) -> Connection:
        """A session in the view's transaction, with a savepoint that `give` goes back to; as `join_view` makes it."""
        while self._idle:
            with suppress(psycopg.Error, IndexError):
                idle = self._idle.pop()
                idle.execute(_MARK)  # or it was lost meanwhile
                return idle
        connection = join_view(self._settings, self._database, self._snapshot)
        with translated(f"cannot start to dump {self._database}", DumpFailed):
            connection.execute(_MARK)
        return connection

    def give(self, connection: Connection) -> None:
        """Take back a session that works; its locks and settings end."""
        try:
            connection.execute("ROLLBACK TO SAVEPOINT penstock; RELEASE SAVEPOINT penstock")
        except psycopg.Error:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close the sessions that nobody uses; others are closed when they are given back."""
        self._closed = True
        while self._idle:
            with suppress(psycopg.Error, IndexError):
                self._idle.pop().close()
