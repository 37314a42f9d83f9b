"""The last step of a clean restore: the restored database takes the name and place of the old one."""

import time
from dataclasses import dataclass

from psycopg import sql

from penstock.api import PenstockError, Report, RestoreFailed, SourceError, StopToken
from penstock.api.servers import listed
from penstock_postgres.connection import Connection, connect_beside, rows, translated
from penstock_postgres.settings import PostgresSettings

__all__ = ["Replacement", "put_in_place"]

#: How long the others may take to leave a database that is replaced (seconds).
_DISCONNECT_SECONDS = 10.0
#: And those that nobody but themselves can send away.
_WAIT_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Replacement:
    """The names of a swap: of the old database, of the restored one before it, and of the old one after it.

    With `keeps_old` the old one stays under its new name: rows of it are not in the restored one.
    """

    name: str
    restored: str
    aside: str
    keeps_old: bool = False

    @property
    def statements(self) -> str:
        """The SQL that finishes the swap by hand."""
        old, new, aside = (_quoted(name) for name in (self.name, self.restored, self.aside))
        return f"ALTER DATABASE {old} RENAME TO {aside}; ALTER DATABASE {new} RENAME TO {old};"


def put_in_place(settings: PostgresSettings, replacement: Replacement, *, stop: StopToken, report: Report) -> None:
    """Let the restored database take the place of the old one, which is dropped.

    Whoever is connected to the old one loses the connection. When that fails, the old database is as it was and open
    to connections, and the restored one is kept: `RestoreFailed` names it, with the statements that finish the work. If
    nobody can tell whether the swap happened, the error says so. An old database that is not dropped is reported, no
    more: the restore is complete.
    """
    try:
        _swap(settings, replacement, stop, report)
    except BaseException as error:
        lines = _after_failure(settings, replacement)
        if lines and isinstance(error, SourceError):
            raise RestoreFailed(
                error.message,
                hint=f"Run this when nobody is connected to {replacement.name}: {replacement.statements}",
                details=(*error.details, *lines),
            ) from error
        if lines:
            report.warn(f"{'; '.join(lines)}; to put it in place, run {replacement.statements}")
        if not isinstance(error, SourceError):  # an interruption
            if not lines:
                report.warn(_old_is_left(replacement, "interrupted"))
            raise
    if replacement.keeps_old:
        _keep_old(settings, replacement)
        report.warn(
            f"the old database is kept as {replacement.aside}, since rows of the restored one were left out; when you "
            "need it no more, drop it by hand"
        )
        return
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
    except PenstockError as error:  # its password may have no source any more
        return (
            f"the restored database is complete: it is still {restored}, or already in the place of {name}",
            f"if {name} refuses connections, run ALTER DATABASE {_quoted(name)} ALLOW_CONNECTIONS true",
            error.message,
        )
    return (f"the restored database is complete, and kept as {restored}",)


def _swap(settings: PostgresSettings, replacement: Replacement, stop: StopToken, report: Report) -> None:
    old, new, aside = (sql.Identifier(name) for name in (replacement.name, replacement.restored, replacement.aside))
    with (
        connect_beside(settings, replacement.name) as connection,
        translated(f"cannot put the restored database in the place of {replacement.name}", RestoreFailed),
    ):
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(old))
        _disconnect(connection, replacement, stop, report)
        with connection.transaction():
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, aside))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(new, old))


def _drop_old(settings: PostgresSettings, replacement: Replacement, report: Report) -> None:
    try:
        with connect_beside(settings, replacement.name) as connection, translated("cannot drop it"):
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(replacement.aside)))
    except PenstockError as error:
        report.warn(_old_is_left(replacement, error.message))


def _keep_old(settings: PostgresSettings, replacement: Replacement) -> None:
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(replacement.aside))
    with connect_beside(settings, replacement.name) as connection, translated("cannot keep the old database"):
        connection.execute(statement)


def _old_is_left(replacement: Replacement, why: str) -> str:
    return (
        f"{replacement.name} is restored, but the old database is left as {replacement.aside}: {why}; drop it by hand"
    )


def _disconnect(connection: Connection, replacement: Replacement, stop: StopToken, report: Report) -> None:
    """End the sessions of the old database; wait for those that the role may not end."""
    # Not autovacuum, which has no user: only a superuser may end it, and RENAME does it for anybody.
    query = """
    SELECT a.pid, a.usename, me.rolsuper OR (NOT r.rolsuper AND (pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
        OR pg_catalog.pg_has_role(session_user, 'pg_signal_backend', 'MEMBER')))
    FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid, pg_catalog.pg_roles me
    WHERE a.datname = %(name)s AND me.rolname = session_user ORDER BY a.pid
    """
    begun = time.monotonic()
    told = False
    while found := rows(connection, query, {"name": replacement.name}):
        for pid, _, may_end in found:
            if may_end:
                rows(connection, "SELECT pg_catalog.pg_terminate_backend(%(pid)s)", {"pid": pid})
        others = [f"{pid} of {role}" for pid, role, may_end in found if not may_end]
        if time.monotonic() - begun > (_WAIT_SECONDS if others else _DISCONNECT_SECONDS):
            return  # RENAME says who is left
        if others and not told:
            report.warn(f"waiting for the end of {listed(others, 'session', 'sessions')} in {replacement.name}")
            told = True
        stop.wait(_LOOK_AGAIN_SECONDS)


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)
