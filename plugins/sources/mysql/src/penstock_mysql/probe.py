"""What a server holds, asked over a connection: databases, tables, sizes, rows, and what their dump would not hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pymysql import err

from penstock.api import InventoryItem, SourceDenied, SourceError
from penstock.api.servers import choose_databases, listed
from penstock_mysql.connection import Connection, is_lost, quoted, rows, said_by
from penstock_mysql.privileges import Privileges
from penstock_mysql.settings import SYSTEM_DATABASES, MySQLSettings

__all__ = [
    "Database", "Table", "check_readable", "check_views", "collations", "count_rows", "database_names", "databases",
    "hidden_routines", "inventory", "routines_readable", "tables", "warnings",
]  # fmt: skip

_NAMES_SHOWN = 10
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
    found = {name: Database(name, *others) for name, *others in rows(connection, query) if name not in SYSTEM_DATABASES}
    return [found[name] for name in choose_databases(found, settings)]


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


def check_views(connection: Connection, found: list[Table], settings: MySQLSettings) -> None:
    """Raises `SourceError`, which names the views that the engine's dump program would fail on, after hours perhaps."""
    broken = []
    for view in found:
        if view.kind == "view" and view.title not in settings.exclude_tables:
            try:
                rows(connection, f"SHOW FIELDS FROM {quoted(view.database, view.name)}")
                rows(connection, f"SHOW CREATE VIEW {quoted(view.database, view.name)}")
            except err.Error as error:
                if is_lost(error):
                    raise
                broken.append(f"{view.title}: {said_by(error)}")
    if broken:
        many = "a view" if len(broken) == 1 else f"{len(broken)} views"
        raise SourceError(
            f"{many} cannot be dumped: {'; '.join(broken[:_NAMES_SHOWN])}",
            hint="Repair or drop what is broken (a missing table, no EXECUTE on a function), or name it in "
            "exclude_tables.",
        )


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


def warnings(
    connection: Connection, found: list[Table], databases_: list[Database], settings: MySQLSettings, allowed: Privileges
) -> Iterator[str]:
    """What a dump does not hold, or holds differently from what people expect, though it will not fail."""
    names = [tuple(database.name for database in databases_)]
    dumped = [table for table in found if table.title not in settings.exclude_tables]
    transactional = {
        str(engine)
        for (engine,) in rows(connection, "SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'")
    }
    if not (settings.database or settings.databases) and not allowed.anywhere("SHOW DATABASES", "SELECT"):
        yield "databases that the account may not see are not in the dump: it lacks SHOW DATABASES"
    loose = [t.title for t in dumped if t.kind != "view" and t.engine and t.engine not in transactional]
    if loose:
        yield (
            f"{listed(loose, 'table', 'tables')} {'has' if len(loose) == 1 else 'have'} no transactions: "
            "what is written to such a table during the dump is in it or not, regardless of the rest"
        )
    query = (
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE DATA_TYPE = 'float' "
        "AND TABLE_SCHEMA IN %s ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    )
    real = {table.title for table in dumped if table.kind != "view"}
    floats = [f"{d}.{t}.{c}" for d, t, c in rows(connection, query, names) if f"{d}.{t}" in real]
    if floats:
        yield (
            f"{listed(floats, 'column', 'columns')} of type FLOAT: the server writes only six digits of such a number "
            "into a dump; DOUBLE keeps all"
        )
    if versioned := [t.title for t in dumped if t.kind == "versioned table"]:
        yield f"the history of {listed(versioned, 'versioned table', 'versioned tables')} is not in the dump"
    yield from _about_events(connection, names)
    yield from _about_definers(connection, names)
    query = (
        "SELECT CONSTRAINT_SCHEMA, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS "
        "WHERE CONSTRAINT_SCHEMA IN %s AND CONSTRAINT_SCHEMA <> UNIQUE_CONSTRAINT_SCHEMA ORDER BY 1, 2"
    )
    crossing = [f"{schema}.{name}" for schema, name in rows(connection, query, names)]
    if crossing and settings.consistency == "database":
        yield (
            f"{listed(crossing, 'foreign key', 'foreign keys')} to another database: each database is dumped as of a "
            "moment of its own, unless consistency = server"
        )


def _about_events(connection: Connection, names: list[Any]) -> Iterator[str]:
    query = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' AND EVENT_SCHEMA IN %s"
    ((events,),) = rows(connection, query, names)
    ((scheduler,),) = rows(connection, "SELECT @@GLOBAL.event_scheduler")
    if events and str(scheduler).upper() not in ("ON", "1"):
        yield f"enabled events do not run ({events} of them): the server's event scheduler is off"


def _about_definers(connection: Connection, names: list[Any]) -> Iterator[str]:
    query = """
    SELECT TABLE_SCHEMA, TABLE_NAME, DEFINER FROM information_schema.VIEWS
        WHERE SECURITY_TYPE = 'DEFINER' AND TABLE_SCHEMA IN %s
    UNION SELECT ROUTINE_SCHEMA, ROUTINE_NAME, DEFINER FROM information_schema.ROUTINES
        WHERE SECURITY_TYPE = 'DEFINER' AND ROUTINE_SCHEMA IN %s
    UNION SELECT TRIGGER_SCHEMA, TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN %s
    UNION SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN %s
    """
    try:
        known = {f"{user}@{host}" for user, host in rows(connection, "SELECT User, Host FROM mysql.user")}
    except err.Error as error:
        if is_lost(error):
            raise
        return  # the account may not read the accounts
    found = rows(connection, query, [*names, *names, *names, *names])
    # A role, which has no host, may be a definer too.
    orphans = sorted(f"{a}.{b} ({who})" for a, b, who in found if who not in known and f"{who}@" not in known)
    if orphans:
        yield (
            f"the definer of {listed(orphans, 'view or program', 'views or programs')} does not exist: "
            "it does not work there, nor where it is restored"
        )
