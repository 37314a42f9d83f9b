"""What a dump does not hold, or holds differently from what people expect, though it does not fail: one list."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymysql import err

from penstock.api import Check
from penstock.api.servers import listed, unverified_server
from penstock_mysql import probe
from penstock_mysql.accounts import accounts_readable
from penstock_mysql.client import Client
from penstock_mysql.connection import Connection, is_lost, rows
from penstock_mysql.privileges import Privileges
from penstock_mysql.settings import MySQLSettings

__all__ = ["CHECKS", "RESTORE_CHECKS", "Look"]

#: Tables that a server keeps in `mysql`, beside those that begin with one of these words.
_OWN_TABLES = {
    "column_stats", "columns_priv", "component", "db", "default_roles", "engine_cost", "event", "func",
    "general_log", "global_grants", "global_priv", "gtid_executed", "gtid_slave_pos", "host", "index_stats",
    "ndb_binlog_index", "password_history", "plugin", "proc", "procs_priv", "proxies_priv", "role_edges",
    "roles_mapping", "server_cost", "servers", "slow_log", "table_stats", "tables_priv", "transaction_registry",
    "user",
}  # fmt: skip
_OWN_WORDS = (
    "help_",
    "innodb_",
    "replication_",
    "slave_",
    "time_zone",
    "ndb_",
    "wsrep_",
    "spider_",
    "rds_",
    "firewall_",
)


#: With less patience of the server, a client that cannot ask for more is warned of (seconds).
_PATIENCE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Look:
    """What the checks look at: a server, and what of it is dumped."""

    connection: Connection
    settings: MySQLSettings
    client: Client
    allowed: Privileges
    databases: list[probe.Database]
    tables: list[probe.Table]
    #: By `database.view`, what the server says.
    broken_views: Mapping[str, str]
    #: Sentences about accounts, and about routines, that are left out since the account may not read them.
    accounts: tuple[str, ...] = ()
    routines: tuple[str, ...] = ()

    @property
    def names(self) -> list[Any]:
        """The databases, as the one parameter of a query with `IN %s`."""
        return [tuple(database.name for database in self.databases)]

    @property
    def dumped(self) -> list[probe.Table]:
        """The tables that are not left out by the settings."""
        return [table for table in self.tables if table.title not in self.settings.exclude_tables]


def _hidden_databases(look: Look) -> Iterator[str]:
    chosen = look.settings.database or look.settings.databases
    if not chosen and not look.allowed.anywhere("SHOW DATABASES", "SELECT"):
        yield "databases that the account may not see are not in the dump: it lacks SHOW DATABASES"


def _broken_views(look: Look) -> Iterator[str]:
    if look.broken_views:
        found = [f"{title} ({said})" for title, said in look.broken_views.items()]
        yield (
            f"{listed(found, 'view', 'views')} cannot be dumped and {'is' if len(found) == 1 else 'are'} left out: "
            "repair or drop it, name it in exclude_tables, or ignore this warning"
        )


def _folders(look: Look) -> Iterator[str]:
    found = [name for (name,) in rows(look.connection, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")]
    if folders := sorted(name.removeprefix("#mysql50#") for name in found if probe.is_folder(name)):
        yield f"{listed(folders, 'folder', 'folders')} in the server's data: no database, and left out"


def _without_transactions(look: Look) -> Iterator[str]:
    query = "SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'"
    transactional = {str(engine) for (engine,) in rows(look.connection, query)}
    loose = [t.title for t in look.dumped if t.kind != "view" and t.engine and t.engine not in transactional]
    if loose:
        yield (
            f"{listed(loose, 'table', 'tables')} {'has' if len(loose) == 1 else 'have'} no transactions: "
            "what is written to such a table during the dump is in it or not, regardless of the rest"
        )


def _floats(look: Look) -> Iterator[str]:
    query = (
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE DATA_TYPE = 'float' "
        "AND TABLE_SCHEMA IN %s ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    )
    real = {table.title for table in look.dumped if table.kind != "view"}
    floats = [f"{d}.{t}.{c}" for d, t, c in rows(look.connection, query, look.names) if f"{d}.{t}" in real]
    if floats:
        yield (
            f"{listed(floats, 'column', 'columns')} of type FLOAT: the server writes only six digits of such a number "
            "into a dump; DOUBLE keeps all"
        )


def _history(look: Look) -> Iterator[str]:
    if versioned := [t.title for t in look.dumped if t.kind == "versioned table"]:
        yield f"the history of {listed(versioned, 'versioned table', 'versioned tables')} is not in the dump"


def _idle_events(look: Look) -> Iterator[str]:
    query = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' AND EVENT_SCHEMA IN %s"
    ((events,),) = rows(look.connection, query, look.names)
    ((scheduler,),) = rows(look.connection, "SELECT @@GLOBAL.event_scheduler")
    if events and str(scheduler).upper() not in ("ON", "1"):
        yield f"enabled events do not run ({events} of them): the server's event scheduler is off"


def _orphans(look: Look) -> Iterator[str]:
    query = """
    SELECT TABLE_SCHEMA, TABLE_NAME, DEFINER FROM information_schema.VIEWS
        WHERE SECURITY_TYPE = 'DEFINER' AND TABLE_SCHEMA IN %s
    UNION SELECT ROUTINE_SCHEMA, ROUTINE_NAME, DEFINER FROM information_schema.ROUTINES
        WHERE SECURITY_TYPE = 'DEFINER' AND ROUTINE_SCHEMA IN %s
    UNION SELECT TRIGGER_SCHEMA, TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN %s
    UNION SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN %s
    """
    accounts = _if_allowed(look, "SELECT User, Host FROM mysql.user")
    if accounts is None:
        return
    known = {f"{user}@{host}" for user, host in accounts}
    found = rows(look.connection, query, look.names * 4)
    # A role, which has no host, may be a definer too.
    orphans = sorted(f"{a}.{b} ({who})" for a, b, who in found if who not in known and f"{who}@" not in known)
    if orphans:
        yield (
            f"the definer of {listed(orphans, 'view or program', 'views or programs')} does not exist: "
            "it does not work there, nor where it is restored"
        )


def _crossing_keys(look: Look) -> Iterator[str]:
    query = (
        "SELECT CONSTRAINT_SCHEMA, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS "
        "WHERE CONSTRAINT_SCHEMA IN %s AND CONSTRAINT_SCHEMA <> UNIQUE_CONSTRAINT_SCHEMA ORDER BY 1, 2"
    )
    crossing = [f"{schema}.{name}" for schema, name in rows(look.connection, query, look.names)]
    if crossing and look.settings.consistency == "database":
        yield (
            f"{listed(crossing, 'foreign key', 'foreign keys')} to another database: each database is dumped as of a "
            "moment of its own, unless consistency = server"
        )


def _servers(look: Look) -> Iterator[str]:
    if look.settings.accounts != "no" and accounts_readable(look.connection):
        return  # they are dumped with the accounts
    found = _if_allowed(look, "SELECT Server_name FROM mysql.servers ORDER BY 1")
    if found:
        servers = [str(name) for (name,) in found]
        yield f"{listed(servers, 'server', 'servers')} of CREATE SERVER are not in the dump: keep the statements"


def _system_tables(look: Look) -> Iterator[str]:
    query = (
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_TYPE = 'BASE TABLE' "
        "ORDER BY 1"
    )
    found = [str(name) for (name,) in rows(look.connection, query)]
    if own := [f"mysql.{name}" for name in found if name not in _OWN_TABLES and not name.startswith(_OWN_WORDS)]:
        yield f"{listed(own, 'table', 'tables')} in the server's own database, which is not dumped: move them"


def _second_passwords(look: Look) -> Iterator[str]:
    if look.connection.is_mariadb or look.connection.version.numbers < (8, 0, 14) or look.settings.accounts == "no":
        return
    found = _if_allowed(
        look,
        "SELECT User, Host FROM mysql.user "
        "WHERE JSON_CONTAINS_PATH(User_attributes, 'one', '$.additional_password') ORDER BY 1, 2",
    )
    if found:
        names = listed([f"{user}@{host}" for user, host in found], "account", "accounts")
        yield f"the second password (RETAIN CURRENT PASSWORD) of {names} is not in the dump"


def _accounts(look: Look) -> Iterator[str]:
    yield from look.accounts


def _routines(look: Look) -> Iterator[str]:
    yield from look.routines


def _patience(look: Look) -> Iterator[str]:
    if look.client.keeps_long_dumps:
        return
    ((seconds,),) = rows(look.connection, "SELECT @@GLOBAL.net_write_timeout")
    if int(seconds) < _PATIENCE_SECONDS:
        yield (
            f"the server ends a dump that is not read for {seconds} seconds, as when the sink stalls, and "
            f"{look.client.path.name} {look.client.version.text} cannot raise that: raise net_write_timeout on the "
            "server, or install a newer client"
        )


def _if_allowed(look: Look, query: str) -> list[tuple[Any, ...]] | None:
    """The rows of a query, or None where the account may not ask."""
    try:
        return rows(look.connection, query)
    except err.Error as error:
        if is_lost(error):
            raise
        return None


#: In the order in which they are said; `settings.CheckName` has their names.
CHECKS: tuple[Check[Look], ...] = (
    unverified_server(lambda look: look.settings.tls_warnings),
    Check("hidden-databases", "what the account cannot see is not in the dump", _hidden_databases),
    Check("broken-views", "the dump programs fail on a view that does not work", _broken_views),
    Check("folders", "MariaDB takes folders in its data for databases, which nobody can restore", _folders),
    Check("no-transactions", "such a table is not as of the dump's moment", _without_transactions),
    Check("float", "a dump has fewer digits of FLOAT than the table", _floats),
    Check("history", "the dump programs write only current rows", _history),
    Check("idle-events", "events that do not run here run where the scheduler is on", _idle_events),
    Check("orphans", "a definer that is gone makes a view or program fail", _orphans),
    Check("crossing-keys", "databases are dumped as of different moments", _crossing_keys),
    Check("servers", "CREATE SERVER is dumped with the accounts alone, since it holds a password", _servers),
    Check("system-tables", "the server's own databases are not dumped", _system_tables),
    Check("second-passwords", "the server does not tell them", _second_passwords),
    Check("accounts-left-out", "a server without its accounts is of no use to its applications", _accounts),
    Check("routines-left-out", "the bodies of other definers' routines take a right of their own", _routines),
    Check("impatient-server", "a stall of the sink would end the dump", _patience),
)
#: Before a restore, of the settings alone; `warnings.ignore` switches them off there, too.
RESTORE_CHECKS: tuple[Check[MySQLSettings], ...] = (unverified_server(lambda settings: settings.tls_warnings),)
