"""What a server holds, asked over a connection: databases, tables, sizes, rows, and what their dump would not hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pymysql import err

from penstock.api import InventoryItem, SourceDenied
from penstock.api.servers import choose_databases
from penstock_mysql.connection import Connection, is_lost, quoted, rows, said_by
from penstock_mysql.privileges import Privileges
from penstock_mysql.settings import SYSTEM_DATABASES, MySQLSettings

__all__ = [
    "Database", "Table", "broken_views", "check_readable", "collations", "collations_of", "count_rows",
    "database_names", "databases", "endless_events", "hidden_routines", "inventory", "is_folder", "routines_readable",
    "tables", "tablespaces",
]  # fmt: skip

_NEEDED = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT")


@dataclass(frozen=True, slots=True)
class Database:
    """One database: what CREATE DATABASE says of it."""

    name: str
    character_set: str
    collation: str
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table, view or sequence; `rows` is the server's estimate, `size` that of its data in bytes."""

    database: str
    name: str
    kind: str
    engine: str | None
    rows: int | None
    size: int | None

    @property
    def title(self) -> str:
        """`database.table`, unquoted, for people."""
        return f"{self.database}.{self.name}"


def databases(connection: Connection, settings: MySQLSettings) -> list[Database]:
    """The databases to dump, in the order of their names. Raises `SourceError` for one that is missing."""
    comment = "SCHEMA_COMMENT" if connection.is_mariadb and connection.version.numbers >= (10, 5) else "''"
    query = (
        f"SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, {comment} "  # noqa: S608
        "FROM information_schema.SCHEMATA"
    )
    found = {
        name: Database(name, *others)
        for name, *others in rows(connection, query)
        if name not in SYSTEM_DATABASES and not is_folder(name)
    }
    return [found[name] for name in choose_databases(found, settings)]


def is_folder(name: str) -> bool:
    """Whether it is a folder in the server's data that MariaDB takes for a database: `lost+found`, `.ssh`."""
    return name.startswith("#mysql50#")


def database_names(connection: Connection) -> list[str]:
    """All databases but the server's own."""
    found = rows(connection, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
    return [name for (name,) in found if name not in SYSTEM_DATABASES]


def tables(connection: Connection, names: Iterable[str]) -> list[Table]:
    """Everything in these databases that is a table or looks like one, in the order of the names."""
    if not connection.is_mariadb and connection.version.numbers >= (8, 0):
        rows(connection, "SET SESSION information_schema_stats_expiry = 0")  # of now, not of yesterday
    query = (
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES "
        "WHERE TABLE_SCHEMA IN %s"
    )
    kinds = {"BASE TABLE": "table", "SYSTEM VERSIONED": "versioned table", "VIEW": "view", "SEQUENCE": "sequence"}
    return [
        Table(database, name, kinds.get(kind, kind.lower()), engine, count, size)
        for database, name, kind, engine, count, size in sorted(rows(connection, query, [tuple(names)]), key=_by_name)
        if kind in kinds
    ]


def _by_name(row: tuple[Any, ...]) -> tuple[str, str]:
    # Here and not there: the order does not depend on the server's collation.
    return row[0], row[1]


def check_readable(connection: Connection, found: list[Database], allowed: Privileges) -> None:
    """Raises `SourceDenied`, which names what is missing: the dump would fail, or lack it and not say so."""
    problems, grants = [], []
    for database in found:
        if missing := allowed.missing(database.name, *_NEEDED):
            problems.append(f"{', '.join(missing)} on {database.name}")
            grants.append(f"GRANT {', '.join(missing)} ON {quoted(database.name)}.* TO …")
    if problems:
        raise SourceDenied(
            f"the account {connection.user} lacks privileges: {'; '.join(problems)}",
            hint=f"As an administrator, run {'; '.join(grants[:3])}{'; …' if len(grants) > 3 else ''}.",
        )


def routines_readable(connection: Connection, allowed: Privileges) -> bool:
    """Whether the account sees all procedures and functions with their bodies."""
    if connection.is_mariadb:
        return allowed.anywhere("SELECT", "SHOW CREATE ROUTINE") or allowed.on_table("mysql", "proc", "SELECT")
    return allowed.anywhere("SELECT", "SHOW_ROUTINE") or (
        connection.version.numbers < (8, 0) and allowed.on_table("mysql", "proc", "SELECT")
    )


def hidden_routines(connection: Connection, found: list[Database]) -> bool:
    """Whether the account sees a procedure or function without its body: the dump program fails on it."""
    query = "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN %s AND ROUTINE_DEFINITION IS NULL"
    ((count,),) = rows(connection, query, [tuple(database.name for database in found)])
    return bool(count)


def collations(connection: Connection, database: Database) -> list[str]:
    """All collations that the tables of a database use: a restore needs them."""
    query = (
        "SELECT DISTINCT COLLATION_NAME FROM information_schema.COLUMNS "
        "WHERE TABLE_SCHEMA = %s AND COLLATION_NAME IS NOT NULL "
        "UNION SELECT DISTINCT TABLE_COLLATION FROM information_schema.TABLES "
        "WHERE TABLE_SCHEMA = %s AND TABLE_COLLATION IS NOT NULL"
    )
    found = {str(name) for (name,) in rows(connection, query, [database.name, database.name])}
    return sorted(found | {database.collation})


def collations_of(connection: Connection) -> set[str]:
    """All collations that the server has, by their full names too."""
    query = "SELECT COLLATION_NAME FROM information_schema.COLLATIONS"
    if connection.is_mariadb and connection.version.numbers >= (10, 10):
        full = "SELECT FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
        query = f"{full} UNION {query}"
    return {str(name) for (name,) in rows(connection, query)}


def broken_views(connection: Connection, found: list[Table], settings: MySQLSettings) -> dict[str, str]:
    """The views that the engine's dump program would fail on, after hours perhaps: what the server says of each."""
    broken = {}
    for view in found:
        if view.kind == "view" and view.title not in settings.exclude_tables:
            try:
                rows(connection, f"SHOW FIELDS FROM {quoted(view.database, view.name)}")
                rows(connection, f"SHOW CREATE VIEW {quoted(view.database, view.name)}")
            except err.Error as error:
                if is_lost(error):
                    raise
                broken[view.title] = said_by(error)
    return broken


def endless_events(connection: Connection, found: list[Database]) -> set[str]:
    """Databases with an event that the dump programs never come to the end of: `;;` is somewhere in its statement."""
    query = (
        "SELECT DISTINCT EVENT_SCHEMA FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN %s "
        "AND CONCAT_WS(' ', DEFINER, EVENT_NAME, EVENT_COMMENT, EVENT_DEFINITION) LIKE '%%;;%%'"
    )
    return {str(schema) for (schema,) in rows(connection, query, [tuple(one.name for one in found)])}


def count_rows(connection: Connection, found: list[Table], settings: MySQLSettings) -> dict[str, int]:
    """The rows of every table, counted one by one."""
    counts = {}
    for table in found:
        if table.kind in ("table", "versioned table") and table.title not in settings.exclude_tables:
            ((counts[table.title],),) = rows(
                connection,
                f"SELECT COUNT(*) FROM {quoted(table.database, table.name)}",  # noqa: S608 - quoted
            )
    return counts


def inventory(
    connection: Connection,
    found: list[Table],
    databases_: list[Database],
    counts: dict[str, int],
    settings: MySQLSettings,
    *,
    exact: bool,
) -> Iterator[InventoryItem]:
    """What people want to read: tables with their rows, the rest in figures; `exact` says what `counts` are worth."""
    for table in found:
        if table.title in settings.exclude_tables:
            continue
        known = counts.get(table.title, table.rows) if settings.row_counts != "off" else None
        if table.kind in ("view", "sequence"):
            known = None
        yield InventoryItem(table.kind, table.title, known, table.size, exact=exact and table.title in counts)
    names = [tuple(database.name for database in databases_)]
    for kind, source in (
        ("routines", "ROUTINES WHERE ROUTINE_SCHEMA"),
        ("triggers", "TRIGGERS WHERE TRIGGER_SCHEMA"),
        ("events", "EVENTS WHERE EVENT_SCHEMA"),
    ):
        ((count,),) = rows(connection, f"SELECT COUNT(*) FROM information_schema.{source} IN %s", names)  # noqa: S608
        if count:
            yield InventoryItem(kind, kind, count)


def tablespaces(connection: Connection) -> list[tuple[str, str, int, bool]]:
    """The general tablespaces of the server, if the account may ask.

    Each with its file, the size of its blocks in bytes (0 for that of the server), and whether it is encrypted.
    """
    if connection.is_mariadb or connection.version.numbers < (8, 0, 13):
        return []
    query = (
        "SELECT s.NAME, MIN(f.FILE_NAME), s.ZIP_PAGE_SIZE, s.ENCRYPTION FROM information_schema.INNODB_TABLESPACES s "
        "LEFT JOIN information_schema.FILES f ON f.TABLESPACE_NAME = s.NAME "
        "WHERE s.SPACE_TYPE = 'General' AND s.NAME <> 'mysql' GROUP BY 1, 3, 4 ORDER BY 1"
    )
    try:
        found = rows(connection, query)
    except err.Error as error:
        if is_lost(error):
            raise
        return []
    return [(str(name), str(file or ""), int(size or 0), encrypted == "Y") for name, file, size, encrypted in found]
