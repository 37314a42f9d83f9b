"""The settings of a MySQL or MariaDB source, and the URLs that stand for them."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from penstock.api import WarningSettings
from penstock.api.servers import (
    Databases,
    Names,
    ServerSettings,
    ServerUrls,
    Tls,
    Wish,
    about_unverified,
    effective_tls,
    server_location,
)

__all__ = ["CheckName", "SYSTEM_DATABASES", "MySQLSettings", "settings_from_url"]

#: The server's own, which no restore could write.
SYSTEM_DATABASES = frozenset({"information_schema", "mysql", "performance_schema", "sys"})

#: Tried in this order when neither host nor socket is named.
_USUAL_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108 - MySQL's own default

#: The names of all checks before a dump; `checks.py` has what they look for.
CheckName = Literal[
    "unverified-server",
    "hidden-databases",
    "broken-views",
    "folders",
    "no-transactions",
    "float",
    "history",
    "idle-events",
    "orphans",
    "crossing-keys",
    "servers",
    "system-tables",
    "second-passwords",
    "accounts-left-out",
    "routines-left-out",
    "impatient-server",
]


class Warnings(WarningSettings):
    """Checks that say nothing."""

    ignore: tuple[CheckName, ...] = ()


class MySQLSettings(ServerSettings):
    """Where the server is, who asks, and how to dump it. Option files and variables of the clients are not read."""

    #: The words of the client programs and of their option files, and of libraries.
    former: ClassVar[dict[str, str]] = {
        "ignore_table": "exclude_tables",
        "passwd": "password",
        "ssl_ca": "tls_ca",
        "ssl_cert": "tls_cert",
        "ssl_key": "tls_key",
        "ssl_mode": "tls",
        "unix_socket": "socket",
    }

    host: str | None = Field(None, min_length=1, description="a name or an address; localhost is one too, by TCP")
    port: int | None = Field(None, ge=1, le=65535)
    socket: Path | None = Field(None, description="a Unix socket, instead of a host; the usual one if neither is named")
    user: str | None = Field(None, min_length=1, description="left out: the name of the operating system's user")
    database: str | None = Field(None, min_length=1, description="the only one to dump, or to restore into")
    databases: Databases = Field((), description="`all`, or names and globs; left out: all but the server's own")
    exclude_tables: Names = Field((), description="`database.table`, or a view: left out of the dump")

    tls: Tls = Field(
        "auto",
        description="auto: verify-full over a network, prefer on this machine; disable, prefer and require take "
        "whoever answers for the server",
    )
    tls_ca: Path | None = Field(None, description="left out: the system's authorities")
    tls_cert: Path | None = None
    tls_key: Path | None = None

    older_client: bool = Field(False, description="dump a server of a later major than the client's")
    consistency: Literal["database", "server"] = Field(
        "database",
        description="one view for each database, or one for all of them, for which a global read lock is held while "
        "the dumps start",
    )
    accounts: Wish = Field(
        "auto", description="accounts with their grants: if the user may read them (auto), or fail (yes), or not (no)"
    )
    routines: Wish = Field("auto", description="procedures and functions: those visible to the user (auto), or all")
    row_counts: Literal["estimate", "exact", "off"] = Field(
        "estimate", description="counting reads every table once more"
    )
    lock_timeout: float = Field(30, gt=0, description="seconds to wait for the global read lock")
    warnings: Warnings = Field(Warnings(), description="`{ ignore = [...] }`: checks before a dump that say nothing")

    @field_validator("database", "databases")
    @classmethod
    def _refuse_system_databases(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        named = (value,) if isinstance(value, str) else value or ()
        if own := sorted(SYSTEM_DATABASES & {name.lower() for name in named}):
            raise ValueError(f"{', '.join(own)}: the server's own databases are not dumped; see accounts")
        return value

    @field_validator("exclude_tables")
    @classmethod
    def _with_a_database(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if not re.fullmatch(r"[^.]+\..+", name, re.DOTALL)]:
            raise ValueError(f"{', '.join(wrong)}: write database.table")
        return value

    @property
    def unix_socket(self) -> Path | None:
        """The socket to connect to, or None where it is TCP."""
        if self.socket or self.host:
            return None if self.host else self.socket
        return next((Path(name) for name in _USUAL_SOCKETS if self.port is None and Path(name).is_socket()), None)

    @property
    def tcp_host(self) -> str:
        """The host to connect to without a socket."""
        return self.host or "127.0.0.1"

    @property
    def effective_tls(self) -> Tls:
        """What `tls` means for the host or the socket."""
        return effective_tls(self.tls, self._hosts, here="prefer") or "prefer"

    @property
    def tls_warnings(self) -> tuple[str, ...]:
        """The warning about a server that need not prove who it is."""
        return about_unverified(self.tls, self._hosts)

    @property
    def _hosts(self) -> tuple[str, ...]:
        return () if self.unix_socket else (self.tcp_host,)

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        host = self.host or ""
        host = f"[{host}]" if ":" in host else quote(host, safe="")
        port = f":{self.port}" if self.port else ""
        socket = str(self.socket) if self.socket else None
        every = "all" if self.databases == ("*",) else self.databases
        query = {"databases": every, "exclude_databases": self.exclude_databases, "socket": socket}
        return server_location("mysql", self.user, f"{host}{port}", self.database, query)


_URLS = ServerUrls(
    MySQLSettings,
    "a MySQL or MariaDB server",
    ("mysql", "mariadb"),
    "mysql://user@host:3306/database?tls=require",
    secret=frozenset({"password", "passwd", "pwd"}),
)


def settings_from_url(url: str) -> dict[str, Any]:
    """`mysql://user@host:3306/database?tls=require` as keyword arguments of `MySQLSettings`.

    Without a database it stands for all of them. The query may hold any setting but the password. Raises `UsageError`.
    """
    return _URLS.parse(url)
