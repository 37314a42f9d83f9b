"""What a snapshot of PostgreSQL says beside the bytes of its streams: read strictly, before it becomes SQL."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, model_validator

from penstock.api import RecordedName, RecordedText, RecordedVersion, StreamAttributes, StreamSpec, UsageError
from penstock_postgres.dumping import ACCOUNTS, DATABASES, PARTS, ROWS

__all__ = ["AccountsAttributes", "ArchiveAttributes", "Privilege", "Properties", "RowsAttributes", "check_attributes"]

Privilege = Literal["CREATE", "CONNECT", "TEMPORARY"]
"""What the server knows of privileges on a database."""

#: Names of settings are identifiers with dots; before PostgreSQL 14, an extension's may have more in them.
_ASSIGNMENT = re.compile(r"[^\W\d][\w$.-]{0,199}=.*", re.DOTALL)
_LOCALE = re.compile(r"[\w .,:;=@()+/-]{1,200}")


def _assignment(value: str) -> str:
    if not _ASSIGNMENT.fullmatch(value):
        raise ValueError("it is not a setting and its value")
    return value


def _locale(value: str) -> str:
    if not _LOCALE.fullmatch(value):
        raise ValueError("it is not the name of a locale")
    return value


def _names(value: str) -> str:
    for name in filter(None, value.split("\n")):
        if len(name) > 255:
            raise ValueError("a name is too long")
    return value


_Locale = Annotated[str, AfterValidator(_locale)]
_Assignment = Annotated[RecordedText, AfterValidator(_assignment)]


class Properties(BaseModel):
    """What a dump recorded of the database itself."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    encoding: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,63}$")]
    provider: Literal["c", "i", "b"]
    collate: _Locale
    ctype: _Locale
    locale: _Locale | None
    icu_rules: RecordedText | None
    connection_limit: Annotated[int, Field(ge=-2, lt=1 << 31)]
    owner: RecordedName
    template: bool = False
    tablespace: RecordedName = "pg_default"
    comment: RecordedText | None
    #: Of everybody (None), or of one role in this database.
    settings: tuple[tuple[RecordedName | None, tuple[_Assignment, ...]], ...]
    #: To everybody (None) or a role, and whether it may pass it on; None as a whole: nobody has changed the defaults.
    grants: tuple[tuple[RecordedName | None, Privilege, bool], ...] | None

    @model_validator(mode="after")
    def _has_its_locale(self) -> "Properties":
        if self.provider != "c" and self.locale is None:
            raise ValueError("a provider other than libc has no locale")
        return self


class AccountsAttributes(StreamAttributes):
    """Of the stream with roles and tablespaces."""

    database: RecordedName
    server_version: RecordedVersion
    client_version: RecordedVersion


class ArchiveAttributes(AccountsAttributes):
    """Of the archive of one database."""

    properties: Json[Properties]
    #: Names with line breaks between them.
    roles: Annotated[RecordedText, AfterValidator(_names)] = ""
    objects: Json[Annotated[int, Field(ge=0, lt=1 << 63)]] = 0
    #: Schema and name of what was chosen; None: everything was dumped.
    relations: Json[tuple[tuple[RecordedName, RecordedName], ...]] | None = None
    policy_roles: Json[tuple[RecordedName, ...]] = ()
    extensions: Json[tuple[RecordedName, ...]] = ()
    makes_schemas: Json[tuple[RecordedName, ...]] = ()
    needs_schemas: Json[tuple[RecordedName, ...]] = ()

    @property
    def needed_roles(self) -> set[str]:
        """The roles that own something in the archive, or are granted something there."""
        return set(filter(None, self.roles.split("\n")))


class RowsAttributes(AccountsAttributes):
    """Of the rows of one table."""

    #: `schema` is a method of every model.
    namespace: Annotated[RecordedName, Field(alias="schema")]
    table: RecordedName
    columns: Json[tuple[RecordedName, ...]]
    #: SQL of the extension whose configuration the rows are: for the dump alone.
    condition: str | None = None
    #: Of a table that is cut: its first page here, and the first that is not, if there is one.
    pages: Json[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)] | None]] | None = None
    #: How many there are; None until they were dumped.
    rows: Json[Annotated[int, Field(ge=0, lt=1 << 63)]] | None = None


def check_attributes(spec: StreamSpec) -> None:
    """Raises `RestoreFailed` for attributes that no dump records, and `UsageError` for a stream of another engine."""
    if spec.format in DATABASES:
        ArchiveAttributes.of(spec)
    elif spec.format == ROWS:
        RowsAttributes.of(spec)
    elif spec.format == ACCOUNTS or spec.format in PARTS:
        AccountsAttributes.of(spec)
    else:
        raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of PostgreSQL's")
