"""Runs the script of an archive, statement by statement: what the server does not take costs itself."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import LiteralString

import psycopg
from psycopg import errors

from penstock.api import LeftOut, Report, RestoreFailed, StopToken
from penstock.api.servers import Advice
from penstock_postgres.connection import Connection, said_by
from penstock_postgres.merging import configuration_tables, merge
from penstock_postgres.options import RestoreOptions
from penstock_postgres.script import CopyRows, Entry, Statement

__all__ = ["Loaded", "Loading", "loading"]

#: What to do about what the server says, in the order in which it is looked for.
_ADVICE = Advice(
    {
        r"max_locks_per_transaction|out of shared memory": (
            "Restore into a database that does not exist yet: it is made, and dropped if anything fails, so that one "
            "transaction, which locks every table at once, is not needed. Or raise max_locks_per_transaction on the "
            "server, or give up all-or-nothing with the option single_transaction=no."
        ),
        r"lock timeout": "Raise lock_timeout, or try again later: another session holds a lock.",
        r'role ".*" does not exist': (
            "Restore the roles too (accounts.sql), or leave owners and grants out with owners=no and privileges=no."
        ),
        r"(schema|type|function|relation) .* does not exist": (
            "Give functions with unqualified names a search path (ALTER FUNCTION … SET search_path); and restore a "
            "choice of tables into a database that has what they need: types, functions, extensions."
        ),
        r'tablespace ".*" does not exist': "Make it, or restore with tablespaces=no.",
        r"extension .* is not available|could not open extension control file|could not access file": (
            "Install the extension's package on the server first."
        ),
        r"other objects depend on it|cannot drop": (
            "Restore into a new database, or as a role that may replace the old one (beside=yes): dropping what "
            "the dump holds does not always work."
        ),
        r"must be (superuser|owner|member)|must be able to SET ROLE|permission denied": (
            "Restore as a superuser, or with owners=no and privileges=no."
        ),
    }
)

#: Set for this session already, and not to be changed by what another server thought right.
_OWN_SETTINGS = re.compile(
    rb"SET (statement_timeout|lock_timeout|idle_in_transaction_session_timeout|transaction_timeout) = "
)
#: What decides where and how the next tables are stored: a change of it is said.
_STORAGE = re.compile(rb"SET (default_tablespace|default_table_access_method) = (.*)", re.DOTALL)
#: Kinds of entries whose statements take no time: many of them go to the server at once.
_QUICK = {
    "ACL", "AGGREGATE", "BLOB", "BLOB METADATA", "CAST", "COLLATION", "COMMENT", "CONVERSION", "DEFAULT",
    "DEFAULT ACL", "DOMAIN", "FUNCTION",
    "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "POLICY", "PROCEDURE", "ROW SECURITY", "RULE", "SCHEMA",
    "SECURITY LABEL", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "SHELL TYPE", "STATISTICS", "STATISTICS DATA",
    "TABLE", "TABLE ATTACH", "INDEX ATTACH", "TRIGGER", "TYPE", "VIEW",
}  # fmt: skip
_AT_ONCE = 100
_AT_ONCE_BYTES = 256 * 1024
#: pg_dump's words for kinds, where people have others.
_WORDS = {
    "ACL": "grants on",
    "BLOB": "large object",
    "BLOB METADATA": "large objects",
    "BLOBS": "content of",
    "CHECK CONSTRAINT": "check of",
    "DEFAULT": "default of",
    "DEFAULT ACL": "default privileges",
    "FK CONSTRAINT": "foreign key",
    "MATERIALIZED VIEW DATA": "rows of the materialized view",
    "ROW SECURITY": "row-level security of",
    "SEQUENCE SET": "value of the sequence",
    "TABLE ATTACH": "partition",
    "TABLE DATA": "rows of the table",
}
#: Their statements may hold passwords, and what the server says of them may repeat those.
_SECRET_KINDS = {"SERVER", "SUBSCRIPTION", "USER MAPPING"}
_OWNER = re.compile(rb"ALTER\s.*\sOWNER TO ", re.DOTALL)
#: Tables, and whatever else rows are copied into.
_TABLES = {"TABLE", "FOREIGN TABLE"}
#: The server as a whole, not the statement, is what fails: 08 connection, 25 transaction state, 53 resources,
#: 55P03 lock timeout, 57 an administrator, 58 the system.
_FATAL = ("08", "25", "53", "55P03", "57", "58")


@dataclass(slots=True)
class Loaded:
    """What became of a script: how many tables it makes, which were not made, and which rows are missing."""

    table_count: int = 0
    failed_tables: set[tuple[str, str]] = field(default_factory=set)
    rows_lost: bool = False


@contextmanager
def loading(
    connection: Connection,
    options: RestoreOptions,
    *,
    final: str,
    atomic: bool,
    strict: bool,
    stop: StopToken,
    report: Report,
) -> Iterator["Loading"]:
    """Runs scripts on `connection`, which is in autocommit mode; with `atomic` in one transaction, under savepoints.

    What the server refuses is told to `report`; with `strict` it raises `RestoreFailed`, as does whatever concerns the
    server as a whole. Rows of a table that was not made are not restored: another one may have its name. Where no table
    at all can be made, nothing is left out: it fails.
    """
    with _transaction(connection) if atomic else nullcontext():
        work = Loading(connection, options, final=final, atomic=atomic, strict=strict, stop=stop, report=report)
        yield work
        loaded = work.loaded
        if loaded.table_count and len(loaded.failed_tables) >= loaded.table_count and work.first_failure:
            raise work.first_failure


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    """The transaction of everything; the savepoints in it are this module's own."""
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise
    # In a transaction that has failed, the server takes it for a ROLLBACK and calls that no error.
    if (done := connection.execute("COMMIT").statusmessage) != "COMMIT":
        raise RestoreFailed(f"cannot restore into {connection.info.dbname}: the server answered COMMIT with {done}")


class Loading:
    """What one restore into one database has done so far."""

    def __init__(
        self,
        connection: Connection,
        options: RestoreOptions,
        *,
        final: str,
        atomic: bool,
        strict: bool,
        stop: StopToken,
        report: Report,
    ) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._options = options
        self._final = final
        self._atomic = atomic
        self._strict = strict
        self._stop = stop
        self._report = report
        self._waiting: list[Statement] = []
        self._waiting_bytes = 0
        #: Within the BEGIN and COMMIT of a group of large objects; False: nothing in it went wrong yet.
        self._group_failed: bool | None = None
        self._configuration: set[tuple[str, str]] | None = None
        self._said: set[bytes] = set()
        #: Why the first object that should have been dropped was not.
        self._why_not_dropped: str | None = None
        self.loaded = Loaded()
        self.first_failure: RestoreFailed | None = None

    def run(self, script: Iterable[Statement | CopyRows]) -> None:
        """Run a script, or the next part of one, to its end."""
        for one in script:
            self._stop.check()
            self.take(one)
        self.flush()

    def take(self, one: Statement | CopyRows) -> None:
        """Run one statement, or keep it to run it with the next ones."""
        entry = one.entry
        if isinstance(one, CopyRows):
            self.flush()
            self._copy(one)
            return
        if _OWN_SETTINGS.match(one.text) or one.text.startswith(b"DROP SUBSCRIPTION "):
            return
        if entry is not None and entry.kind == "POLICY" and self._options.policies == "no":
            return
        if entry is not None and entry.kind in _TABLES and one.text.startswith(b"CREATE "):
            self.loaded.table_count += 1
        if one.text in (b"BEGIN", b"COMMIT"):
            self.flush()
            self._group(one)
        elif self._group_failed is not None:
            self._grouped(one)
        elif entry is not None and entry.kind in _QUICK:
            self._waiting.append(one)
            self._waiting_bytes += len(one.text)
            if len(self._waiting) >= _AT_ONCE or self._waiting_bytes >= _AT_ONCE_BYTES:
                self.flush()
        else:
            self.flush()
            self._run(one)

    def flush(self) -> None:
        """Run what waits: at once, and one by one if that fails."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if len(waiting) > 1:
            try:
                self.execute(*(one.text for one in waiting))
                return
            except psycopg.Error as error:
                self._check(error)
                self._undo()
        for one in waiting:
            self._run(one)

    def execute(self, *texts: bytes) -> None:
        """Send statements to the server: all of them happen, or none."""
        if self._atomic:
            # By itself: a server that does not understand one of the statements runs none of those sent with it.
            self._cursor.execute(b"SAVEPOINT penstock")
            texts = (*texts, b"RELEASE SAVEPOINT penstock")
        self._cursor.execute(b";\n".join(texts))

    def _undo(self) -> None:
        """Undo what has failed just now."""
        if self._atomic:
            self._cursor.execute(b"ROLLBACK TO SAVEPOINT penstock; RELEASE SAVEPOINT penstock")

    def _run(self, one: Statement) -> None:
        try:
            self.execute(one.text)
        except psycopg.Error as error:
            self._check(error)
            self._undo()
            self._refused(one, error)
            return
        if one.entry is not None and one.entry.kind == "SUBSCRIPTION" and one.text.startswith(b"CREATE "):
            self._report.warn(
                f"the subscription {one.entry.title} is restored disabled: give it a slot and enable it when this "
                "database takes over"
            )

    def _group(self, one: Statement) -> None:
        """The transaction of a group of large objects: their descriptors live no longer."""
        if one.text == b"BEGIN":
            self._cursor.execute(b"SAVEPOINT penstock" if self._atomic else b"BEGIN")
            self._group_failed = False
            return
        if not self._group_failed:
            self._cursor.execute(b"RELEASE SAVEPOINT penstock" if self._atomic else b"COMMIT")
        self._group_failed = None

    def _grouped(self, one: Statement) -> None:
        if self._group_failed:
            return
        try:
            self._cursor.execute(one.text)
        except psycopg.Error as error:
            self._check(error)
            self._group_failed = True
            self._undo() if self._atomic else self._cursor.execute(b"ROLLBACK")
            self.loaded.rows_lost = True
            self._refused(one, error)

    def _copy(self, one: CopyRows) -> None:
        entry = one.entry or Entry("TABLE DATA", one.text.decode(errors="replace"), "")
        if (entry.schema, entry.name) in self.loaded.failed_tables:
            self._lost_rows(entry, "the table could not be made")
            return
        if self._configuration is None:  # as of now: extensions come before rows
            self._configuration = configuration_tables(self._connection)
        try:
            if self._atomic:
                self._cursor.execute(b"SAVEPOINT penstock")
            if (entry.schema, entry.name) in self._configuration:
                self._merge(one, entry)
            else:
                with self._cursor.copy(one.text) as copy:
                    for block in one.rows:
                        copy.write(block)
            if self._atomic:
                self._cursor.execute(b"RELEASE SAVEPOINT penstock")
        except psycopg.Error as error:
            self._check(error)
            self._undo()
            self._lost_rows(entry, said_by(error), error)

    def _merge(self, one: CopyRows, entry: Entry) -> None:
        if left := merge(self._connection, one.text, one.rows):
            word = "of them collides" if left.count == 1 else "of them collide"
            reason = f"{left.count} {word} with what the extension has put there"
            self._leave_out(LeftOut(_word(entry), entry.title, reason, left.statement, secret=True))

    def _lost_rows(self, entry: Entry, reason: str, error: psycopg.Error | None = None) -> None:
        self.loaded.rows_lost = True
        self._leave_out(LeftOut(_word(entry), entry.title, reason), error)

    def _refused(self, one: Statement, error: psycopg.Error) -> None:
        entry = one.entry
        if entry is None or one.text.startswith(b"SET "):
            self._setting_refused(one, error)
            return
        if entry.kind in _TABLES and one.text.startswith(b"CREATE "):
            self.loaded.failed_tables.add((entry.schema, entry.name))
        kind = _word(entry)
        if _OWNER.match(one.text):
            kind = f"owner of the {kind}"
        secret = entry.kind in _SECRET_KINDS
        reason = f"the server refuses it ({type(error).__name__})" if secret else said_by(error)
        text = one.text.decode(self._connection.info.encoding, errors="replace")
        lost = not self._is_there(entry, error)
        self._leave_out(LeftOut(kind, entry.title, reason, f"{text};", lost=lost, secret=secret), error)

    def _setting_refused(self, one: Statement, error: psycopg.Error) -> None:
        """What is not known here; or, before the first entry, what stands in the way of being dropped."""
        if one.text in self._said:
            return
        self._said.add(one.text)
        storage = _STORAGE.match(one.text)
        if storage is None:
            # A setting of another version; or a DROP, and whatever depends on that fails by itself.
            self._why_not_dropped = self._why_not_dropped or said_by(error)
            return
        name = storage[1].decode().removeprefix("default_").replace("_", " ")
        value = storage[2].decode(errors="replace")
        reason = f"{said_by(error)}; what belongs there is stored as the server does it by default"
        self._leave_out(LeftOut(name, value, reason), error)

    def _leave_out(self, one: LeftOut, error: psycopg.Error | None = None) -> None:
        if one.lost:
            failure = self._failure_of(one, error)
            self.first_failure = self.first_failure or failure
            if self._strict:
                raise failure
        self._report.left_out(replace(one, database=self._final))

    def _failure_of(self, one: LeftOut, error: psycopg.Error | None) -> RestoreFailed:
        said = [one.reason] if error is None else [one.reason, said_by(error)]
        # Objects that could not be dropped are in the way of their successors.
        in_the_way = isinstance(error, (errors.DuplicateTable, errors.DuplicateObject, errors.DuplicateFunction))
        details = (self._why_not_dropped,) if in_the_way and self._why_not_dropped else ()
        return RestoreFailed(str(one), hint=_ADVICE.find("\n".join((*said, *details))), details=details)

    def _is_there(self, entry: Entry, error: psycopg.Error) -> bool:
        """Whether nothing is missing without the statement: the object is there already, or it is the provider's."""
        match entry.kind:
            case "STATISTICS DATA":
                return True  # ANALYZE makes them
            case "SCHEMA":
                return isinstance(error, errors.DuplicateSchema)
            case "EXTENSION":
                return self._has("SELECT FROM pg_catalog.pg_extension WHERE extname = %s", entry.name)
            case "PROCEDURAL LANGUAGE":
                return self._has("SELECT FROM pg_catalog.pg_language WHERE lanname = %s", entry.name)
            case "COMMENT" if entry.name.startswith("EXTENSION "):
                return isinstance(error, errors.InsufficientPrivilege)
            case _:
                return False

    def _has(self, query: LiteralString, name: str) -> bool:
        return self._connection.execute(query, [name]).fetchone() is not None

    def _check(self, error: psycopg.Error) -> None:
        """Raise if it is the server, not the statement, that fails."""
        self._stop.check()
        if error.sqlstate is None or error.sqlstate.startswith(_FATAL) or self._connection.closed:
            raise self._failure(error) from error

    def _failure(self, error: psycopg.Error) -> RestoreFailed:
        said = said_by(error)
        return RestoreFailed(f"cannot restore into {self._final}: {said}", hint=_ADVICE.find(said))


def _word(entry: Entry) -> str:
    return _WORDS.get(entry.kind, entry.kind.lower())
