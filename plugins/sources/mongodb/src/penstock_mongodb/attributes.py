"""What a snapshot of MongoDB says beside the bytes of its streams: read strictly, before it becomes an argument."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Json, model_validator

from penstock.api import RecordedName, RecordedText, RecordedVersion, StreamAttributes, StreamSpec, UsageError
from penstock_mongodb.archive import ARCHIVE

__all__ = ["ArchiveAttributes", "check_attributes"]

#: What no server takes in the name of a database.
_DATABASE = re.compile(r'[^\0/\\. "]{1,64}')
#: They are no dump's, and a server's own in the target.
_NEVER = frozenset({"config", "local"})


def _database(value: str) -> str:
    if not _DATABASE.fullmatch(value) or value in _NEVER:
        raise ValueError("it is not the name of a database that a dump holds")
    return value


def _namespace(value: str) -> str:
    database, dot, collection = value.partition(".")
    if not (dot and collection and "\0" not in collection):
        raise ValueError("it is not the name of a collection")
    _database(database)
    return value


_Database = Annotated[RecordedName, AfterValidator(_database)]
_Namespace = Annotated[str, Field(max_length=400), AfterValidator(_namespace)]


class ArchiveAttributes(StreamAttributes):
    """Of an archive of mongodump."""

    server_version: RecordedVersion
    client_version: RecordedVersion
    oplog: Literal["yes", "no"]
    #: The one in the archive; with the oplog, there are all of them in it.
    database: _Database | None = None
    databases: Json[tuple[_Database, ...]]
    #: What collections use that older servers do not have: their options, by database and name.
    features: Json[dict[_Database, dict[RecordedText, dict[str, Any]]]] = Field(default_factory=dict)
    #: Those that only servers before 3.4 took, as `index of database.collection`.
    old_indexes: Json[tuple[RecordedText, ...]] = ()
    #: Bytes that the databases took on their server's disk; 0 if it did not tell.
    stored: Json[Annotated[int, Field(ge=0)]] = 0
    #: Collections with a line break in their names, as `database.collection`.
    broken_names: Json[tuple[_Namespace, ...]] = ()

    @model_validator(mode="after")
    def _holds_one_database_or_all(self) -> "ArchiveAttributes":
        if (self.oplog == "yes") != (self.database is None):
            raise ValueError("an archive with the oplog is of all databases, and one without it of one")
        if self.database is not None and self.databases != (self.database,):
            raise ValueError("the archive of one database names others")
        return self


def check_attributes(spec: StreamSpec) -> None:
    """Raises `RestoreFailed` for attributes that no dump records, and `UsageError` for a stream of another engine."""
    if spec.format != ARCHIVE:
        raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of MongoDB's")
    ArchiveAttributes.of(spec)
