"""The settings of a PostgreSQL source, and the URLs that stand for them."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

from pydantic import ByteSize, Field, field_validator, model_validator

from penstock.api import WarningSettings
from penstock.api.servers import Databases, Names, ServerSettings, ServerUrls, Tls, Wish, server_location
from penstock_postgres.patterns import regular_expressions

__all__ = ["CheckName", "PostgresSettings", "settings_from_url"]

#: Of libpq's own URLs, which hosting services give out.
_LIBPQ = {
    "dbname": "database",
    "sslmode": "tls",
    "sslrootcert": "tls_ca",
    "sslcert": "tls_cert",
    "sslkey": "tls_key",
    "sslcrl": "tls_crl",
}

#: The names of all checks before a dump; `checks.py` has what they look for.
CheckName = Literal[
    "unverified-server",
    "standby",
    "newer-client",
    "accounts-left-out",
    "databases-left-out",
    "choice",
    "idle-pattern",
    "large-objects-left-out",
    "partitions-left-out",
    "unlogged-on-standby",
    "foreign-tables",
    "extension-tables",
    "prepared-transactions",
    "subscriptions",
    "user-mappings",
    "invalid-indexes",
    "checksum-failures",
    "locks",
]


class Warnings(WarningSettings):
    """Checks that say nothing."""

    ignore: tuple[CheckName, ...] = ()


class PostgresSettings(ServerSettings):
    """Where the database is, who asks, and how to dump it.

    What is left out follows libpq's own rules: its environment variables (PGHOST, PGUSER, PGPASSWORD, PGPASSFILE, ...),
    a service file, `~/.pgpass`, and its defaults.
    """

    connects_to_database: ClassVar[bool] = True
    former: ClassVar[dict[str, str]] = _LIBPQ

    host: str | None = Field(None, min_length=1, description="a name, an address, or the folder of a Unix socket")
    port: int | None = Field(None, ge=1, le=65535)
    database: str | None = Field(
        None, min_length=1, description="the one to dump; with `databases` the one to connect to first"
    )
    databases: Databases = Field(
        (), description="`all`, or names and globs: a stream for each; templates only if they are named"
    )
    passfile: Path | None = None
    service: str | None = Field(None, min_length=1, description="a section of the connection service file")
    tls: Tls = Field(
        "auto",
        description="auto: verify-full over a network, libpq's own on this machine; disable, prefer and require take "
        "whoever answers for the server",
    )
    tls_ca: str | None = Field(None, description="a file, or `system`")
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_crl: Path | None = None

    accounts: Wish = Field(
        "auto",
        description="roles and tablespaces: without passwords if need be (auto), only with them (yes), or not (no)",
    )
    schemas: Names = Field((), description="patterns of pg_dump: nothing but these schemas")
    exclude_schemas: Names = Field((), description="patterns of pg_dump: all schemas but these")
    tables: Names = Field((), description="patterns of pg_dump: nothing but these tables, views and sequences")
    exclude_tables: Names = Field((), description="patterns of pg_dump: all but these tables, views and sequences")
    exclude_table_data: Names = Field((), description="patterns of pg_dump: these tables without their rows")
    large_objects: Wish = Field(
        "auto", description="auto: unless schemas or tables choose what is dumped, as pg_dump does"
    )
    layout: Literal["archive", "tables"] = Field(
        "archive", description="a database as one archive of pg_dump, or as its schema and a stream for each table"
    )
    split_above: ByteSize = Field(
        ByteSize(1 << 30),
        description="by tables: a table of more bytes (1MiB at least) is several streams, each of these",
    )
    row_counts: Literal["auto", "exact", "estimate", "off"] = Field(
        "auto",
        description="count the rows of tables below 1 GiB (auto), of all (exact), or ask the statistics (estimate)",
    )
    lock_timeout: float = Field(300, gt=0, description="seconds to wait for the lock of a table")
    warnings: Warnings = Field(Warnings(), description="`{ ignore = [...] }`: checks before a dump that say nothing")

    @field_validator("schemas", "exclude_schemas")
    @classmethod
    def _schema_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(pattern for pattern in value if regular_expressions(pattern, 1))

    @field_validator("tables", "exclude_tables", "exclude_table_data")
    @classmethod
    def _table_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(pattern for pattern in value if regular_expressions(pattern, 2))

    @field_validator("split_above")
    @classmethod
    def _not_too_small(cls, value: ByteSize) -> ByteSize:
        if value < 1 << 20:
            raise ValueError("must be 1MiB or more: each stream takes a connection")
        return value

    @model_validator(mode="after")
    def _without_contradictions(self) -> Self:
        if self.exclude_databases and not self.databases:
            raise ValueError('exclude_databases needs databases: databases = "all" dumps all others')
        if self.databases and (self.schemas or self.tables):
            raise ValueError("schemas and tables are chosen from one database, not from several: make a backup of each")
        if self.databases and self.layout == "tables":
            raise ValueError("layout = tables is for one database: make a backup of each")
        if self.tables and (self.schemas or self.exclude_schemas):
            raise ValueError("schemas and exclude_schemas mean nothing where tables chooses what is dumped")
        return self

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        return self.location_of(None)

    def location_of(self, database: str | None) -> str:
        """What a URL of another database of the same server would be; None stands for what the settings say."""
        several = () if database else self.databases
        database = database or self.database
        if self.service and not self.host:
            return f"postgres service {self.service}" + (f", database {database}" if database else "")
        host = self.host or ""
        host = f"[{host}]" if ":" in host and not host.startswith("/") else quote(host, safe=":,")
        port = f":{self.port}" if self.port else ""
        every = "all" if several == ("*",) else several
        return server_location("postgres", self.user, f"{host}{port}", database, {"databases": every})


_URLS = ServerUrls(
    PostgresSettings,
    "a PostgreSQL database",
    ("postgres", "postgresql"),
    "postgres://user@host:5432/database?tls=require",
    words=_LIBPQ,
    secret=frozenset({"password", "sslpassword"}),
    hint="Give the password with PGPASSWORD, with a password file (~/.pgpass or PGPASSFILE), or in the settings: "
    'password = { env = "NAME" }, { file = "…" } or { command = ["…"] }.',
)


def settings_from_url(url: str) -> dict[str, Any]:
    """`postgres://user@host:port/database?tls=require` as keyword arguments of `PostgresSettings`.

    The query may hold any setting but the password, by its own name or by libpq's. A `host` there, or one that is
    percent-encoded, may be the folder of a Unix socket. Raises `UsageError`.
    """
    return _URLS.parse(url)
