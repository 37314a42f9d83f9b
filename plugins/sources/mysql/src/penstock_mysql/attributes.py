"""What a snapshot of MySQL or MariaDB says beside the bytes of its streams: read strictly, before it becomes SQL."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json

from penstock.api import RecordedName, RecordedText, RecordedVersion, StreamAttributes, StreamSpec, UsageError
from penstock_mysql.expressions import Expression
from penstock_mysql.survey import ACCOUNTS, DATABASE
from penstock_mysql.tablespaces import Place, RecordedSpace

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


def _ascending(ranges: tuple[tuple[int, int, str], ...]) -> tuple[tuple[int, int, str], ...]:
    ends = [at for start, end, _ in ranges for at in (start, end)]
    if ends != sorted(ends):
        raise ValueError("the parts of the stream do not follow one another")
    return ranges


_Version = Annotated[RecordedVersion, AfterValidator(_version)]
#: The names of character sets and collations: they are written into a statement as they are.
_Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]


_Engine = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{0,64}$")]
_Bytes = Annotated[int, Field(ge=0, lt=1 << 62)]
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
    #: By collation, the kind and the name of each program that was made under it.
    spoken: dict[RecordedText, tuple[tuple[RecordedText, RecordedText], ...]] = {}


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
    #: Kind, name or path, table and engine, as `Place`.
    places: Json[tuple[tuple[Literal["tablespace", "folder"], RecordedText, RecordedText, _Engine], ...]] = ()
    #: Table, its columns, and the text, as `Expression`; None where the dump does not say.
    expressions: Json[tuple[tuple[RecordedText, _Names, RecordedText], ...]] | None = None
    #: Name, file, size of blocks, whether it is encrypted, as `RecordedSpace`.
    spaces: Json[tuple[tuple[RecordedText, RecordedText, _Bytes, bool], ...]] = ()
    #: The bytes of the longest row, if it has some length.
    longest_row: Annotated[str, Field(pattern=r"^[0-9]{1,15}$")] = "0"
    #: Statements in the stream with a row that no server takes: their beginning, end, and table.
    too_large: Annotated[Json[tuple[tuple[_Bytes, _Bytes, RecordedText], ...]], AfterValidator(_ascending)] = ()

    @property
    def recorded_places(self) -> list[Place]:
        """Where its tables say that they are stored."""
        return [Place(*one) for one in self.places]

    @property
    def recorded_expressions(self) -> list[Expression]:
        """What its generated columns are."""
        return [Expression(*one) for one in self.expressions or ()]

    @property
    def recorded_spaces(self) -> list[RecordedSpace]:
        """The tablespaces that its tables are in, as far as the dump could see them."""
        return [RecordedSpace(*one) for one in self.spaces]

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
