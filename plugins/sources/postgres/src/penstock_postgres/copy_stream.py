"""The stream of one table's rows: COPY under the snapshot of a view, over a connection of its own."""

import select
import socket
import time
from contextlib import ExitStack, suppress
from threading import Lock

import psycopg
from psycopg import errors, pq, sql

from penstock.api import (
    DumpFailed,
    DumpStalled,
    DumpStream,
    InventoryItem,
    PenstockError,
    StopToken,
    StreamOutcome,
    StreamSpec,
)
from penstock_postgres.attributes import RowsAttributes
from penstock_postgres.checked_archive import ADVICE
from penstock_postgres.connection import cancelled_by, said_by, translated
from penstock_postgres.dumping import QUEUE_SECONDS
from penstock_postgres.probe import count_rows
from penstock_postgres.sessions import Sessions
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.table_rows import copy_out
from penstock_postgres.views import TablesChanged

__all__ = ["CopyStream"]

#: What TLS has read of the server's answer is not seen by a poll: it is asked for that often (seconds).
_LOOK_AGAIN = 1.0
_STALL_HINT = "Allow a longer stall_timeout if the server may be silent for that long."


class CopyStream(DumpStream):
    """Rows as COPY writes them, and at the end as many of them as the server says.

    It needs nothing but its spec, in whatever process. The table is locked first, and is then still the one of the
    view: or the whole dump begins again.
    """

    def __init__(self, settings: PostgresSettings, spec: StreamSpec, sessions: Sessions, *, stop: StopToken) -> None:
        """Start it in one of the `sessions`, which gets it back at the end."""
        self._settings = settings
        self._spec = spec
        self._stop = stop
        self._recorded = recorded = RowsAttributes.of(spec)
        self._name = f"COPY of {recorded.database}: {recorded.namespace}.{recorded.table}"
        self._rest = memoryview(b"")
        self._row_count = 0
        self._table_rows: int | None = None
        #: Since when the server is waited for.
        self._heard = time.monotonic()
        self._ended = self._closed = self._aborted = False
        #: Held while libpq is at work: it is not to be freed under it.
        self._working = Lock()
        self._sessions = sessions
        self._connection = sessions.take()
        with ExitStack() as undo:
            failed = undo.enter_context(ExitStack())
            failed.callback(self._connection.close)
            self._woken, self._waker = map(undo.enter_context, socket.socketpair())
            self._waker.setblocking(False)
            undo.enter_context(stop.on_stop(self._wake))
            self._begin()
            failed.pop_all()
            self._waking = undo.pop_all()

    def readinto(self, buffer: memoryview, /) -> int:
        """As the contract says; a few rows at a time, as they come from the server."""
        with self._working:
            if self._closed or self._aborted:
                raise DumpFailed(f"{self._name} was stopped before its end")
            self._stop.check()
            self._heard = time.monotonic()
            try:
                return self._fill(buffer)
            except psycopg.Error as error:
                raise self._failure(error) from error

    def close(self) -> None:
        """End the transaction; raises `DumpFailed` unless every row was read."""
        with self._working:
            if self._closed:
                return
            whole = False
            try:
                self._stop.check()
                if not self._ended:
                    raise DumpFailed(f"{self._name} was closed before its end")
                self._count()
                whole = True
            finally:
                self._end_session(keep=whole)

    def abort(self) -> None:
        """Cancel the statement and close the connection; whoever waits in `readinto` is woken."""
        self._aborted = True
        self._wake()
        with self._working:
            if not self._closed:
                with suppress(psycopg.Error):
                    self._connection.cancel_safe(timeout=_LOOK_AGAIN)
                self._end_session(keep=False)

    def outcome(self) -> StreamOutcome:
        """How many rows were read, and those of the table, if they are counted here."""
        attributes = {"rows": str(self._row_count)}
        if self._table_rows is None:
            return StreamOutcome(attributes)
        prefix = f"{self._recorded.database}." if self._settings.databases else ""
        name = f"{prefix}{self._recorded.namespace}.{self._recorded.table}"
        kind, size = self._spec.attributes["kind"], int(self._spec.attributes["size"])
        return StreamOutcome(attributes, (InventoryItem(kind, name, self._table_rows, size, exact=True),))

    def _count(self) -> None:
        """Of a table in one stream, the rows were counted as they came; others are counted if that is insisted on."""
        if "kind" not in self._spec.attributes or self._settings.row_counts not in ("auto", "exact"):
            return
        if self._recorded.pages is None:
            self._table_rows = self._row_count
        elif self._settings.row_counts == "exact":
            recorded = self._recorded
            with translated(self._name, DumpFailed), cancelled_by(self._stop, self._connection):
                self._table_rows = count_rows(self._connection, recorded.namespace, recorded.table, only=True)

    def _begin(self) -> None:
        """Lock the table, see that it is the one that the view has, and start."""
        connection, recorded = self._connection, self._recorded
        table = sql.Identifier(recorded.namespace, recorded.table)
        seconds = min(self._settings.lock_timeout, QUEUE_SECONDS)
        chosen = {
            "lock_timeout": f"{max(1, round(seconds * 1000))}ms",
            # Statistics may be missing: a range is never a scan of the whole table.
            "enable_seqscan": "on" if recorded.pages is None else "off",
            "client_encoding": connection.info.parameter_status("server_encoding") or "UTF8",
        }
        lock = sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(table)
        local = [sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(one), sql.Literal(chosen[one])) for one in chosen]
        try:
            connection.execute(sql.SQL("; ").join([*local, lock]))
            query = "SELECT %s::pg_catalog.regclass::oid::text, pg_catalog.pg_relation_filenode(%s::oid)::text"
            row = connection.execute(query, [table.as_string(connection), self._spec.attributes["oid"]]).fetchone()
            if row != (self._spec.attributes["oid"], self._spec.attributes["filenode"]):
                raise TablesChanged(f"{self._name}: the table was truncated, rewritten or dropped after the dump began")
            self._send(copy_out(recorded).as_bytes(connection))
        except psycopg.Error as error:
            raise self._failure(error) from error

    def _send(self, statement: bytes) -> None:
        """Send it; what the server answers is read as rows are."""
        pgconn = self._connection.pgconn
        pgconn.send_query(statement)
        while pgconn.flush():
            self._wait(select.POLLIN | select.POLLOUT)
            pgconn.consume_input()
        result = self._result()
        if result is None or result.status != pq.ExecStatus.COPY_OUT:
            raise self._refusal(result)

    def _fill(self, buffer: memoryview) -> int:
        """Whole rows, but for one that does not fit, and its rest before the next ones."""
        count = min(len(self._rest), len(buffer))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        take, room = self._connection.pgconn.get_copy_data, len(buffer)
        while count < room and not self._ended:
            size, row = take(1)  # which is one row: the server sends each as a message of its own
            if size > 0:
                self._row_count += 1
                if size > room - count:
                    size = room - count
                    row, self._rest = row[:size], row[size:]
                buffer[count : count + size] = row
                count += size
            elif size < 0:
                self._end()
            elif not self._hears_more(wait=not count):
                break
        return count

    def _hears_more(self, *, wait: bool) -> bool:
        """Take what the server has sent; False if there is nothing, and it is not waited for."""
        if not self._is_ready():
            if not wait:
                return False
            self._wait()
        self._connection.pgconn.consume_input()
        return True

    def _end(self) -> None:
        """Hear how the statement ended."""
        result = self._result()
        if result is None or result.status != pq.ExecStatus.COMMAND_OK:
            raise self._refusal(result)
        if result.command_tuples != self._row_count:
            raise DumpFailed(f"{self._name}: {self._row_count} rows came, and the server sent {result.command_tuples}")
        if self._result() is not None:
            raise DumpFailed(f"{self._name}: the server sent more than one answer")
        self._ended = True

    def _result(self) -> pq.abc.PGresult | None:
        pgconn = self._connection.pgconn
        while pgconn.is_busy():
            self._wait()
            pgconn.consume_input()
        return pgconn.get_result()

    def _is_ready(self) -> bool:
        poll = select.poll()
        poll.register(self._connection.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))

    def _wait(self, events: int = select.POLLIN) -> None:
        """Wait for the server, for a moment at most, and look after whoever ends the stream."""
        limit = self._settings.stall_timeout
        left = self._heard + limit - time.monotonic()
        poll = select.poll()
        poll.register(self._connection.pgconn.socket, events)
        poll.register(self._woken, select.POLLIN)
        poll.poll(1000 * max(0.0, min(_LOOK_AGAIN, left)))
        self._stop.check()
        if self._aborted:
            raise DumpFailed(f"{self._name} was stopped before its end")
        if left <= 0:
            raise DumpStalled(f"{self._name} gave nothing for {limit:g} seconds", hint=_STALL_HINT)

    def _end_session(self, *, keep: bool) -> None:
        self._closed = True
        self._waking.close()
        if keep:
            self._sessions.give(self._connection)
        else:
            with suppress(psycopg.Error):
                self._connection.close()

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"\0")

    def _refusal(self, result: pq.abc.PGresult | None) -> psycopg.Error:
        if result is None or not result.error_message:
            return psycopg.OperationalError(self._connection.pgconn.get_error_message() or "the server went away")
        return errors.error_from_result(result, self._connection.info.encoding)

    def _failure(self, error: psycopg.Error) -> PenstockError:
        said = said_by(error)
        if isinstance(error, (errors.LockNotAvailable, errors.UndefinedTable, errors.InvalidSchemaName)):
            return TablesChanged(
                f"{self._name}: {said}",
                hint="Something waits to change the table, or has renamed it: dump when nothing does.",
            )
        return DumpFailed(f"{self._name}: {said}", hint=ADVICE.find(said))
