"""The settings of a MongoDB source, and the URLs that stand for them."""

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

from pydantic import Field, field_validator, model_validator

from penstock.api import PluginSettings, SecretRef, UsageError

__all__ = ["MongoSettings", "settings_from_url"]

Wish = Literal["auto", "yes", "no"]


class MongoSettings(PluginSettings):
    """Where the deployment is, who asks, and how to dump it."""

    hosts: tuple[str, ...] = Field(
        ("localhost:27017",), min_length=1, description="`host` or `host:port`, several with commas or as a list"
    )
    srv: bool = Field(False, description="the one host is a DNS seed list (mongodb+srv)")
    user: str | None = Field(None, min_length=1)
    password: SecretRef | None = None
    auth_source: str | None = Field(None, min_length=1, description="the database that holds the user")
    auth_mechanism: Literal["SCRAM-SHA-1", "SCRAM-SHA-256", "MONGODB-X509", "MONGODB-AWS", "PLAIN", "GSSAPI"] | None = (
        None
    )
    replica_set: str | None = Field(None, min_length=1)
    direct: bool = Field(False, description="speak to that one host, whatever the other members are called")
    tls: bool | None = None
    tls_ca_file: Path | None = None
    tls_certificate_key_file: Path | None = None
    tls_certificate_key_password: SecretRef | None = None
    tls_insecure: bool = Field(False, description="accept any certificate: protects from nobody")
    read_preference: Literal["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"] = "primary"
    connect_timeout: float = Field(15, gt=0, description="seconds to find a server and connect")

    client_path: Path | None = Field(
        None, description="the folder of mongodump and mongorestore; no other is looked at"
    )
    oplog: Wish = Field(
        "auto",
        description="one archive of everything at one point in time (yes), or one for each database, without one (no); "
        "auto: the former where there is an oplog and no database is chosen or left out",
    )
    databases: tuple[str, ...] = Field((), description="dump these alone")
    exclude_databases: tuple[str, ...] = Field((), description="dump all but these")
    users: Wish = Field("auto", description="dump users and roles where databases are dumped one by one")
    row_counts: Literal["estimate", "exact", "off"] = Field(
        "estimate", description="documents: from the statistics, or counted, which reads an index of every collection"
    )
    stall_timeout: float = Field(900, gt=0, description="seconds that a dump may go without a byte")

    @field_validator("hosts", "databases", "exclude_databases", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Whatever else stands there would become a part of a connection string, with a meaning of its own.
        if bad := [host for host in value if not _HOST.fullmatch(host)]:
            raise ValueError(f"{len(bad)} of the hosts is no `host` or `host:port`")
        return value

    @field_validator("oplog", "users", mode="before")
    @classmethod
    def _accept_booleans(cls, value: Any) -> Any:
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check(self) -> "MongoSettings":
        if self.srv and (len(self.hosts) != 1 or ":" in self.hosts[0]):
            raise ValueError("srv takes one host, without a port")
        if self.databases and self.exclude_databases:
            raise ValueError("databases and exclude_databases exclude each other")
        if self.oplog == "yes" and (self.databases or self.exclude_databases):
            raise ValueError("a dump with the oplog is of all databases: it cannot choose or leave out any")
        return self

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        name = quote(self.databases[0], safe="") if len(self.databases) == 1 else ""
        return f"mongodb{'+srv' if self.srv else ''}://{user}{','.join(self.hosts)}/{name}"


_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/@?#,%]+)(:[0-9]{1,5})?")
_URL = re.compile(
    r"mongodb(?P<srv>\+srv)?://(?P<authority>[^/?#]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?", re.IGNORECASE
)
#: The words of MongoDB's own connection strings, which operators have at hand.
_WORDS = {
    "authsource": "auth_source",
    "authmechanism": "auth_mechanism",
    "replicaset": "replica_set",
    "directconnection": "direct",
    "ssl": "tls",
    "tlscafile": "tls_ca_file",
    "tlscertificatekeyfile": "tls_certificate_key_file",
    "tlsinsecure": "tls_insecure",
    "readpreference": "read_preference",
}
#: Those that say nothing to a dump or a restore.
_IGNORED = {"appname", "retrywrites", "retryreads", "w", "journal", "wtimeoutms", "maxpoolsize", "minpoolsize"}
_SECRET = {
    "password", "tls_certificate_key_password", "tlscertificatekeyfilepassword", "authmechanismproperties",
    "proxypassword",
}  # fmt: skip
_HINT = 'give the password in the settings: password = { env = "NAME" }, { file = "…" } or { command = ["…"] }'


def settings_from_url(url: str) -> dict[str, Any]:
    """`mongodb://user@host:port,host2/database?replicaSet=rs0` as keyword arguments of `MongoSettings`.

    The query may hold any setting but secrets, or MongoDB's own words for them. A database is the only one to be
    dumped, and holds the user unless `authSource` says otherwise, as in MongoDB's own tools. Raises `UsageError`,
    which does not repeat the URL: there may be a secret in it.
    """
    found = _URL.fullmatch(url)
    if found is None or not found["authority"]:
        example = "mongodb://user@host:27017/?replicaSet=rs0"
        raise UsageError("this is no URL of a MongoDB deployment", hint=f"write it like {example}")
    # From the right: a password with an unquoted @ in it must be told from the host, and refused as what it is.
    credentials, at, place = found["authority"].rpartition("@")
    if ":" in credentials:
        raise UsageError("the URL holds a password, which everyone on this host could read", hint=_HINT)
    if (at and not credentials) or not place:
        raise UsageError("the URL of a MongoDB deployment has one user at most, and one host at least")
    settings: dict[str, Any] = {"hosts": unquote(place)}
    if found["srv"]:
        settings["srv"] = True
    if credentials:
        settings["user"] = unquote(credentials)
    database = unquote(found["database"] or "")
    if database:
        settings["databases"] = (database,)
    for word, value in parse_qsl(found["query"] or "", keep_blank_values=True):
        if word.lower() in _IGNORED:
            continue
        name = _parameter(word)
        if name in settings:
            raise UsageError(f"the URL says twice what {name} is")
        settings[name] = value
    if database and credentials:
        settings.setdefault("auth_source", database)
    return settings


def _parameter(word: str) -> str:
    """The setting that a word of the query stands for."""
    if word.lower() in _SECRET:
        raise UsageError("the URL holds a secret, which everyone on this host could read", hint=_HINT)
    name = _WORDS.get(word.lower(), word)
    if name not in MongoSettings.model_fields:
        allowed = ", ".join(sorted(MongoSettings.model_fields.keys() - _SECRET))
        raise UsageError(f"the URL of a MongoDB deployment has no parameter {name}", hint=f"there are: {allowed}")
    return name
