"""The words that the settings and the restore options of all server sources have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from penstock.api.options import RestoreOptions
from penstock.api.plugin import PluginSettings
from penstock.api.secrets import SecretRef

__all__ = ["Databases", "Names", "Renames", "ServerRestoreOptions", "ServerSettings", "Tls", "Wish", "YesNo"]


def _wish(value: Any) -> Any:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _databases(value: Any) -> Any:
    return ("*",) if value == "all" else _names(value)


def _renames(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [[unquote(part.strip()) for part in pair.split("=")] for pair in value.split(",")]
    renames = {pair[0]: pair[-1] for pair in pairs}
    if any(len(pair) != 2 or not all(pair) for pair in pairs) or len(renames) < len(pairs):
        raise ValueError("old=new, with commas between several")
    return renames


_SEVERAL = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "default": []}
_Several = tuple[Annotated[str, Field(min_length=1)], ...]

Wish = Annotated[
    Literal["auto", "yes", "no"],
    BeforeValidator(_wish, json_schema_input_type=Literal["auto", "yes", "no"] | bool),
]
"""Do it if it can be done (`auto`), do it or fail (`yes`), or leave it out (`no`). A boolean means `yes` or `no`."""

Names = Annotated[_Several, BeforeValidator(_names), WithJsonSchema(_SEVERAL)]
"""Several names or patterns: a list; one text is a list of one. In a URL they have commas between them."""

Databases = Annotated[_Several, BeforeValidator(_databases), WithJsonSchema(_SEVERAL)]
"""Several databases: a list of names and globs, or the one word `all`, which becomes the glob `*`."""

Tls = Literal["auto", "disable", "prefer", "require", "verify-ca", "verify-full"]
"""`auto`: verify-full over a network, no requirement on this machine. No TLS; TLS if the server offers it; TLS with any
certificate; with one that a known authority signed; with one that a known authority signed for this very host. A source
whose engine does not know one of them leaves it out. See `effective_tls`."""

Renames = Annotated[Mapping[str, str], BeforeValidator(_renames)]
"""New names: `shop=shop_copy,crm=crm_old`. A comma or an equals sign in a name is percent-encoded, as in a URL."""

YesNo = Literal["yes", "no"]


class ServerSettings(PluginSettings):
    """Base of the settings of all server sources: who asks, which databases, and how long to wait."""

    #: Whether `database` may be named beside `databases`: as the one to connect to first.
    connects_to_database: ClassVar[bool] = False

    user: str | None = Field(None, min_length=1)
    password: SecretRef | None = None
    database: str | None = Field(None, min_length=1, description="the only one to dump")
    databases: Databases = Field((), description="`all`, or names and globs")
    exclude_databases: Names = Field((), description="names and globs of databases to leave out")
    connect_timeout: float = Field(15, gt=0, description="seconds")
    stall_timeout: float = Field(900, gt=0, description="seconds that a dump may go without a byte")
    max_connections: int | None = Field(
        None, ge=1, description="streams of a dump that are read at once, whatever `jobs` says"
    )
    client_path: Path | None = Field(None, description="the folder of the client programs; no other is searched")

    @model_validator(mode="after")
    def _one_database_or_several(self) -> Self:
        if self.database and (self.databases or self.exclude_databases) and not self.connects_to_database:
            raise ValueError("database cannot be combined with databases or exclude_databases")
        return self

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        raise NotImplementedError


class ServerRestoreOptions(RestoreOptions):
    """Base of the restore options of all server sources."""

    #: Other names for databases; one that is not mentioned keeps its own.
    rename: Renames = Field({}, description="old=new,old=new")
    #: Restore into a server of an older version than the one that was dumped, which may or may not work.
    older_server: YesNo = "no"
