"""Views, routines, triggers and events on their way into a server, when the tables of all databases are there."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from pymysql import err

from penstock.api import LeftOut
from penstock_mysql.attempts import Attempt
from penstock_mysql.connection import Connection, execute, is_lost, quoted, rows, said_by
from penstock_mysql.splitting import KINDS, Program

__all__ = ["ProgramMaker"]

#: As a dump program's own session is while it restores.
_BASE = "SET NAMES utf8mb4, SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', SESSION time_zone = '+00:00'"
_COLLATED = re.compile(rb"CHARACTER SET (\w+) COLLATE (\w+)")


class ProgramMaker:
    """Makes the programs of several databases: `programs` by the database that they go into.

    With `own` they belong to the account that restores. The session of `connection` is left as the last of them needed
    it: use it for nothing else.
    """

    def __init__(self, connection: Connection, programs: Mapping[str, Sequence[Program]], *, own: bool) -> None:
        self._own = own
        self._connection = connection
        self._programs = programs
        self._state: tuple[str, tuple[bytes, ...]] | None = None

    def attempts(self) -> Iterator[Attempt]:
        """All of them, in an order that most need: routines, views, triggers, events."""
        for kind in KINDS:
            for database, programs in self._programs.items():
                for program in programs:
                    if program.kind == kind:
                        one = LeftOut(kind, program.name, "", program.text, database)
                        yield Attempt(one, partial(self._make, database, program))

    def make_placeholders(self) -> None:
        """Give every view something with its columns, so that views may be made of each other in any order."""
        for database, program in self._views():
            with suppress(err.ProgrammingError, err.OperationalError, err.InternalError):
                self._set(database, ())
                self._run(program.placeholder)

    def drop_placeholders(self, missing: Iterable[LeftOut]) -> None:
        """Drop the placeholders of views that could not be made."""
        for one in missing:
            if one.kind == "view":
                self._set(one.database, ())
                execute(self._connection, f"DROP VIEW IF EXISTS {quoted(one.database, one.name)}")

    def broken_views(self, missing: Sequence[LeftOut]) -> Iterator[LeftOut]:
        """The views that were made and do not work, because something that they need is `missing`."""
        known = {(one.database, one.name) for one in missing if one.kind == "view"}
        for database, program in self._views():
            if (database, program.name) in known:
                continue
            try:
                self._set(database, ())
                rows(self._connection, f"SHOW FIELDS FROM {quoted(database, program.name)}")
            except err.Error as error:
                if is_lost(error):
                    raise
                reason = f"it is there, but does not work without what is missing: {said_by(error)}"
                yield LeftOut("view", program.name, reason, program.text, database)

    def drop_triggers(self) -> None:
        """Drop the triggers again: a table that has one does not go to another database."""
        for database, programs in self._programs.items():
            for program in programs:
                if program.kind == "trigger":
                    self._set(database, ())
                    execute(self._connection, f"DROP TRIGGER IF EXISTS {quoted(database, program.name)}")

    def _views(self) -> Iterator[tuple[str, Program]]:
        for database, programs in self._programs.items():
            for program in programs:
                if program.kind == "view":
                    yield database, program

    def _make(self, database: str, program: Program) -> None:
        own = self._altered(database, program.alter)
        try:
            if b"CREATE TABLE" in program.placeholder:
                self._set(database, ())
                execute(self._connection, f"DROP TABLE IF EXISTS {quoted(database, program.name)}")
            self._set(database, program.context)
            statement = program.without_definer if self._own else program.statement
            if program.kind == "view":
                statement = re.sub(rb"CREATE\b", b"CREATE OR REPLACE", statement, count=1)
            self._run(statement)
        finally:
            if own:
                self._set(database, ())
                execute(self._connection, own)

    def _set(self, database: str, context: tuple[bytes, ...]) -> None:
        if self._state == (database, context):
            return
        self._state = None
        execute(self._connection, _BASE)  # before the name of the database, which is in UTF-8
        self._connection.driver.select_db(database)
        for statement in context:
            self._run(statement)
        self._state = (database, context)

    def _altered(self, database: str, alter: bytes) -> str:
        """Give the database another collation for a moment; what gives it its own back."""
        wanted = _COLLATED.search(alter)
        if wanted is None:
            return ""
        self._set(database, ())
        query = (
            "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA "
            "WHERE SCHEMA_NAME = %s"
        )
        ((character_set, collation),) = rows(self._connection, query, [database])
        name = quoted(database)
        execute(
            self._connection, f"ALTER DATABASE {name} CHARACTER SET {wanted[1].decode()} COLLATE {wanted[2].decode()}"
        )
        return f"ALTER DATABASE {name} CHARACTER SET {character_set} COLLATE {collation}"

    def _run(self, statement: bytes) -> None:
        # As bytes: a definition is in the character set of whoever made it.
        self._connection.driver.query(statement)
