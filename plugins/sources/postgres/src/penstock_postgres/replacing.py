"""The last step of a clean restore: the restored database takes the name and place of the old one."""

import time
from dataclasses import dataclass

from psycopg import sql

from penstock.api import Report, RestoreFailed, SourceError, StopToken
from penstock_postgres.connection import Connection, connect_beside, rows, translated
from penstock_postgres.settings import PostgresSettings

__all__ = ["Replacement", "put_in_place"]

#: How long the others may take to leave a database that is replaced (seconds).
_DISCONNECT_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Replacement:
    """The name of the old database, that of the restored one until then, and that of the old one from then on."""

    name: str
    restored: str
    aside: str

    @property
    def statements(self) -> str:
        """What does by hand what could not be done."""
        old, new, aside = (_quoted(name) for name in (self.name, self.restored, self.aside))
        return f"ALTER DATABASE {old} RENAME TO {aside}; ALTER DATABASE {new} RENAME TO {old};"


def put_in_place(settings: PostgresSettings, replacement: Replacement, *, stop: StopToken, report: Report) -> None:
    """Let the restored database take the place of the old one, which is dropped.

    Whoever is connected to the old one loses the connection. When that fails, the old database is as it was and open
    to connections, and the restored one is kept: `RestoreFailed` names it, with the statements that finish the work. It
    says so where nobody can tell whether it failed. An old database that cannot be dropped is reported, no more: the
    restore is complete.
    """
    try:
        _swap(settings, replacement, stop)
    except BaseException as error:
        lines = _after_failure(settings, replacement)
        if lines and isinstance(error, SourceError):
            raise RestoreFailed(
                error.message,
                hint=f"When nobody is connected to {replacement.name}, run {replacement.statements}",
                details=(*error.details, *lines),
            ) from error
        if lines:
            report.warn(f"{'; '.join(lines)}; it takes its place with {replacement.statements}")
        if not isinstance(error, SourceError):
            raise  # an interruption
    _drop_old(settings, replacement, report)


def _after_failure(settings: PostgresSettings, replacement: Replacement) -> tuple[str, ...]:
    """Open the old database to connections again and say what is left; nothing if the swap happened all the same.

    A connection may be lost after the server has committed, and before it has said so.
    """
    name, restored = replacement.name, replacement.restored
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name))
    query = "SELECT datname FROM pg_catalog.pg_database WHERE datname = ANY (%(names)s)"
    try:
        with connect_beside(settings, name) as connection, translated(f"cannot look at {settings.location}"):
            if rows(connection, query, {"names": [restored, replacement.aside]}) == [(replacement.aside,)]:
                return ()
            connection.execute(statement)
    except SourceError as error:
        return (
            f"the restored database is complete: it is {restored}, or it has taken the place of {name} unseen",
            f"{name} refuses connections until ALTER DATABASE {_quoted(name)} ALLOW_CONNECTIONS true",
            error.message,
        )
    return (f"the restored database is complete, and kept as {restored}",)


def _swap(settings: PostgresSettings, replacement: Replacement, stop: StopToken) -> None:
    old, new, aside = (sql.Identifier(name) for name in (replacement.name, replacement.restored, replacement.aside))
    with (
        connect_beside(settings, replacement.name) as connection,
        translated(f"cannot put the restored database in the place of {replacement.name}", RestoreFailed),
    ):
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(old))
        _disconnect(connection, replacement.name, stop)
        with connection.transaction():
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, aside))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(new, old))


def _drop_old(settings: PostgresSettings, replacement: Replacement, report: Report) -> None:
    try:
        with connect_beside(settings, replacement.name) as connection, translated("cannot drop it"):
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(replacement.aside)))
    except SourceError as error:
        report.warn(
            f"{replacement.name} is restored, but the old database is left as {replacement.aside}: {error.message}; "
            "drop it by hand"
        )


def _disconnect(connection: Connection, name: str, stop: StopToken) -> None:
    until = time.monotonic() + _DISCONNECT_SECONDS
    query = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = %(name)s"
    while rows(connection, query, {"name": name}) and time.monotonic() < until:
        stop.wait(_LOOK_AGAIN_SECONDS)


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
