"""The source: inspects and dumps a deployment, and hands restores on."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.api import (
    Capability,
    ChildOutput,
    Dump,
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
    env_for_child,
)
from penstock_mongodb.archive import Archive
from penstock_mongodb.client import Client, find_client
from penstock_mongodb.settings import MongoSettings, settings_from_url

if TYPE_CHECKING:
    from penstock_mongodb.connection import Connection
    from penstock_mongodb.probe import Deployment

__all__ = ["ARCHIVE", "MongoSource"]

#: The format of every stream: what `mongodump --archive` writes, not compressed.
ARCHIVE = "mongodump-archive"

_POINT_IN_TIME = "point in time through the oplog"


class MongoSource(Source):
    """One MongoDB deployment, by MongoDB's own Database Tools."""

    name: ClassVar[str] = "mongodb"
    schemes: ClassVar[tuple[str, ...]] = ("mongodb", "mongodb+srv")
    Settings: ClassVar[type[PluginSettings]] = MongoSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PARALLEL_STREAMS})

    settings: MongoSettings

    def __init__(self, settings: PluginSettings) -> None:
        assert isinstance(settings, MongoSettings)
        super().__init__(settings)

    def __repr__(self) -> str:
        return f"<MongoSource {self.location}>"

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`mongodb://user@host:port/database`, with further settings in the query; no password."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The URL without a password."""
        return self.settings.location

    def inspect(self) -> Inspection:
        """Look, without dumping or counting: documents come from the statistics."""
        found, deployment = self._inspect("off" if self.settings.row_counts == "off" else "estimate")
        plan = self._plan(found, deployment)
        return replace(found, streams=plan.streams, consistency=plan.consistency)

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Decide what the streams are. MongoDB has no view to hold: with the oplog, the one archive has its own."""
        inspection, deployment = self._inspect(self.settings.row_counts)
        yield Dump(self._plan(inspection, deployment), self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Start mongodump on one stream of the plan; also on one of another process's plan."""
        from penstock_mongodb.connection import tool_configuration

        client = find_client("mongodump", self.settings.client_path)
        oplog = spec.attributes["oplog"] == "yes"
        with tool_configuration(self.settings, read=True) as (arguments, descriptor, secrets):
            child = ChildOutput(
                _dump_command(spec, client, arguments),
                name=f"mongodump of {'everything' if oplog else spec.attributes['database']}",
                env=env_for_child(),
                stall_timeout=self.settings.stall_timeout,
                pass_fds=[descriptor],
                secrets=secrets,
            )
        return Archive(child, spec.name, oplog=oplog)

    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        """Connect to the target, compare versions, and see whether it is empty and takes what is asked for."""
        from penstock_mongodb.target import check_target

        check_target(self.settings, streams, target)

    @contextmanager
    def restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> Iterator[Restore]:
        """Give each archive to mongorestore."""
        from penstock_mongodb.restore import restore_archive

        def write(spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
            if spec.format != ARCHIVE:
                raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of MongoDB's")
            restore_archive(self.settings, spec, blocks, target)

        del streams
        yield Restore(write)

    def _inspect(self, counts: str) -> "tuple[Inspection, Deployment]":
        from penstock_mongodb import connection as connections
        from penstock_mongodb import probe

        # The cheapest question first: without a client nothing else matters.
        client = find_client("mongodump", self.settings.client_path)
        doing = f"cannot inspect {self.location}"
        with (
            connections.connect(self.settings, read=True) as connection,
            connections.translated(doing, self.settings),
        ):
            deployment = self._deployment(connection)
            items = tuple(probe.inventory(connection, deployment, counts))
        sizes = [item.size for item in items if item.size is not None]
        warnings = tuple(probe.warnings(deployment, client.version, self.settings))
        if not deployment.readable_users and self.settings.users == "auto" and not self.settings.databases:
            warnings += ("users and roles are left out: the user may not read them",)
        return Inspection(self.name, deployment.version, client.version, sum(sizes), items, warnings), deployment

    def _deployment(self, connection: "Connection") -> "Deployment":
        from penstock_mongodb import probe

        settings = self.settings
        found = probe.look(connection)
        if found.topology == "sharded cluster" and settings.oplog != "no":
            raise SourceError(
                f"{self.location} is a sharded cluster, of which mongodump makes no consistent dump",
                hint="back up each shard and the config servers with the balancer stopped, or accept an inconsistent "
                "dump with oplog = no",
            )
        if settings.oplog == "yes" and not found.has_oplog:
            raise SourceError(
                f"{self.location} is a standalone server, which has no oplog",
                hint="make it a replica set of one, or dump without a point in time: oplog = no",
            )
        if _with_oplog(found, settings):
            probe.check_oplog(connection)
        names = probe.databases(connection, settings)
        readable = probe.may_read_users(connection)
        if not readable and (settings.users == "yes" or _with_oplog(found, settings)):
            raise SourceDenied(
                "the user may not read users and roles",
                hint="grant the role backup in the database admin, or dump with oplog = no and users = no",
            )
        # `admin` with its users is no database to choose, but goes with all of them.
        wanted = settings.users == "yes" or (settings.users == "auto" and readable and not settings.databases)
        with_admin = "admin" not in names and (wanted or _with_oplog(found, settings))
        chosen = (*names, "admin") if with_admin and "admin" not in settings.exclude_databases else names
        held = {name: probe.collections(connection, name) for name in chosen}
        return replace(found, databases=chosen, collections=held, readable_users=readable and "admin" in chosen)

    def _plan(self, inspection: Inspection, deployment: "Deployment") -> DumpPlan:
        common = {"server_version": inspection.server_version, "client_version": inspection.client_version}
        if _with_oplog(deployment, self.settings):
            # Databases that come while the dump runs are in the oplog, and not in this list.
            attributes = common | {"oplog": "yes", "databases": json.dumps(deployment.databases, ensure_ascii=False)}
            attributes |= _broken_names(deployment.broken_names)
            spec = StreamSpec("deployment.archive", ARCHIVE, 0, inspection.size_estimate, False, attributes)
            return DumpPlan(inspection, (spec,), _POINT_IN_TIME)
        streams = []
        for name in deployment.databases:
            users = name == "admin"
            only_users = users and all(str(one["name"]).startswith("system.") for one in deployment.collections[name])
            sizes = [item.size or 0 for item in inspection.inventory if item.name.startswith(f"{name}.")]
            attributes = common | {"oplog": "no", "database": name, "databases": json.dumps([name], ensure_ascii=False)}
            attributes |= _broken_names([one for one in deployment.broken_names if one.startswith(f"{name}.")])
            streams.append(
                StreamSpec(f"{_path_like(name)}.archive", ARCHIVE, int(users), sum(sizes), only_users, attributes)
            )
        why = "the server is no member of a replica set, and has no oplog"
        if deployment.topology == "sharded cluster":
            why = "a sharded cluster was read while it was in use"
        elif deployment.has_oplog:
            why = "databases are dumped one by one, without the oplog"
        return DumpPlan(inspection, tuple(streams), f"none: {why}")


def _broken_names(names: list[str]) -> dict[str, str]:
    return {"broken_names": json.dumps(names, ensure_ascii=False)} if names else {}


def _with_oplog(deployment: "Deployment", settings: MongoSettings) -> bool:
    chosen = settings.databases or settings.exclude_databases
    return deployment.has_oplog and settings.oplog != "no" and not chosen


def _dump_command(spec: StreamSpec, client: Client, configuration: list[str]) -> list[str]:
    # One collection after the other, or two dumps of the same data would mix their documents differently; and not
    # compressed. Neither would deduplicate.
    command = [client.program, *configuration, "--archive", "--numParallelCollections=1"]
    return [*command, "--oplog" if spec.attributes["oplog"] == "yes" else f"--db={spec.attributes['database']}"]


def _path_like(name: str) -> str:
    # Letters of any language stay as they are; what a path or a terminal could misread is percent-encoded.
    return re.sub(r"[^\w.\-]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)
