"""The stream of the sequences' values: SQL that sets them, as pg_dump writes it, a sequence at a time."""

import re
from collections.abc import Iterator
from contextlib import suppress
from threading import Lock

import psycopg
from psycopg import sql

from penstock.api import DumpFailed, DumpStream, StopToken, StreamSpec
from penstock_postgres.connection import Connection, cancelled_by, translated
from penstock_postgres.relations import Relation
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.survey import chosen_relations
from penstock_postgres.views import join_view

__all__ = ["SequencesStream"]

_AT_ONCE = 200
_CANCEL_SECONDS = 1.0


class SequencesStream(DumpStream):
    """Values that no snapshot holds: they are as of the moment when they are read, like those of pg_dump."""

    def __init__(self, settings: PostgresSettings, spec: StreamSpec, *, stop: StopToken) -> None:
        database = spec.attributes["database"]
        self._name = spec.name
        self._stop = stop
        self._doing = f"cannot read the sequences of {database}"
        self._connection = join_view(settings, database, spec.attributes["snapshot"])
        self._rest = b""
        self._ended = self._closed = False
        #: Held while the connection is at work: it is not to be closed under it.
        self._working = Lock()
        try:
            chosen = chosen_relations(self._connection, settings)
        except BaseException:  # an interrupt, too, leaves no transaction behind
            self._connection.close()
            raise
        wanted = [one for one in chosen.relations if one.relkind == "S" and one.dumped]
        self._blocks = _statements(
            self._connection, [one for one in wanted if one.oid not in chosen.choice.without_rows]
        )

    def readinto(self, buffer: memoryview, /) -> int:
        """As the contract says; some hundred sequences at a time."""
        with self._working:
            if self._closed:
                raise DumpFailed(f"{self._name} was closed before its end")
            with translated(self._doing, DumpFailed), cancelled_by(self._stop, self._connection):
                while not self._rest and not self._ended:
                    self._stop.check()
                    self._rest = next(self._blocks, b"")
                    self._ended = not self._rest
            part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    def close(self) -> None:
        """End the transaction; raises `DumpFailed` unless all was read."""
        if not self._closed:
            self._end()
            if not self._ended:
                raise DumpFailed(f"{self._name} was closed before its end")

    def abort(self) -> None:
        """Cancel the query that is running, and close the connection."""
        if not self._closed:
            with suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
            self._end()

    def _end(self) -> None:
        with self._working:
            self._closed = True
            with suppress(psycopg.Error):
                self._connection.close()


def _statements(connection: Connection, sequences: list[Relation]) -> Iterator[bytes]:
    """What `Script` reads: a comment before each statement says which entry it belongs to."""
    yield b"SET client_encoding = 'UTF8';\n\n"
    for begin in range(0, len(sequences), _AT_ONCE):
        some = sequences[begin : begin + _AT_ONCE]
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}::integer, last_value, is_called FROM {}").format(
                sql.Literal(number), sql.Identifier(one.schema, one.name)
            )
            for number, one in enumerate(some)
        )
        values = {number: rest for number, *rest in connection.execute(query).fetchall()}
        text = ""
        for number, one in enumerate(some):
            value, called = values[number]
            name = sql.Literal(sql.Identifier(one.schema, one.name).as_string(connection)).as_string(connection)
            text += (
                f"-- Name: {_line(one.name)}; Type: SEQUENCE SET; Schema: {_line(one.schema)}; Owner: -\n\n"
                f"SELECT pg_catalog.setval({name}, {value}, {str(called).lower()});\n\n"
            )
        yield text.encode()


def _line(name: str) -> str:
    """As pg_dump has it in comments (`sanitize_line`)."""
    return re.sub(r"[\r\n]", " ", name)
