"""What a dump would hold, and what would make it fail: one look at the server, and the plan that follows from it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from penstock.api import DumpPlan, Inspection, LeftOut, SourceDenied, StreamSpec, found_by
from penstock.api.servers import path_like, settle
from penstock_mysql import probe
from penstock_mysql.accounts import accounts_readable, partly_revoked
from penstock_mysql.checks import CHECKS, Look
from penstock_mysql.client import Client, client_for_dump
from penstock_mysql.connection import Connection
from penstock_mysql.contents import look_into
from penstock_mysql.privileges import Privileges, granted
from penstock_mysql.settings import MySQLSettings

__all__ = ["ACCOUNTS", "DATABASE", "Survey", "look_at"]

#: The formats of the streams: what mysqldump writes, and SQL of our own.
DATABASE = "mysqldump"
ACCOUNTS = "sql"

#: In an INSERT: mysqldump goes on with the next row, mariadb-dump with a line for it.
_BETWEEN_ROWS = b"),"


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was found: which client dumps, and what."""

    inspection: Inspection
    client: Client
    databases: list[probe.Database]
    tables: list[probe.Table]
    with_accounts: bool
    with_routines: bool
    #: Views that cannot be dumped, by `database.view`.
    left_out: frozenset[str]
    #: Databases with events that the dump programs never end with.
    endless_events: frozenset[str]

    def plan(self, connection: Connection, settings: MySQLSettings) -> DumpPlan:
        """The plan of a dump."""
        common = {
            "engine": connection.version.vendor,
            "server_version": str(connection.version),
            "client_version": str(self.client.version),
        }
        streams = []
        every = probe.database_names(connection)
        spaces = probe.tablespaces(connection)
        for database in self.databases:
            attributes = common | {
                "database": database.name,
                "character_set": database.character_set,
                "collation": database.collation,
                "comment": database.comment,
                "collations": "\n".join(probe.collations(connection, database)),
                "routines": "yes" if self.with_routines else "no",
                "events": "apart" if database.name in self.endless_events else "yes",
                "without": json.dumps(
                    [t.name for t in self.tables if t.database == database.name and t.title in self.left_out],
                    ensure_ascii=False,
                ),
                **({"spaces": json.dumps(spaces, ensure_ascii=False)} if spaces else {}),
                "contents": look_into(connection, database.name, every).as_text(),
            }
            size = sum(table.size or 0 for table in self.tables if table.database == database.name)
            name = f"db/{path_like(database.name)}.sql"
            streams.append(StreamSpec(name, DATABASE, 1, size, False, attributes, _BETWEEN_ROWS))
        if self.with_accounts:
            revoked = json.dumps(partly_revoked(connection), ensure_ascii=False)
            about = common | {"partly_revoked": revoked}
            streams.append(StreamSpec("accounts.sql", ACCOUNTS, 2, None, True, about, b"\n"))
        consistency = "one transaction" if len(self.databases) == 1 else "one transaction for each database"
        if settings.consistency == "server":
            consistency = "one moment for all databases"
        consistency += ", as far as tables have transactions"
        return DumpPlan(
            self.inspection, tuple(streams), consistency + ("; accounts beside it" if self.with_accounts else "")
        )

    def counted(self, connection: Connection, settings: MySQLSettings, plan: DumpPlan, *, exact: bool) -> DumpPlan:
        """The plan with the rows of every table counted now; `exact` says whether that is what the dump holds."""
        counts = probe.count_rows(connection, self.tables, settings)
        items = probe.inventory(connection, self.tables, self.databases, counts, settings, exact=exact)
        return replace(plan, inspection=replace(plan.inspection, inventory=tuple(items)))


def look_at(connection: Connection, settings: MySQLSettings, clients: list[Client]) -> Survey:
    """Look at the server; raises `SourceDenied` and the like for what would make a dump fail."""
    client = client_for_dump(connection.version, clients, older=settings.older_client)
    databases = probe.databases(connection, settings)
    allowed = granted(connection)
    probe.check_readable(connection, databases, allowed)
    tables = probe.tables(connection, [database.name for database in databases])
    broken = probe.broken_views(connection, tables, settings)
    endless = probe.endless_events(connection, databases)
    if settings.consistency == "server" and not allowed.anywhere("RELOAD", "FLUSH_TABLES"):
        raise SourceDenied(
            f"the account {connection.user} may not hold the global read lock that consistency = server needs",
            hint="Grant it RELOAD on *.*, or dump with consistency = database.",
        )
    about_accounts: list[str] = []
    about_routines: list[str] = []
    with_routines = _routines(connection, settings, databases, allowed, about_routines)
    with_accounts = settle(
        settings.accounts,
        possible=accounts_readable(connection),
        refusal=SourceDenied(
            f"the account {connection.user} may not read the other accounts",
            hint="Grant it SELECT on mysql.*, or let accounts = auto leave them out.",
        ),
        warning="accounts and their grants are left out: that takes SELECT on mysql.*",
        warnings=about_accounts,
    )
    look = Look(
        connection=connection,
        settings=settings,
        client=client,
        allowed=allowed,
        databases=databases,
        tables=tables,
        broken_views=broken,
        accounts=tuple(about_accounts),
        routines=tuple(about_routines),
    )
    warnings = tuple(found_by(CHECKS, look, settings.warnings))
    size = sum(table.size or 0 for table in tables)
    items = tuple(probe.inventory(connection, tables, databases, {}, settings, exact=False))
    inspection = Inspection(
        connection.version.vendor,
        connection.version.text,
        client.version.text,
        size,
        items,
        warnings,
        left_out=() if "broken-views" in settings.warnings.ignore else tuple(_broken(tables, broken)),
    )
    return Survey(
        inspection, client, databases, tables, with_accounts, with_routines, frozenset(broken), frozenset(endless)
    )


def _broken(tables: list[probe.Table], broken: Mapping[str, str]) -> Iterator[LeftOut]:
    for table in tables:
        if (said := broken.get(table.title)) is not None:
            yield LeftOut(table.kind, table.name, said, database=table.database)


def _routines(
    connection: Connection,
    settings: MySQLSettings,
    databases: list[probe.Database],
    allowed: Privileges,
    warnings: list[str],
) -> bool:
    """Whether procedures and functions are dumped: all, or those whose bodies the account can see."""
    what = "the bodies of all procedures and functions"
    every = settle(
        settings.routines,
        possible=probe.routines_readable(connection, allowed),
        refusal=SourceDenied(
            f"the account {connection.user} may not read {what}",
            hint="Grant it SELECT on *.*, or let routines = auto leave out what it cannot see.",
        ),
        warning=f"the account may not read {what}: those of other definers are left out",
        warnings=warnings,
    )
    return every or (settings.routines != "no" and not probe.hidden_routines(connection, databases))
