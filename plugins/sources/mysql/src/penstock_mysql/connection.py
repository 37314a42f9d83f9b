"""Connections to a server: how they are made, what their errors mean, and how child processes get the same ones."""

import getpass
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
from pymysql import err

from penstock.api import Secret, SourceDenied, SourceError, SourceUnreachable
from penstock.api.servers import TLS_HINT, piped
from penstock_mysql.client import Client
from penstock_mysql.dialect import Version, server_version
from penstock_mysql.settings import MySQLSettings

__all__ = [
    "Connection",
    "code_of",
    "connect",
    "execute",
    "is_lost",
    "global_read_lock",
    "option_file",
    "quoted",
    "rows",
    "said_by",
    "translated",
]

_UNREACHABLE = {1040, 1053, 1129, 1203, 2002, 2003, 2005, 2006, 2013, 2014, 4031}
_DENIED = {1044, 1045, 1130, 1142, 1143, 1227, 1290, 1370, 1698, 1862, 3118, 3878, 3955, 4151}


class Connection:
    """An open connection, autocommitting, in UTF-8, without time limits and with an empty SQL mode."""

    def __init__(self, driver: "pymysql.Connection[Any]", version: Version, user: str) -> None:
        self.driver = driver
        self.version = version
        self.user = user

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB."""
        return self.version.vendor == "mariadb"

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it. Again: nothing."""
        if self.driver.open:
            with suppress(err.Error):  # it was lost before
                self.driver.close()


def connect(settings: MySQLSettings) -> Connection:
    """A connection without a default database.

    Raises `SourceUnreachable`, `SourceDenied`, or `SourceError` for any other refusal.
    """
    password = settings.password.resolve() if settings.password else None
    user = settings.user or getpass.getuser()
    path = settings.unix_socket
    tls: dict[str, Any] = {"ssl_disabled": True}
    word = settings.effective_tls
    if path is None and word != "disable":
        tls = {"ssl": _tls_context(settings)} if word != "prefer" or settings.tls_cert else {}
    try:
        if path:
            # The driver would leave its socket open when nobody answers.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(settings.connect_timeout)
                probe.connect(str(path))
        driver = pymysql.connect(
            host=settings.tcp_host,
            port=settings.port or 3306,
            unix_socket=str(path) if path else None,
            user=user.encode() if not user.isascii() else user,
            # As bytes: the driver takes text for latin-1.
            password=password.reveal().encode() if password else b"",
            charset="utf8mb4",
            connect_timeout=settings.connect_timeout,
            # For the server's greeting and the log-in: who accepts a connection may still say nothing.
            read_timeout=settings.connect_timeout,
            max_allowed_packet=1 << 30,
            program_name="penstock",
            autocommit=True,
            **tls,
        )
    except (err.Error, OSError, RuntimeError) as error:
        raise _refusal(error, settings, password) from None  # the cause may quote parameters
    # From here on it takes as long as it takes: to count rows, or to get a lock.
    driver._read_timeout = None  # type: ignore[attr-defined]  # noqa: SLF001 - the only way
    connection = Connection(driver, server_version("0"), user)
    try:
        with translated(f"cannot set up a session on {settings.location}"):
            connection.version = server_version(str(rows(connection, "SELECT VERSION()")[0][0]))
            execute(connection, "SET SESSION sql_mode = '', time_zone = '+00:00', wait_timeout = 604800")
            if connection.is_mariadb:
                execute(connection, "SET SESSION max_statement_time = 0, idle_transaction_timeout = 0")
            else:
                execute(connection, "SET SESSION max_execution_time = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def is_lost(error: err.Error) -> bool:
    """Whether the connection is gone: then nothing was refused."""
    return code_of(error) in (2006, 2013)


def execute(connection: Connection, statement: str, parameters: Sequence[Any] | None = None) -> None:
    """Run one statement."""
    with connection.driver.cursor() as cursor:
        cursor.execute(statement, parameters)


def rows(connection: Connection, query: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    with connection.driver.cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall())


def quoted(*names: str) -> str:
    """Names as one identifier: `database`.`table`."""
    return ".".join("`{}`".format(name.replace("`", "``")) for name in names)


@contextmanager
def translated(doing: str, otherwise: type[SourceError] = SourceError) -> Iterator[None]:
    """Turns the driver's errors within the block into ours: `doing` says what failed, the cause is kept."""
    try:
        yield
    except err.Error as error:
        code = code_of(error)
        kind = SourceDenied if code in _DENIED else SourceUnreachable if code in _UNREACHABLE else otherwise
        hint = "Raise lock_timeout, or try again later." if code == 1205 else None
        raise kind(f"{doing}: {said_by(error)}", hint=hint) from error


@contextmanager
def global_read_lock(connection: Connection, timeout: float) -> Iterator[None]:
    """Nobody commits within the block. Raises `SourceError` when somebody else's statement holds it up for too long."""
    execute(connection, "SET SESSION lock_wait_timeout = %s", [max(1, round(timeout))])
    with translated("cannot get the global read lock"):
        execute(connection, "FLUSH TABLES WITH READ LOCK")
    try:
        yield
    finally:
        with translated("cannot release the global read lock"):
            execute(connection, "UNLOCK TABLES")


def code_of(error: Exception) -> int:
    """The server's or the driver's number of an error; 0 if it has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def said_by(error: Exception) -> str:
    """The one line of an error."""
    text = str(error.args[1] if len(error.args) > 1 else error.args[0] if error.args else type(error).__name__)
    return (text.strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def option_file(
    settings: MySQLSettings, client: Client, *lines: str, session: str = ""
) -> Iterator[tuple[str, tuple[int, ...], tuple[Secret, ...]]]:
    """An option file for a client program, in a pipe that it inherits: nothing touches the disk.

    Gives the first argument of the program, the descriptors that it inherits, and the secrets in the file. The pipe's
    end here is closed when the block is left, that of the program lives as long as it does. `session` is a statement
    that MariaDB's library runs when it has connected, in programs that have no option for one: `host` may be a whole
    connection string (since Connector/C 3.3).
    """
    password = settings.password.resolve() if settings.password else None
    path = settings.unix_socket
    content = ["[client]", f"user={_option(settings.user or getpass.getuser())}", *lines]
    content.append(f"password={_option(password.reveal())}" if password else "skip-password")
    host = "localhost" if path else settings.tcp_host
    if session and re.fullmatch(r"[\w.:%-]+", host):
        host = f"host={host};init-command={{{session}}}"
    if path:
        content += ["protocol=socket", f"socket={_option(str(path))}", f"host={_option(host)}"]
        # A socket is as good as the operating system: no client needs to be told to encrypt it.
        content += [
            line for line in client.dialect.tls["disable"] if settings.effective_tls in ("disable", "prefer", "require")
        ]
    else:
        content += ["protocol=tcp", f"host={_option(host)}", f"port={settings.port or 3306}"]
        content += client.dialect.tls[settings.effective_tls]
        for name, file in (
            ("ssl-ca", settings.tls_ca or _system_authorities(settings)),
            ("ssl-cert", settings.tls_cert),
            ("ssl-key", settings.tls_key),
        ):
            if file and settings.effective_tls != "disable":
                content.append(f"{name}={_option(str(file))}")
    with piped("\n".join([*content, ""])) as descriptor:
        yield f"--defaults-file=/dev/fd/{descriptor}", (descriptor,), (password,) if password else ()


def _option(value: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(plain, escaped)
    return f'"{value}"'


def _system_authorities(settings: MySQLSettings) -> str | None:
    return ssl.get_default_verify_paths().cafile if settings.effective_tls.startswith("verify") else None


def _tls_context(settings: MySQLSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(settings.tls_ca) if settings.tls_ca else None)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what the servers make for themselves lacks some extensions
        context.check_hostname = settings.effective_tls == "verify-full"
        context.verify_mode = ssl.CERT_REQUIRED if settings.effective_tls.startswith("verify") else ssl.CERT_NONE
        if settings.tls_cert:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:
        raise SourceError(f"cannot use the TLS files of {settings.location}: {error}") from error
    return context


def _refusal(error: Exception, settings: MySQLSettings, password: Secret | None) -> SourceError:
    code, reason = code_of(error), said_by(error)
    if password and password.reveal():
        reason = reason.replace(password.reveal(), "***")
    where = f"cannot connect to {settings.location}"
    if code in _DENIED:
        hint = None
        if password is None and code in (1045, 1698):
            hint = 'Give a password in the settings: password = { env = "NAME" }.'
        return SourceDenied(f"{where}: {reason}", hint=hint)
    if code == 2026 or "SSL" in reason or "certificate" in reason:
        return SourceError(f"{where}: {reason}", hint=TLS_HINT)
    if code in _UNREACHABLE or isinstance(error, OSError):
        return SourceUnreachable(
            f"{where}: {reason}", hint="Check that the server runs there, and that no firewall is in between."
        )
    return SourceError(f"{where}: {reason}")
