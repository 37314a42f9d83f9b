"""The settings of a MySQL or MariaDB source, and the URLs that stand for them."""

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

from pydantic import Field, field_validator

from penstock.api import PluginSettings, SecretRef, UsageError

__all__ = ["SYSTEM_DATABASES", "MySQLSettings", "Wish", "settings_from_url"]

#: Do what the account may, insist on it, or leave it out.
Wish = Literal["auto", "yes", "no"]

#: The server's own, which no restore could write.
SYSTEM_DATABASES = frozenset({"information_schema", "mysql", "performance_schema", "sys"})

#: Tried in this order when neither host nor socket is named.
_USUAL_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108 - it is there


class MySQLSettings(PluginSettings):
    """Where the server is, who asks, and how to dump it. Option files and variables of the clients are not read."""

    host: str | None = Field(None, min_length=1, description="a name or an address; localhost is one too, by TCP")
    port: int | None = Field(None, ge=1, le=65535)
    socket: Path | None = Field(None, description="a Unix socket, instead of a host; the usual one if neither is named")
    user: str | None = Field(None, min_length=1, description="left out: the name of the operating system's user")
    password: SecretRef | None = None
    databases: tuple[str, ...] = Field((), description="left out: all but the server's own")
    exclude: tuple[str, ...] = Field((), description="databases to leave out when all are dumped")
    skip_tables: tuple[str, ...] = Field((), description="`database.table`, or a view: left out of the dump")

    tls: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    tls_ca: Path | None = Field(None, description="left out: the system's authorities")
    tls_cert: Path | None = None
    tls_key: Path | None = None
    connect_timeout: int = Field(15, ge=1, description="seconds")

    client_path: Path | None = Field(None, description="the folder of the client programs; no other is looked at")
    older_client: bool = Field(False, description="dump a server of a later major than the client's")
    consistency: Literal["database", "server"] = Field(
        "database",
        description="one view for each database, or one for all of them, for which a global read lock is held while "
        "the dumps start",
    )
    grants: Wish = Field("auto", description="accounts with their grants: if the account may read them (auto), or else")
    routines: Wish = Field(
        "auto", description="procedures and functions: those that the account can see (auto), or all"
    )
    row_counts: Literal["estimate", "exact", "off"] = Field(
        "estimate", description="counting reads every table once more"
    )
    stall_timeout: float = Field(900, gt=0, description="seconds that a dump may go without a byte")
    lock_timeout: float = Field(30, gt=0, description="seconds to wait for the global read lock")

    @field_validator("grants", "routines", mode="before")
    @classmethod
    def _accept_booleans(cls, value: Any) -> Any:
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value

    @field_validator("databases", "exclude", "skip_tables", mode="before")
    @classmethod
    def _accept_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("databases")
    @classmethod
    def _refuse_system_databases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if own := sorted(SYSTEM_DATABASES & {name.lower() for name in value}):
            raise ValueError(f"{', '.join(own)}: the server's own databases are not dumped; accounts are, with grants")
        if "" in value or len(set(value)) != len(value):
            raise ValueError("each database has a name, and is named once")
        return value

    @field_validator("skip_tables")
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
        """The host to connect to where there is no socket."""
        return self.host or "127.0.0.1"

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = self.host or ""
        host = f"[{host}]" if ":" in host else quote(host, safe="")
        port = f":{self.port}" if self.port else ""
        names = [("databases", name) for name in self.databases] if len(self.databases) > 1 else []
        query = "&".join(
            f"{k}={quote(v, safe='/')}" for k, v in [*names, *([("socket", str(self.socket))] if self.socket else [])]
        )
        database = quote(self.databases[0], safe="") if len(self.databases) == 1 else ""
        return f"mysql://{user}{host}{port}/{database}" + (f"?{query}" if query else "")


_URL = re.compile(
    r"(?:mysql|mariadb)://(?P<authority>[^/?#]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?", re.IGNORECASE
)
_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_MANY = {"databases", "exclude", "skip_tables"}
_HINT = 'give the password in the settings: password = { env = "NAME" }, { file = "…" } or { command = ["…"] }'
_PASSWORD = "the URL holds a password, which everyone on this host could read"  # noqa: S105 - it says that there is one


def settings_from_url(url: str) -> dict[str, Any]:
    """`mysql://user@host:3306/database?tls=require` as keyword arguments of `MySQLSettings`.

    Without a database it stands for all of them. The query may hold any setting but the password; those that are
    lists may be there several times. Raises `UsageError`, which does not repeat the URL: there may be a secret in it.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise UsageError(
            "this is no URL of a MySQL or MariaDB server",
            hint="write it like mysql://user@host:3306/database?tls=require",
        )
    # From the right: a password with an unquoted @ in it must be told from the host, and refused as what it is.
    credentials, at, place = found["authority"].rpartition("@")
    parts = _PLACE.fullmatch(place)
    if ":" in credentials:
        raise UsageError(_PASSWORD, hint=_HINT)
    if parts is None or (at and not credentials):
        raise UsageError("the URL of a MySQL or MariaDB server has one user, one host and one port at most")
    settings: dict[str, Any] = {
        "user": unquote(credentials),
        "host": unquote(parts["host"].strip("[]")),
        "port": parts["port"],
        "databases": [unquote(found["database"])] if found["database"] else [],
    }
    settings = {name: value for name, value in settings.items() if value}
    for name, value in parse_qsl(found["query"] or "", keep_blank_values=True):
        if name in ("password", "passwd", "pwd"):
            raise UsageError(_PASSWORD, hint=_HINT)
        if name not in MySQLSettings.model_fields:
            allowed = ", ".join(sorted(MySQLSettings.model_fields.keys() - {"password"}))
            raise UsageError(
                f"the URL of a MySQL or MariaDB server has no parameter {name}", hint=f"there are: {allowed}"
            )
        if name in _MANY:
            settings.setdefault(name, []).append(value)
        elif name in settings:
            raise UsageError(f"the URL says twice what {name} is")
        else:
            settings[name] = value
    return settings
