"""What of a database is dumped, where not everything is: pg_dump's own rules, known before it starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.api import SourceError
from penstock_postgres.connection import Connection, rows
from penstock_postgres.patterns import regular_expressions
from penstock_postgres.relations import Relation
from penstock_postgres.settings import PostgresSettings

__all__ = ["Choice", "choose"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the settings choose of one database; sets of object ids, None where everything is meant."""

    #: For people, and empty where everything is dumped: `tables = public.*; without rows = public.log`.
    text: str = ""
    tables: frozenset[int] | None = None
    schemas: frozenset[int] | None = None
    without_tables: frozenset[int] = frozenset()
    without_schemas: frozenset[int] = frozenset()
    without_rows: frozenset[int] = frozenset()
    large_objects: bool = True
    #: Patterns that leave something out, and match nothing here.
    idle: tuple[str, ...] = field(default=())

    @property
    def narrow(self) -> bool:
        """Whether only what is named is dumped, and not the database with what is in no schema."""
        return self.tables is not None or self.schemas is not None

    def of(self, found: Sequence[Relation]) -> Iterator[Relation]:
        """Those of all relations that pg_dump takes, as `selectDumpableTable` and `getOwnedSeqs` of its sources do."""
        taken = {relation.oid for relation in found if self._takes(relation)}
        for relation in found:
            takes = relation.oid in taken
            if relation.owner is not None:
                owned = relation.owner in taken
                takes = owned if relation.is_identity else takes or owned
            if takes:
                yield relation

    def has_schema(self, oid: int) -> bool:
        """Whether what is in a schema is dumped, as far as the choice of schemas goes."""
        return (self.schemas is None or oid in self.schemas) and oid not in self.without_schemas

    def _takes(self, relation: Relation) -> bool:
        named = self.has_schema(relation.schema_oid) if self.tables is None else relation.oid in self.tables
        return named and relation.oid not in self.without_tables


def choose(connection: Connection, settings: PostgresSettings) -> Choice:
    """What the settings' patterns mean in the database at hand.

    Raises `SourceError` for one that chooses nothing, or the system's own tables.
    """
    named = {
        "schemas": settings.schemas,
        "exclude_schemas": settings.exclude_schemas,
        "tables": settings.tables,
        "exclude_tables": settings.exclude_tables,
        "exclude_table_data": settings.exclude_table_data,
    }
    words = [f"{name} = {', '.join(patterns)}" for name, patterns in named.items() if patterns]
    if settings.large_objects != "auto":
        words.append(f"large_objects = {settings.large_objects}")
    large_objects = settings.large_objects == "yes" or (
        settings.large_objects == "auto" and not (settings.schemas or settings.tables)
    )
    if not any(named.values()):
        return Choice("" if large_objects else "; ".join(words), large_objects=large_objects)
    if connection.info.encoding != "utf-8" or not _is_utf8(connection):
        for pattern in (pattern for patterns in named.values() for pattern in patterns if not pattern.isascii()):
            raise SourceError(
                f"the pattern {pattern} cannot be written in the encoding of the database {connection.info.dbname}",
                hint="Write ? for each letter that is not ASCII.",
            )
    idle: list[str] = []
    found = {name: _matches(connection, name, patterns, idle) for name, patterns in named.items()}
    return Choice(
        text="; ".join(words),
        tables=found["tables"] if settings.tables else None,
        schemas=found["schemas"] if settings.schemas else None,
        without_tables=found["exclude_tables"],
        without_schemas=found["exclude_schemas"],
        without_rows=found["exclude_table_data"],
        large_objects=large_objects,
        idle=tuple(idle),
    )


def _is_utf8(connection: Connection) -> bool:
    return connection.info.parameter_status("server_encoding") == "UTF8"


def _matches(connection: Connection, name: str, patterns: Sequence[str], idle: list[str]) -> frozenset[int]:
    together: set[int] = set()
    for pattern in patterns:
        of_system = _schemas(connection, pattern) if name.endswith("schemas") else _relations(connection, pattern)
        matched = {oid for oid, system, _ in of_system if not system}
        if name.startswith("exclude"):
            idle += [] if matched else [f"{name} = {pattern}"]
        elif own := [title for _, system, title in of_system if system]:
            raise SourceError(
                f"{name} = {pattern} matches PostgreSQL's own in the database {connection.info.dbname}, such "
                f"as {own[0]}: it could not be restored",
                hint="Name schemas of your own: tables = public.*, schemas = shop*.",
            )
        elif not matched:
            raise SourceError(
                f"{name} = {pattern} matches nothing in the database {connection.info.dbname}",
                hint="Write names with capitals in double quotes, and the schema of what is not on the search path.",
            )
        together |= matched
    return frozenset(together)


def _schemas(connection: Connection, pattern: str) -> list[tuple[Any, ...]]:
    (regex,) = regular_expressions(pattern, 1)
    query = """
    SELECT n.oid, n.nspname ~ '^pg_' OR n.nspname = 'information_schema', n.nspname FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.~) %(regex)s COLLATE pg_catalog.default
        AND n.nspname !~ '^pg_(toast_)?temp_' ORDER BY n.nspname
    """
    return rows(connection, query, {"regex": regex})


def _relations(connection: Connection, pattern: str) -> list[tuple[Any, ...]]:
    *schema, name = regular_expressions(pattern, 2)
    query = """
    SELECT c.oid, n.nspname ~ '^pg_' OR n.nspname = 'information_schema', n.nspname || '.' || c.relname
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
        AND c.relname OPERATOR(pg_catalog.~) %(name)s COLLATE pg_catalog.default
        AND CASE WHEN %(schema)s::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
            ELSE n.nspname OPERATOR(pg_catalog.~) %(schema)s COLLATE pg_catalog.default END
    ORDER BY n.nspname, c.relname
    """
    with connection.transaction(force_rollback=True):
        # As in pg_dump: what has no schema is looked for along the search path of the role and the database.
        connection.execute("RESET search_path")
        return rows(connection, query, {"name": name, "schema": schema[0] if schema else None})
