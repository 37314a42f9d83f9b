"""What a dump records of a database beside its bytes: what a restore must know before it touches anything."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from penstock_mysql.connection import Connection, rows

__all__ = ["Contents", "RecordedProgram", "look_into"]

#: Of tables, so many are recorded by their names.
_NAMED = 200
_NOT_CODE = re.compile(r"'(?:[^'\\]|\\.|'')*'|/\*(?!M?!).*?\*/|--\s[^\n]*|#[^\n]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RecordedProgram:
    """A view, routine, trigger, event or foreign key: whose it is, and which databases it names."""

    kind: str
    name: str
    definer: str
    databases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """Of one database.

    `clashes` are names of tables that differ in nothing but their case, `keyless` tables without a primary key,
    `loose_keys` foreign keys that point at no unique key, `computed` tables with expressions in their definitions.
    """

    programs: tuple[RecordedProgram, ...] = ()
    clashes: tuple[str, ...] = ()
    keyless: tuple[str, ...] = ()
    loose_keys: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    #: By collation, the kind and the name of each program that was made under it.
    spoken: Mapping[str, list[tuple[str, str]]] = field(default_factory=dict)

    def as_text(self) -> str:
        """As JSON, for the attributes of a stream."""
        return json.dumps(
            {
                "programs": [[one.kind, one.name, one.definer, list(one.databases)] for one in self.programs],
                "clashes": self.clashes,
                "keyless": self.keyless[:_NAMED],
                "loose_keys": self.loose_keys[:_NAMED],
                "computed": self.computed[:_NAMED],
                "spoken": self.spoken,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )


def look_into(connection: Connection, database: str, known: Iterable[str]) -> Contents:
    """What there is in a database; `known` are the names of all databases that may be named in it."""
    names = {name: _qualified(name) for name in known}
    programs = [
        *_views(connection, database, names),
        *_routines(connection, database, names),
        *_foreign_keys(connection, database),
    ]
    tables = _column(
        connection,
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_TYPE NOT IN ('VIEW')",
        database,
    )
    folded: dict[str, list[str]] = {}
    for table in tables:
        folded.setdefault(table.lower(), []).append(table)
    keyless = (
        "SELECT t.TABLE_NAME FROM information_schema.TABLES t LEFT JOIN information_schema.TABLE_CONSTRAINTS c "
        "ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME AND c.CONSTRAINT_TYPE = 'PRIMARY KEY' "
        "WHERE t.TABLE_SCHEMA = %s AND t.TABLE_TYPE = 'BASE TABLE' AND c.TABLE_NAME IS NULL ORDER BY 1"
    )
    loose = (
        "SELECT CONCAT(TABLE_NAME, '.', CONSTRAINT_NAME) FROM information_schema.REFERENTIAL_CONSTRAINTS "
        "WHERE CONSTRAINT_SCHEMA = %s AND UNIQUE_CONSTRAINT_NAME IS NULL ORDER BY 1"
    )
    computed = (
        "SELECT DISTINCT TABLE_NAME FROM information_schema.COLUMNS "
        "WHERE TABLE_SCHEMA = %s AND COALESCE(GENERATION_EXPRESSION, '') <> '' ORDER BY 1"
    )
    return Contents(
        tuple(programs),
        tuple(name for group in folded.values() if len(group) > 1 for name in sorted(group)),
        tuple(_column(connection, keyless, database)),
        tuple(_column(connection, loose, database)),
        tuple(_column(connection, computed, database)),
        _spoken(connection, database),
    )


def _views(connection: Connection, database: str, names: dict[str, re.Pattern[str]]) -> Iterator[RecordedProgram]:
    query = (
        "SELECT TABLE_NAME, DEFINER, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = %s ORDER BY 1"
    )
    # The engine qualifies all names here, those of its own database too, but leaves these out in a dump.
    others = {name: pattern for name, pattern in names.items() if name != database}
    for name, definer, text in rows(connection, query, [database]):
        found = _named(str(text or ""), others)
        # MariaDB qualifies all names in a view as soon as one of them is of another database.
        own = (database,) if found and connection.is_mariadb else ()
        yield RecordedProgram("view", name, definer, tuple(sorted({*found, *own})))


def _routines(connection: Connection, database: str, names: dict[str, re.Pattern[str]]) -> Iterator[RecordedProgram]:
    for table, named, body, schema in (
        ("ROUTINE", "LOWER(ROUTINE_TYPE), ROUTINE_NAME", "ROUTINE_DEFINITION", "ROUTINE_SCHEMA"),
        ("TRIGGER", "'trigger', TRIGGER_NAME", "ACTION_STATEMENT", "TRIGGER_SCHEMA"),
        ("EVENT", "'event', EVENT_NAME", "EVENT_DEFINITION", "EVENT_SCHEMA"),
    ):
        query = (
            f"SELECT {named}, DEFINER, {body} FROM information_schema.{table}S "  # noqa: S608
            f"WHERE {schema} = %s ORDER BY 1, 2"
        )
        for what, title, who, text in rows(connection, query, [database]):
            yield RecordedProgram(what, title, who, _named(_NOT_CODE.sub(" ", str(text or "")), names))


def _spoken(connection: Connection, database: str) -> dict[str, list[tuple[str, str]]]:
    query = """
    SELECT 'view', TABLE_NAME, COLLATION_CONNECTION, COLLATION_CONNECTION FROM information_schema.VIEWS
        WHERE TABLE_SCHEMA = %s
    UNION SELECT LOWER(ROUTINE_TYPE), ROUTINE_NAME, COLLATION_CONNECTION, DATABASE_COLLATION
        FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s
    UNION SELECT 'trigger', TRIGGER_NAME, COLLATION_CONNECTION, DATABASE_COLLATION FROM information_schema.TRIGGERS
        WHERE TRIGGER_SCHEMA = %s
    UNION SELECT 'event', EVENT_NAME, COLLATION_CONNECTION, DATABASE_COLLATION FROM information_schema.EVENTS
        WHERE EVENT_SCHEMA = %s
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for kind, name, *collations in sorted(rows(connection, query, [database] * 4)):
        for collation in sorted(set(collations)):
            found.setdefault(str(collation), []).append((str(kind), str(name)))
    return dict(sorted(found.items()))


def _foreign_keys(connection: Connection, database: str) -> Iterator[RecordedProgram]:
    query = (
        "SELECT TABLE_NAME, CONSTRAINT_NAME, UNIQUE_CONSTRAINT_SCHEMA FROM information_schema.REFERENTIAL_CONSTRAINTS "
        "WHERE CONSTRAINT_SCHEMA = %s AND UNIQUE_CONSTRAINT_SCHEMA <> CONSTRAINT_SCHEMA ORDER BY 1, 2"
    )
    for table, name, other in rows(connection, query, [database]):
        yield RecordedProgram("foreign key", f"{table}.{name}", "", (other,))


def _qualified(name: str) -> re.Pattern[str]:
    """A database's name before a dot, but not behind one."""
    inside = re.escape(name)
    escaped = re.escape(name.replace("`", "``"))
    return re.compile(rf"(?<![\w$`.@])(?:`{escaped}`|{inside})\s*\.(?=\s*[\w$`])", re.IGNORECASE)


def _named(text: str, names: dict[str, re.Pattern[str]]) -> tuple[str, ...]:
    folded = text.lower()
    return tuple(
        name for name, pattern in names.items() if name.replace("`", "``").lower() in folded and pattern.search(text)
    )


def _column(connection: Connection, query: str, database: str) -> list[str]:
    return [str(value) for (value,) in rows(connection, query, [database])]
