"""The source: inspects and dumps the databases of one server, and hands restores on."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.api import (
    Capability,
    Dump,
    DumpFailed,
    DumpPlan,
    DumpStream,
    Inspection,
    PluginSettings,
    Restore,
    RestoreTarget,
    Source,
    SourceDenied,
    SourceError,
    StreamSpec,
    UsageError,
)
from penstock_mysql.client import Client, client_for_dump, find_clients
from penstock_mysql.dialect import server_version
from penstock_mysql.dumping import path_like, start_dump
from penstock_mysql.settings import MySQLSettings, settings_from_url
from penstock_mysql.streams import ChildStream, TextStream

if TYPE_CHECKING:
    from penstock_mysql.connection import Connection
    from penstock_mysql.probe import Database, Table

__all__ = ["ACCOUNTS", "DATABASE", "MySQLSource"]

#: The formats of the streams: what mysqldump writes, and SQL of our own.
DATABASE = "mysqldump"
ACCOUNTS = "sql"


@dataclass(frozen=True, slots=True)
class _Found:
    """What one look at the server gave."""

    inspection: Inspection
    client: Client
    databases: "list[Database]"
    tables: "list[Table]"
    accounts: bool
    routines: bool


@dataclass(frozen=True, slots=True)
class _View:
    """A dump that is going on: its client, and the streams that were started under the lock."""

    client: Client
    started: dict[str, ChildStream] = field(default_factory=dict)

    def abort(self) -> None:
        """End what was started and not read to its end."""
        for stream in self.started.values():
            stream.abort()


class MySQLSource(Source):
    """Databases of one MySQL or MariaDB server, and its accounts, by the client programs of the server's own make."""

    name: ClassVar[str] = "mysql"
    schemes: ClassVar[tuple[str, ...]] = ("mysql", "mariadb")
    Settings: ClassVar[type[PluginSettings]] = MySQLSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PARALLEL_STREAMS})

    settings: MySQLSettings

    def __repr__(self) -> str:
        return f"<MySQLSource {self.location}>"

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`mysql://user@host:3306/database`, with further settings in the query; no password."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The URL without a password."""
        return self.settings.location

    def inspect(self) -> Inspection:
        """Look, without dumping or counting: rows come from the statistics."""
        from penstock_mysql import connection as connections

        # The cheapest question first: without a client nothing else matters.
        clients = find_clients("dump", self.settings.client_path)
        with (
            connections.connect(self.settings) as connection,
            connections.translated(f"cannot inspect {self.location}"),
        ):
            found = self._look(connection, clients)
            plan = self._plan(connection, found)
            return replace(found.inspection, streams=plan.streams, consistency=plan.consistency)

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Check all that can be checked, and, with `consistency = server`, start all databases at one moment."""
        from penstock_mysql import connection as connections

        clients = find_clients("dump", self.settings.client_path)
        with ExitStack() as cleaning:
            with (
                connections.connect(self.settings) as connection,
                connections.translated(f"cannot start to dump {self.location}"),
            ):
                found = self._look(connection, clients)
                plan = self._plan(connection, found)
                view = _View(found.client)
                cleaning.callback(view.abort)
                plan = self._begin(connection, found, plan, view)

            def start(spec: StreamSpec) -> DumpStream:
                if spec.format == ACCOUNTS:
                    return self._accounts(spec)
                return view.started.get(spec.name) or start_dump(self.settings, spec, view.client)

            yield Dump(plan, start)

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Start the dump program on one database, or read the accounts."""
        if spec.format == ACCOUNTS:
            return self._accounts(spec)
        if self.settings.consistency == "server":
            raise SourceError(
                f"{spec.name} can only be read where its dump was started",
                hint="Leave the streams in one process, or give up one view for all databases: consistency = database.",
            )
        clients = find_clients("dump", self.settings.client_path)
        server = server_version(spec.attributes["server_version"])
        return start_dump(self.settings, spec, client_for_dump(server, clients, older=self.settings.older_client))

    def _accounts(self, spec: StreamSpec) -> DumpStream:
        from penstock_mysql import accounts
        from penstock_mysql import connection as connections

        doing = f"cannot read the accounts of {self.location}"
        with connections.connect(self.settings) as connection, connections.translated(doing, DumpFailed):
            return TextStream(spec.name, accounts.accounts_as_sql(connection))

    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        """Connect to the target, compare engines and versions, and see whether it is empty."""
        from penstock_mysql.target import check_target

        check_target(self.settings, streams, target)

    @contextmanager
    def restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> Iterator[Restore]:
        """Restore databases, and the accounts that the server lacks."""
        from penstock_mysql.restore import restore_accounts_stream, restore_database

        def write(spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
            if spec.format == DATABASE:
                restore_database(self.settings, spec, blocks, target)
            elif spec.format == ACCOUNTS:
                restore_accounts_stream(self.settings, blocks, target)
            else:
                raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of MySQL's")

        del streams
        yield Restore(write)

    def _look(self, connection: "Connection", clients: list[Client]) -> _Found:
        from penstock_mysql import accounts, privileges, probe

        settings = self.settings
        client = client_for_dump(connection.version, clients, older=settings.older_client)
        databases = probe.databases(connection, settings)
        allowed = privileges.granted(connection)
        probe.check_readable(connection, databases, allowed)
        tables = probe.tables(connection, [database.name for database in databases])
        probe.check_views(connection, tables, settings)
        if settings.consistency == "server" and not allowed.anywhere("RELOAD", "FLUSH_TABLES"):
            raise SourceDenied(
                f"the account {connection.user} may not hold the global read lock that consistency = server needs",
                hint="grant it RELOAD on *.*, or dump with consistency = database",
            )
        warnings = list(probe.warnings(connection, tables, databases, settings, allowed))
        all_routines = probe.routines_readable(connection, allowed)
        if not all_routines and settings.routines != "no":
            what = "the bodies of all procedures and functions"
            if settings.routines == "yes":
                raise SourceDenied(
                    f"the account {connection.user} may not read {what}",
                    hint="grant it SELECT on *.*, or let routines = auto leave out what it cannot see",
                )
            warnings.append(f"the account may not read {what}: those of other definers are left out")
        routines = settings.routines != "no" and (all_routines or not probe.hidden_routines(connection, databases))
        with_accounts = settings.grants != "no" and accounts.accounts_readable(connection)
        if settings.grants != "no" and not with_accounts:
            if settings.grants == "yes":
                raise SourceDenied(
                    f"the account {connection.user} may not read the other accounts",
                    hint="grant it SELECT on mysql.*, or let grants = auto leave them out",
                )
            warnings.append("accounts and their grants are left out: that takes SELECT on mysql.*")
        size = sum(table.size or 0 for table in tables)
        items = tuple(probe.inventory(connection, tables, databases, {}, settings, exact=False))
        inspection = Inspection(
            connection.version.vendor, connection.version.text, client.version.text, size, items, tuple(warnings)
        )
        return _Found(inspection, client, databases, tables, with_accounts, routines)

    def _plan(self, connection: "Connection", found: _Found) -> DumpPlan:
        from penstock_mysql import probe

        common = {
            "engine": connection.version.vendor,
            "server_version": str(connection.version),
            "client_version": str(found.client.version),
        }
        streams = []
        for database in found.databases:
            attributes = common | {
                "database": database.name,
                "character_set": database.character_set,
                "collation": database.collation,
                "comment": database.comment,
                "collations": "\n".join(probe.collations(connection, database)),
                "routines": "yes" if found.routines else "no",
            }
            size = sum(table.size or 0 for table in found.tables if table.database == database.name)
            streams.append(StreamSpec(f"db/{path_like(database.name)}.sql", DATABASE, 1, size, False, attributes))
        if found.accounts:
            streams.append(StreamSpec("grants.sql", ACCOUNTS, 2, None, True, common))
        consistency = "one transaction" if len(found.databases) == 1 else "one transaction for each database"
        if self.settings.consistency == "server":
            consistency = "one moment for all databases"
        consistency += ", as far as tables have transactions"
        return DumpPlan(
            found.inspection, tuple(streams), consistency + ("; accounts beside it" if found.accounts else "")
        )

    def _begin(self, connection: "Connection", found: _Found, plan: DumpPlan, view: _View) -> DumpPlan:
        from penstock_mysql import connection as connections
        from penstock_mysql import probe

        together = self.settings.consistency == "server"
        exact = self.settings.row_counts == "exact"
        if not together and not exact:
            return plan
        connections.execute(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with connections.global_read_lock(connection, self.settings.lock_timeout) if together else ExitStack():
            if together:
                for spec in plan.streams:
                    if spec.format == DATABASE:
                        view.started[spec.name] = start_dump(self.settings, spec, view.client)
                # No writer can commit before each of them has its view.
                for stream in view.started.values():
                    stream.wait_for_first_byte()
            connections.execute(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        if not exact:
            return plan
        counts = probe.count_rows(connection, found.tables, self.settings)
        items = probe.inventory(connection, found.tables, found.databases, counts, self.settings, exact=together)
        return replace(plan, inspection=replace(plan.inspection, inventory=tuple(items)))
