"""Connections to a server: how they are made, what their errors mean, and how child processes get the same ones."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import zip_longest
from threading import Thread
from typing import Any, LiteralString

import psycopg
from psycopg import errors, pq
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import make_conninfo

from penstock.api import Secret, SourceDenied, SourceError, SourceUnreachable, StopToken, env_for_child
from penstock.api.servers import about_unverified, effective_tls
from penstock_postgres.refusals import MissingDatabase, check_files, refusal
from penstock_postgres.settings import PostgresSettings

__all__ = [
    "Connection",
    "STANDBY_HINT",
    "MissingDatabase",
    "about_tls",
    "cancelled_by",
    "child_environment",
    "connect",
    "connect_anywhere",
    "connect_beside",
    "connection_string",
    "rows",
    "said_by",
    "set_all",
    "translated",
]

Connection = psycopg.Connection[tuple[Any, ...]]

#: Settings that a server may have, and that would end a connection which waits for a child, or cut its queries short,
#: with the version that has brought them.
_UNLIMITED = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 140000,
    "transaction_timeout": 170000,
}
#: What to do about a standby that ends a dump for what it replays.
STANDBY_HINT = (
    "A standby cancels what is in the way of its replay: raise max_standby_streaming_delay on it, or set "
    "hot_standby_feedback = on."
)
#: What libpq says to a child in its own way, or what must not reach it: the encoding of the dump is the database's.
_NOT_FOR_CHILDREN = {
    "client_encoding",
    "password",
    "passfile",
    "service",
    "servicefile",
    "target_session_attrs",
    "load_balance_hosts",
}


class _Lenient(Loader):
    """Names in a database without an encoding (SQL_ASCII) may not be UTF-8: replaced in part, never an error."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode(errors="replace")


def connect(settings: PostgresSettings, *, database: str | None = None) -> Connection:
    """An autocommit connection without time limits and with an empty search path; `database` overrides the settings'.

    Raises `SourceUnreachable`, `SourceDenied`, `MissingDatabase`, or `SourceError` for any other refusal.
    """
    check_files(settings)
    password = settings.password.resolve() if settings.password else None
    chosen: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "dbname": database or settings.database,
        "password": password.reveal() if password else None,
        "passfile": settings.passfile,
        "service": settings.service,
        "sslmode": _sslmode(settings),
        "sslrootcert": settings.tls_ca,
        "sslcert": settings.tls_cert,
        "sslkey": settings.tls_key,
        "sslcrl": settings.tls_crl,
    }
    chosen = {name: str(value) for name, value in chosen.items() if value is not None}
    try:
        connection = psycopg.connect(
            **chosen,
            connect_timeout=math.ceil(settings.connect_timeout),
            application_name="penstock",
            client_encoding="UTF8",
            autocommit=True,
        )
    except psycopg.Error as error:
        # Without its cause, which may quote parameters.
        raise refusal(error, settings, settings.location_of(database), password) from None
    try:
        with translated(f"cannot set up a session on {settings.location_of(database)}"):
            _refuse_pooler(connection, settings)
            for type_ in ("text", "name", "varchar"):
                connection.adapters.register_loader(type_, _Lenient)
            if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
                # Its names may be anything, and the server refuses to call anything UTF-8.
                connection.execute("SET client_encoding TO 'SQL_ASCII'")
            _make_patient(connection, settings.lock_timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def about_tls(settings: PostgresSettings) -> tuple[str, ...]:
    """The warning about a server that need not prove who it is."""
    return about_unverified(settings.tls, _hosts(_by_libpq(settings)))


def connect_beside(settings: PostgresSettings, name: str) -> Connection:
    """A connection to another database than `name`: the settings' own, or one that every server has.

    Raises `SourceDenied` where the role may connect to none of them.
    """
    refused: SourceError | None = None
    for beside in dict.fromkeys((settings.database, "postgres", "template1")):
        if beside and beside != name:
            try:
                connection = connect(settings, database=beside)
                # The other database may have a role of its own set for its sessions.
                with translated(f"cannot set up a session on {settings.location_of(beside)}"):
                    connection.execute("SET ROLE NONE")
                return connection
            except MissingDatabase:
                continue
            except SourceDenied as error:
                refused = error
    raise refused or MissingDatabase(f"{settings.location}: neither postgres nor template1 exists to connect to")


@contextmanager
def connect_anywhere(settings: PostgresSettings, name: str | None = None) -> Iterator[tuple[Connection, str, bool]]:
    """A connection for the block, the name of a database, and whether it exists; if not, it is to another one.

    None stands for the database of the settings.
    """
    try:
        connection, missing = connect(settings, database=name), None
    except MissingDatabase as error:
        connection, missing = connect_beside(settings, error.database), error.database
    try:
        yield connection, missing or connection.info.dbname, missing is None
    finally:
        connection.close()


def rows(
    connection: Connection, query: LiteralString, parameters: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return connection.execute(query, parameters).fetchall()


@contextmanager
def translated(doing: str, otherwise: type[SourceError] = SourceError) -> Iterator[None]:
    """Turns the driver's errors within the block into ours: `doing` says what failed, the cause is kept."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise SourceDenied(f"{doing}: {said_by(error)}") from error
    except errors.LockNotAvailable as error:
        raise otherwise(
            f"{doing}: {said_by(error)}", hint="Raise lock_timeout, or try again later: another session holds a lock."
        ) from error
    except psycopg.OperationalError as error:
        # Without a SQLSTATE nobody answered; 08 is "connection exception", 57P "shutdown" and the like.
        lost = error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
        # 40001 is what a standby says that replays (ERRCODE_T_R_SERIALIZATION_FAILURE): a dump writes nothing.
        hint = STANDBY_HINT if error.sqlstate == "40001" else None
        raise (SourceUnreachable if lost else otherwise)(f"{doing}: {said_by(error)}", hint=hint) from error
    except psycopg.Error as error:
        raise otherwise(f"{doing}: {said_by(error)}") from error


def said_by(error: psycopg.Error) -> str:
    """The server's one line of an error, without the statement, which may hold a secret."""
    return error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]


def connection_string(database: str) -> str:
    """What names `database`, whatever its name, where a client program would take `a=b` for connection parameters."""
    return "dbname='{}'".format(database.replace("\\", "\\\\").replace("'", "\\'"))


@contextmanager
def cancelled_by(stop: StopToken, connection: Connection) -> Iterator[None]:
    """A stop during the block ends the statement that is running, from a thread: that takes a connection of its own."""

    def cancel() -> None:
        with suppress(psycopg.Error):
            connection.cancel()

    with stop.on_stop(lambda: Thread(target=cancel, daemon=True).start()):
        yield


def child_environment(connection: Connection, settings: PostgresSettings) -> tuple[dict[str, str], tuple[Secret, ...]]:
    """The environment that makes a client program connect just as `connection` did, and the secrets in it.

    It names the one server that answered: a snapshot that `connection` exported is known to no other. The password is
    asked for anew: that of `connection` may have been valid for some minutes.
    """
    info = connection.info
    found = info.get_parameters()
    variables = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
    extra: dict[str, str | Secret] = {}
    for keyword, value in found.items():
        variable = variables.get(keyword)
        if variable and value and keyword not in _NOT_FOR_CHILDREN:
            extra[variable.decode()] = value
    extra |= {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": info.user, "PGDATABASE": info.dbname}
    if info.hostaddr and not info.host.startswith(("/", "@")):
        extra["PGHOSTADDR"] = info.hostaddr
    else:
        extra.pop("PGHOSTADDR", None)
    known = settings.password.resolve().reveal() if settings.password else info.password
    secrets = (Secret(known),) if known else ()
    if secrets:
        extra["PGPASSWORD"] = secrets[0]
    return env_for_child(extra), secrets


def _refuse_pooler(connection: Connection, settings: PostgresSettings) -> None:
    """Before the session is changed: a pooler would give the changed session to an application next."""
    ((pid,),) = rows(connection, "SELECT pg_catalog.pg_backend_pid()")
    if pid != connection.info.backend_pid:
        raise SourceError(
            f"{settings.location} is a connection pooler, such as PgBouncer: a dump needs sessions of its own",
            hint="Connect to the server itself: its own host and port, past the pooler.",
        )


def _make_patient(connection: Connection, lock_timeout: float) -> None:
    """No limit of time but `lock_timeout`, and an empty search path; in one round trip."""
    version = connection.info.server_version
    settings = {name: "0" for name, since in _UNLIMITED.items() if version >= since}
    settings["default_transaction_read_only"] = "off"  # a dump's transaction is read-only by itself, a restore's is not
    settings["lock_timeout"] = f"{max(1, round(lock_timeout * 1000))}ms"
    settings["search_path"] = ""
    set_all(connection, settings)


def set_all(connection: Connection, settings: Mapping[str, str]) -> None:
    """Give the session the server's settings of these names; in one round trip."""
    query = """
    SELECT pg_catalog.set_config(name, value, false)
    FROM ROWS FROM (pg_catalog.unnest(%(names)s::text[]), pg_catalog.unnest(%(values)s::text[])) AS one (name, value)
    """
    rows(connection, query, {"names": list(settings), "values": list(settings.values())})


def _sslmode(settings: PostgresSettings) -> str | None:
    """What libpq is told, None where it follows its own rules: those are no weaker, or nothing leaves the machine."""
    if settings.tls != "auto":
        return settings.tls
    found = _by_libpq(settings)
    wanted = effective_tls(settings.tls, _hosts(found), here=None)
    return None if found.get("sslmode") in ("verify-ca", "verify-full") else wanted


def _by_libpq(settings: PostgresSettings) -> dict[str, str]:
    """The parameters that a connection would have, by the settings, the environment and a service file."""
    chosen = {"host": settings.host, "service": settings.service, "sslrootcert": settings.tls_ca}
    # A word that libpq does not know ends its attempt when it has gathered them all, and before it looks up a name.
    words = {name: value for name, value in chosen.items() if value} | {"target_session_attrs": "none of them"}
    attempt = pq.PGconn.connect_start(make_conninfo(**words).encode())
    try:
        return {option.keyword.decode(): option.val.decode() for option in attempt.info if option.val}
    finally:
        attempt.finish()


def _hosts(parameters: Mapping[str, str]) -> list[str]:
    """Where the packets go: the addresses where there are some, else the names; an empty one is the usual socket."""
    hosts, addresses = parameters.get("host", "").split(","), parameters.get("hostaddr", "").split(",")
    return [address or host for host, address in zip_longest(hosts, addresses, fillvalue="")]
