"""The settings of a MongoDB source, and the URLs that stand for them."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.api import SecretRef, UsageError, WarningSettings
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

__all__ = ["CheckName", "MongoSettings", "host_name", "settings_from_url"]

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/@?#,%]+)(:[0-9]{1,5})?")

#: The names of all checks before a dump; `checks.py` has what they look for.
CheckName = Literal[
    "unverified-server",
    "newer-server",
    "older-server",
    "sharded-cluster",
    "standalone",
    "chosen-databases",
    "line-break-in-name",
    "old-index",
    "accounts-left-out",
]


class Warnings(WarningSettings):
    """Checks that say nothing."""

    ignore: tuple[CheckName, ...] = ()


class MongoSettings(ServerSettings):
    """Where the deployment is, who asks, and how to dump it."""

    #: The words of MongoDB's own connection strings.
    former: ClassVar[dict[str, str]] = {
        "authMechanism": "auth_mechanism",
        "authSource": "auth_source",
        "directConnection": "direct",
        "host": "hosts",
        "readPreference": "read_preference",
        "replicaSet": "replica_set",
        "ssl": "tls",
        "tlsCAFile": "tls_ca",
        "tlsCertificateKeyFile": "tls_cert",
        "tlsCertificateKeyFilePassword": "tls_key_password",
    }

    hosts: Names = Field(("localhost:27017",), min_length=1, description="`host` or `host:port`, one or several")
    srv: bool = Field(False, description="the one host is a DNS seed list (mongodb+srv)")
    database: str | None = Field(None, min_length=1, description="the only one to dump, or to restore into")
    databases: Databases = Field((), description="`all`, or names and globs: dump these alone")
    auth_source: str | None = Field(None, min_length=1, description="the database that holds the user")
    auth_mechanism: Literal["SCRAM-SHA-1", "SCRAM-SHA-256", "MONGODB-X509", "MONGODB-AWS", "PLAIN", "GSSAPI"] | None = (
        None
    )
    replica_set: str | None = Field(None, min_length=1)
    direct: bool = Field(False, description="speak to that one host, whatever the other members are called")
    tls: Literal["auto", "disable", "require", "verify-full"] = Field(
        "auto",
        description="auto: verify-full over a network, or where a file is named or `srv` is set; disable and require "
        "take whoever answers for the server",
    )
    tls_ca: Path | None = Field(None, description="left out: the system's authorities")
    tls_cert: Path | None = Field(None, description="the client's certificate and its key, in one file")
    tls_key_password: SecretRef | None = None
    read_preference: Literal["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"] = "primary"

    oplog: Wish = Field(
        "auto",
        description="one archive of everything at one point in time (yes), or one for each database, without one (no); "
        "auto: the former where there is an oplog and no database is chosen or left out",
    )
    accounts: Wish = Field("auto", description="dump users and roles where databases are dumped one by one")
    row_counts: Literal["estimate", "exact", "off"] = Field(
        "estimate", description="documents: from the statistics, or counted, which reads an index of every collection"
    )
    warnings: Warnings = Field(Warnings(), description="`{ ignore = [...] }`: checks before a dump that say nothing")

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Whatever else stands there would become a part of a connection string, with a meaning of its own.
        if bad := [host for host in value if not _HOST.fullmatch(host)]:
            raise ValueError(f"{len(bad)} of the hosts cannot be parsed: write `host` or `host:port`")
        return value

    @field_validator("tls", mode="before")
    @classmethod
    def _accept_booleans(cls, value: Any) -> Any:
        # MongoDB's own connection strings say tls=true.
        return {"true": "verify-full", "false": "disable"}.get(str(value).lower(), value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.srv and (len(self.hosts) != 1 or ":" in self.hosts[0]):
            raise ValueError("srv takes one host, without a port")
        if self.oplog == "yes" and self.chosen:
            raise ValueError("a dump with the oplog is of all databases: it cannot choose or leave out any")
        return self

    @property
    def chosen(self) -> bool:
        """Whether some databases are to be dumped, and not all."""
        return self.database_chosen or bool(self.exclude_databases)

    @property
    def database_chosen(self) -> bool:
        """Whether the databases to dump are named, and not those to leave out."""
        return bool(self.database or self.databases not in ((), ("*",)))

    @property
    def effective_tls(self) -> Tls | None:
        """What `tls` means for the hosts; None: no TLS, as the connection does not leave the machine."""
        named = self.srv or self.tls_ca or self.tls_cert
        return effective_tls(self.tls, self.names, here="verify-full" if named else None)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their ports."""
        return tuple(host_name(host) for host in self.hosts)

    @property
    def tls_warnings(self) -> tuple[str, ...]:
        """The warning about servers that need not prove who they are."""
        return about_unverified(self.tls, self.names)

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        scheme = "mongodb+srv" if self.srv else "mongodb"
        every = "all" if self.databases == ("*",) else self.databases
        query = {"databases": every, "exclude_databases": self.exclude_databases}
        return server_location(scheme, self.user, ",".join(self.hosts), self.database, query)


def host_name(host: str) -> str:
    """`host` of `host:port`."""
    found = _HOST.fullmatch(host)
    return found[1] if found else host


_URLS = ServerUrls(
    MongoSettings,
    "a MongoDB deployment",
    ("mongodb", "mongodb+srv"),
    "mongodb://user@host:27017/?replicaSet=rs0",
    # Those of MongoDB's own connection strings, which operators have at hand.
    words={
        "authsource": "auth_source",
        "authmechanism": "auth_mechanism",
        "replicaset": "replica_set",
        "directconnection": "direct",
        "ssl": "tls",
        "tlscafile": "tls_ca",
        "tlscertificatekeyfile": "tls_cert",
        "readpreference": "read_preference",
    },
    ignored=frozenset(
        {"appname", "retrywrites", "retryreads", "w", "journal", "wtimeoutms", "maxpoolsize", "minpoolsize"}
    ),
    secret=frozenset(
        {"password", "tls_key_password", "tlscertificatekeyfilepassword", "authmechanismproperties", "proxypassword"}
    ),
)


def settings_from_url(url: str) -> dict[str, Any]:
    """`mongodb://user@host:port,host2/database?replicaSet=rs0` as keyword arguments of `MongoSettings`.

    The query may hold any setting but secrets, by its own name or MongoDB's. A database in the path is the only one to
    be dumped, and holds the user unless `authSource` says otherwise, as in MongoDB's own tools. Raises `UsageError`.
    """
    settings = _URLS.parse(url)
    if "hosts" not in settings:
        raise UsageError("the URL of a MongoDB deployment names no host", hint=f"Write it like {_URLS.example}.")
    if url.lower().startswith("mongodb+srv:"):
        settings["srv"] = True
    if "database" in settings and "user" in settings:
        settings.setdefault("auth_source", settings["database"])
    return settings
