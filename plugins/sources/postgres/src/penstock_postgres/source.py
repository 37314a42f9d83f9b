"""The source: inspects and dumps one database or those of a server, and hands restores on."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.api import (
    Capability,
    ClientMissing,
    Dump,
    DumpPlan,
    DumpStream,
    Inspection,
    InventoryItem,
    PluginSettings,
    Restore,
    RestoreTarget,
    Source,
    SourceDenied,
    StreamSpec,
    UsageError,
)
from penstock_postgres.client import Client, client_for_dump, find_clients
from penstock_postgres.settings import PostgresSettings, settings_from_url

if TYPE_CHECKING:
    from penstock_postgres.choice import Choice
    from penstock_postgres.cluster import Databases
    from penstock_postgres.connection import Connection
    from penstock_postgres.probe import Relation
    from penstock_postgres.views import View

__all__ = ["PostgresSource"]


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at one database gave; `size` is what its archive will have, in bytes."""

    database: str
    choice: "Choice"
    found: "list[Relation]"
    size: int
    inventory: tuple[InventoryItem, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _HeldDump:
    """A dump that is going on: its client, its views, and what was found in each; `held` says that it stays so."""

    client: Client
    views: "dict[str, View]"
    found: "dict[str, list[Relation]]"
    held: bool


class PostgresSource(Source):
    """PostgreSQL databases, and the roles and tablespaces of their server, by the server's own client programs."""

    name: ClassVar[str] = "postgres"
    schemes: ClassVar[tuple[str, ...]] = ("postgres", "postgresql")
    Settings: ClassVar[type[PluginSettings]] = PostgresSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.PARALLEL_STREAMS, Capability.CONSISTENT}
    )

    settings: PostgresSettings

    def __repr__(self) -> str:
        return f"<PostgresSource {self.location}>"

    def capabilities(self) -> frozenset[Capability]:
        """Several databases share no view."""
        return self.possible_capabilities - ({Capability.CONSISTENT} if self.settings.databases else set())

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`postgres://user@host:port/database`, with further settings in the query; no password."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The URL without a password."""
        return self.settings.location

    def inspect(self) -> Inspection:
        """Look, without dumping or counting: rows come from the statistics."""
        from penstock_postgres import connection as connections

        # The cheapest question first: without a client nothing else matters.
        clients = find_clients("pg_dump", self.settings.client_path)
        databases = self._databases()
        first, *others = databases.names if databases else (None,)
        with (
            connections.connect(self.settings, database=first) as connection,
            connections.translated(f"cannot inspect {self.settings.location_of(first)}"),
        ):
            server = _version(connection)
            client = client_for_dump(server, clients)
            warnings = self._server_warnings(connection, client)
            looks = [self._look(connection, *self._relations(connection), count=False)]
        for name in others:
            with (
                connections.connect(self.settings, database=name) as connection,
                connections.translated(f"cannot inspect {self.settings.location_of(name)}"),
            ):
                looks.append(self._look(connection, *self._relations(connection), count=False))
        streams = self._streams(looks, client)
        return replace(
            self._inspection(server, client, looks, databases, warnings),
            streams=tuple(streams),
            consistency=self._consistency(looks, streams),
        )

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Hold one exported snapshot of each database for the length of the block; rows are counted in it."""
        from penstock_postgres import connection as connections
        from penstock_postgres import views as held_views

        clients = find_clients("pg_dump", self.settings.client_path)
        databases = self._databases()
        with held_views.open_views(self.settings, databases.names if databases else (None,)) as views:
            first = views[0].connection
            with connections.translated(f"cannot start to dump {self.location}"):
                client = client_for_dump(_version(first), clients)
                warnings = self._server_warnings(first, client)
                found = [self._relations(view.connection) for view in views]
                held = held_views.hold_tables(views, [relations for _, relations in found])
            looks = []
            for view, (choice, relations) in zip(views, found, strict=True):
                with connections.translated(f"cannot start to dump {self.settings.location_of(view.database)}"):
                    looks.append(self._look(view.connection, choice, relations, count=True))
                if held:
                    held_views.check_unchanged(self.settings, view.database, looks[-1].found)
            inspection = self._inspection(_version(first), client, looks, databases, warnings)
            with connections.translated(f"cannot start to dump {self.location}"):
                plan = self._plan(views, looks, inspection, client)
            held_dump = _HeldDump(
                client, {view.database: view for view in views}, {look.database: look.found for look in looks}, held
            )
            yield Dump(plan, lambda spec: self._start(held_dump, spec))

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Start pg_dump, or pg_dumpall, on a stream of another process's plan."""
        from penstock_postgres import connection as connections
        from penstock_postgres.dumping import start_dump

        clients = find_clients("pg_dump", self.settings.client_path)
        same = [client for client in clients if client.version == spec.attributes["client_version"]]
        client = client_for_dump(spec.attributes["server_version"], same or clients)
        with connections.connect(self.settings, database=spec.attributes["database"]) as connection:
            return start_dump(self.settings, spec, client, connection)

    def _start(self, dump: _HeldDump, spec: StreamSpec) -> DumpStream:
        """Start pg_dump, or pg_dumpall, on one stream of the plan."""
        from penstock_postgres.dumping import start_dump
        from penstock_postgres.views import check_unchanged

        database = spec.attributes["database"]

        def confirm() -> None:
            if not dump.held:
                check_unchanged(self.settings, database, dump.found[database])

        return start_dump(self.settings, spec, dump.client, dump.views[database].connection, confirm)

    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        """Connect to the target, compare versions, and see whether it is empty and has the roles that are needed."""
        from penstock_postgres.target import check_target

        check_target(self.settings, streams, target)

    @contextmanager
    def restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> Iterator[Restore]:
        """Restore archives, each in one transaction, and the roles and tablespaces of the server."""
        from penstock_postgres.dumping import ARCHIVE, GLOBALS
        from penstock_postgres.restore import restore_archive
        from penstock_postgres.roles import restore_globals

        def write(spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
            if spec.format == ARCHIVE:
                restore_archive(self.settings, spec, blocks, target)
            elif spec.format == GLOBALS:
                restore_globals(self.settings, blocks, target)
            else:
                raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of PostgreSQL's")

        del streams
        yield Restore(write)

    def _databases(self) -> "Databases | None":
        if not self.settings.databases:
            return None
        from penstock_postgres import cluster, connection

        with (
            connection.connect_anywhere(self.settings) as (there, _, _),
            connection.translated(f"cannot look for the databases of {self.location}"),
        ):
            return cluster.find_databases(there, self.settings)

    def _relations(self, connection: "Connection") -> "tuple[Choice, list[Relation]]":
        from penstock_postgres import choice, probe

        chosen = choice.choose(connection, self.settings)
        found = list(chosen.of(probe.relations(connection)))
        probe.check_readable(connection, found, chosen)
        return chosen, found

    def _look(self, connection: "Connection", choice: "Choice", found: "list[Relation]", *, count: bool) -> _Look:
        from penstock_postgres import probe

        several = bool(self.settings.databases)
        database = connection.info.dbname
        items = probe.inventory(
            connection, found, choice, self.settings.row_counts, count=count, prefix=f"{database}." if several else ""
        )
        warnings = probe.warnings(connection, found, choice)
        return _Look(
            database,
            choice,
            found,
            probe.size_estimate(connection, found, choice),
            tuple(items),
            tuple(f"{database}: {one}" if several else one for one in warnings),
        )

    def _server_warnings(self, connection: "Connection", client: Client) -> list[str]:
        from penstock_postgres import probe

        warnings = list(probe.server_warnings(connection))
        if self.settings.globals == "no":
            return warnings
        if not probe.may_read_passwords(connection):
            if self.settings.globals == "yes":
                raise SourceDenied(
                    f"the role {connection.info.user} may not read the passwords of roles",
                    hint="dump as a superuser, or let globals = auto leave the passwords out",
                )
            warnings.append("roles are dumped without their passwords: only a superuser can read them")
        if not client.has("pg_dumpall"):
            if self.settings.globals == "yes":
                raise ClientMissing(f"{client.folder} has no pg_dumpall", hint="install it, or leave globals out")
            warnings.append(f"roles and tablespaces are left out: {client.folder} has no pg_dumpall")
        return warnings

    def _inspection(
        self,
        server: str,
        client: Client,
        looks: list[_Look],
        databases: "Databases | None",
        warnings: list[str],
    ) -> Inspection:
        items: list[InventoryItem] = []
        for look in looks:
            if databases:
                items.append(InventoryItem("database", look.database, None, look.size))
            items.extend(look.inventory)
        if databases:
            items.extend(databases.inventory())
            warnings = [*warnings, *databases.warnings()]
        return Inspection(
            "postgres",
            server,
            client.version,
            sum(look.size for look in looks),
            tuple(items),
            (*warnings, *(warning for look in looks for warning in look.warnings)),
        )

    def _streams(self, looks: list[_Look], client: Client) -> list[StreamSpec]:
        """The streams of a dump, before it has begun: without attributes."""
        from penstock_postgres.dumping import ARCHIVE, GLOBALS, path_like

        with_globals = self.settings.globals != "no" and client.has("pg_dumpall")
        folder = "db/" if self.settings.databases else ""
        return [
            *([StreamSpec("globals.sql", GLOBALS, 0, None, True)] if with_globals else []),
            *(StreamSpec(f"{folder}{path_like(one.database)}.dump", ARCHIVE, 1, one.size, False) for one in looks),
        ]

    def _consistency(self, looks: list[_Look], streams: list[StreamSpec]) -> str:
        words = "one transaction snapshot"
        if self.settings.databases:
            words += " for each database, taken one after the other"
        if choice := looks[0].choice.text:
            words += f", of a choice ({choice})"
        return words + ("; roles and tablespaces beside it" if len(streams) > len(looks) else "")

    def _plan(self, views: "list[View]", looks: list[_Look], inspection: Inspection, client: Client) -> DumpPlan:
        from penstock_postgres import probe
        from penstock_postgres.recorded import archive_attributes

        common = {"server_version": inspection.server_version, "client_version": client.version}
        if self.settings.databases:
            common["cluster"] = "yes"
        streams = self._streams(looks, client)
        archives = streams[-len(looks) :]
        planned = []
        if len(streams) > len(looks):
            passwords = "yes" if probe.may_read_passwords(views[0].connection) else "no"
            attributes = {"database": views[0].database, **common, "passwords": passwords}
            planned.append(replace(streams[0], attributes=attributes))
        for spec, view, look in zip(archives, views, looks, strict=True):
            recorded = archive_attributes(view.connection, look.found, look.choice)
            attributes = {"database": view.database, **common, "snapshot": view.snapshot, **recorded}
            planned.append(replace(spec, attributes=attributes))
        return DumpPlan(inspection, tuple(planned), self._consistency(looks, streams))


def _version(connection: "Connection") -> str:
    return connection.info.parameter_status("server_version") or "unknown"
