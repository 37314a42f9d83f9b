"""What a snapshot of MySQL or MariaDB says beside the bytes of its streams: read strictly, before it becomes SQL."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json

from penstock.api import RecordedName, RecordedText, RecordedVersion, StreamAttributes, StreamSpec, UsageError
from penstock_mysql.survey import ACCOUNTS, DATABASE

__all__ = ["AccountsAttributes", "DatabaseAttributes", "RecordedContents", "check_attributes"]

_VERSION = re.compile(r"(MySQL|MariaDB) .+")


def _version(value: str) -> str:
    if not _VERSION.fullmatch(value):
        raise ValueError("it names neither MySQL nor MariaDB")
    return value


def _collations(value: str) -> str:
    if not all(re.fullmatch("[A-Za-z0-9_]{1,64}", name) for name in value.split("\n") if name):
        raise ValueError("it has something in it that is not the name of a collation")
    return value


_Version = Annotated[RecordedVersion, AfterValidator(_version)]
#: The names of character sets and collations: they are written into a statement as they are.
_Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]


_Names = tuple[RecordedText, ...]


class RecordedContents(BaseModel):
    """What a dump records of the things in a database: see `contents.Contents`."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    #: Kind, name, definer (`user@host`, or empty), and the databases that it names.
    programs: tuple[tuple[RecordedText, RecordedText, RecordedText, _Names], ...] = ()
    clashes: _Names = ()
    keyless: _Names = ()
    loose_keys: _Names = ()
    computed: _Names = ()


class AccountsAttributes(StreamAttributes):
    """Of the stream with accounts and grants."""

    server_version: _Version
    client_version: _Version
    #: Accounts, as statements name them, from whose privileges single databases are taken away again.
    partly_revoked: Json[_Names] = ()


class DatabaseAttributes(AccountsAttributes):
    """Of the dump of one database."""

    database: RecordedName
    character_set: _Word
    collation: _Word
    comment: RecordedText
    #: All that its tables use, with line breaks between them.
    collations: Annotated[str, AfterValidator(_collations)]
    contents: Json[RecordedContents] = RecordedContents()

    @property
    def needed_collations(self) -> list[str]:
        """The collations that a server must have."""
        return [name for name in self.collations.split("\n") if name]


def check_attributes(spec: StreamSpec) -> None:
    """Raises `RestoreFailed` for attributes that no dump records, and `UsageError` for a stream of another engine."""
    if spec.format == DATABASE:
        DatabaseAttributes.of(spec)
    elif spec.format == ACCOUNTS:
        AccountsAttributes.of(spec)
    else:
        raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of MySQL's")
