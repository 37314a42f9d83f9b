"""The settings of a PostgreSQL source, and the URLs that stand for them."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, quote, unquote

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from penstock.api import PluginSettings, SecretRef, UsageError
from penstock_postgres.patterns import regular_expressions

__all__ = ["PostgresSettings", "settings_from_url"]

#: Allowed at a dump: leave it out, insist on it, or do what the role may.
Wish = Literal["auto", "yes", "no"]


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _databases(value: Any) -> Any:
    return ("*",) if value == "all" else _one_or_many(value)


_SEVERAL = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "default": []}
#: One pattern may stand without brackets.
Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_one_or_many), WithJsonSchema(_SEVERAL)
]
Databases = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_databases), WithJsonSchema(_SEVERAL)
]


class PostgresSettings(PluginSettings):
    """Where the database is, who asks, and how to dump it.

    What is left out follows libpq's own rules: its environment variables (PGHOST, PGUSER, PGPASSWORD, PGPASSFILE, ...),
    a service file, `~/.pgpass`, and its defaults.
    """

    host: str | None = Field(None, min_length=1, description="a name, an address, or the folder of a Unix socket")
    port: int | None = Field(None, ge=1, le=65535)
    user: str | None = Field(None, min_length=1)
    database: str | None = Field(
        None, min_length=1, description="the one to dump; with `databases` the one to connect to first"
    )
    databases: Databases = Field(
        (), description="`all`, or names and globs: a stream for each; templates only if they are named"
    )
    exclude_databases: Patterns = Field((), description="names and globs of databases to leave out")
    password: SecretRef | None = None
    passfile: Path | None = None
    service: str | None = Field(None, min_length=1, description="a section of the connection service file")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    sslrootcert: str | None = Field(None, description="a file, or `system`")
    sslcert: Path | None = None
    sslkey: Path | None = None
    sslcrl: Path | None = None
    connect_timeout: int = Field(15, ge=1, description="seconds")

    client_path: Path | None = Field(None, description="the folder of pg_dump and pg_restore; no other is looked at")
    globals: Wish = Field(
        "auto",
        description="roles and tablespaces: without passwords if need be (auto), only with them (yes), or not (no)",
    )
    schemas: Patterns = Field((), description="patterns of pg_dump: nothing but these schemas")
    exclude_schemas: Patterns = Field((), description="patterns of pg_dump: all schemas but these")
    tables: Patterns = Field((), description="patterns of pg_dump: nothing but these tables, views and sequences")
    exclude_tables: Patterns = Field((), description="patterns of pg_dump: all but these tables, views and sequences")
    exclude_table_data: Patterns = Field((), description="patterns of pg_dump: these tables without their rows")
    large_objects: Wish = Field(
        "auto", description="auto: unless schemas or tables choose what is dumped, as pg_dump does"
    )
    row_counts: Literal["auto", "exact", "estimate", "off"] = Field(
        "auto",
        description="count the rows of tables below 1 GiB (auto), of all (exact), or ask the statistics (estimate)",
    )
    stall_timeout: float = Field(900, gt=0, description="seconds that a dump may go without a byte")
    lock_timeout: float = Field(300, gt=0, description="seconds to wait for the lock of a table")

    @field_validator("globals", "large_objects", mode="before")
    @classmethod
    def _accept_booleans(cls, value: Any) -> Any:
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value

    @field_validator("schemas", "exclude_schemas")
    @classmethod
    def _schema_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(pattern for pattern in value if regular_expressions(pattern, 1))

    @field_validator("tables", "exclude_tables", "exclude_table_data")
    @classmethod
    def _table_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(pattern for pattern in value if regular_expressions(pattern, 2))

    @model_validator(mode="after")
    def _without_contradictions(self) -> Self:
        if self.exclude_databases and not self.databases:
            raise ValueError('exclude_databases needs databases: databases = "all" dumps all the others')
        if self.databases and (self.schemas or self.tables):
            raise ValueError("schemas and tables are chosen from one database, not from several: make a backup of each")
        if self.tables and (self.schemas or self.exclude_schemas):
            raise ValueError("schemas and exclude_schemas mean nothing where tables chooses what is dumped")
        return self

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        return self.location_of(None)

    def location_of(self, database: str | None) -> str:
        """What a URL of another database of the same server would be; None stands for what the settings say."""
        several = "" if database else "&".join(f"databases={quote(name, safe='*')}" for name in self.databases)
        several = "databases=all" if several == "databases=*" else several
        database = database or self.database
        if self.service and not self.host:
            return f"postgres service {self.service}" + (f", database {database}" if database else "")
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = self.host or ""
        host = f"[{host}]" if ":" in host and not host.startswith("/") else quote(host, safe=":,")
        port = f":{self.port}" if self.port else ""
        return f"postgres://{user}{host}{port}/{quote(database or '', safe='')}" + (several and f"?{several}")


_URL = re.compile(
    r"postgres(?:ql)?://(?P<authority>[^/?#]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?", re.IGNORECASE
)
_MANY = {
    "databases",
    "exclude_databases",
    "schemas",
    "exclude_schemas",
    "tables",
    "exclude_tables",
    "exclude_table_data",
}
_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_HINT = (
    "give the password with PGPASSWORD, with a password file (~/.pgpass or PGPASSFILE), or in the settings: "
    'password = { env = "NAME" }, { file = "…" } or { command = ["…"] }'
)


def settings_from_url(url: str) -> dict[str, Any]:
    """`postgres://user@host:port/database?sslmode=require` as keyword arguments of `PostgresSettings`.

    The query may hold any setting but the password; those that are lists may be repeated. A `host` there, or one that
    is percent-encoded, may be the folder of a Unix socket. Raises `UsageError`, which does not repeat the URL: there
    may be a secret in it.
    """
    found = _URL.fullmatch(url)
    if found is None:
        example = "postgres://user@host:5432/database?sslmode=require"
        raise UsageError("this is no URL of a PostgreSQL database", hint=f"write it like {example}")
    # From the right: a password with an unquoted @ in it must be told from the host, and refused as what it is.
    credentials, at, place = found["authority"].rpartition("@")
    parts = _PLACE.fullmatch(place)
    if ":" in credentials:
        raise UsageError("the URL holds a password, which everyone on this host could read", hint=_HINT)
    if parts is None or (at and not credentials):
        raise UsageError("the URL of a PostgreSQL database has one user, one host and one port at most")
    settings: dict[str, Any] = {
        "user": unquote(credentials),
        "host": unquote(parts["host"].strip("[]")),
        "port": parts["port"],
        "database": unquote(found["database"] or ""),
    }
    settings = {name: value for name, value in settings.items() if value}
    for word, value in parse_qsl(found["query"] or "", keep_blank_values=True):
        name = "database" if word == "dbname" else word
        if name in ("password", "sslpassword"):
            raise UsageError("the URL holds a password, which everyone on this host could read", hint=_HINT)
        if name not in PostgresSettings.model_fields:
            allowed = ", ".join(sorted(PostgresSettings.model_fields.keys() - {"password"}))
            raise UsageError(f"the URL of a PostgreSQL database has no parameter {name}", hint=f"there are: {allowed}")
        if name in _MANY:
            settings[name] = [*settings.get(name, ()), value]
            continue
        if name in settings:
            raise UsageError(f"the URL says twice what {name} is")
        settings[name] = value
    if settings.get("databases") == ["all"]:
        settings["databases"] = "all"
    return settings
