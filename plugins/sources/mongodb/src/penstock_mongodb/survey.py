"""What a dump would hold, and what would make it fail: one look at the deployment, and the plan that follows."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from bson import json_util

from penstock.api import DumpPlan, Inspection, InventoryItem, SourceDenied, SourceError, StopToken, StreamSpec, found_by
from penstock.api.servers import path_like, settle
from penstock_mongodb import probe
from penstock_mongodb.archive import ARCHIVE
from penstock_mongodb.checks import CHECKS, Facts
from penstock_mongodb.client import Client, find_client
from penstock_mongodb.connection import Connection, connect, translated
from penstock_mongodb.features import used
from penstock_mongodb.probe import DatabaseSize, Deployment
from penstock_mongodb.settings import MongoSettings

__all__ = ["Survey", "survey"]

_EJSON = json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL)
_POINT_IN_TIME = "point in time through the oplog"


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was found."""

    inspection: Inspection
    deployment: Deployment
    with_oplog: bool
    #: Of each database, as far as the user may know it.
    sizes: dict[str, DatabaseSize] = field(default_factory=dict)

    @property
    def plan(self) -> DumpPlan:
        """The plan of a dump: one archive of everything with the oplog, or one for each database without."""
        inspection, deployment = self.inspection, self.deployment
        common = {"server_version": inspection.server_version, "client_version": inspection.client_version}
        if self.with_oplog:
            # Databases that come while the dump runs are in the oplog, and not in this list.
            attributes = common | {"oplog": "yes", "databases": json.dumps(deployment.databases, ensure_ascii=False)}
            attributes |= self._recorded(deployment.databases)
            spec = StreamSpec("deployment.archive", ARCHIVE, 0, inspection.size_estimate, False, attributes)
            return DumpPlan(inspection, (spec,), _POINT_IN_TIME)
        return DumpPlan(inspection, tuple(self._archive(name, common) for name in deployment.databases), self._no_point)

    @property
    def _no_point(self) -> str:
        why = "the server is not a member of a replica set, and has no oplog"
        if self.deployment.topology == "sharded cluster":
            why = "a sharded cluster was read while it was in use"
        elif self.deployment.has_oplog:
            why = "databases are dumped one by one, without the oplog"
        return f"none: {why}"

    def _archive(self, name: str, common: dict[str, str]) -> StreamSpec:
        users = name == "admin"
        held = self.deployment.collections[name]
        only_users = users and all(str(one["name"]).startswith("system.") for one in held)
        sizes = [item.size or 0 for item in self.inspection.inventory if item.name.startswith(f"{name}.")]
        size = sum(sizes) if self.deployment.measured or name not in self.sizes else self.sizes[name].data
        attributes = common | {"oplog": "no", "database": name, "databases": json.dumps([name], ensure_ascii=False)}
        attributes |= self._recorded([name])
        return StreamSpec(f"{path_like(name)}.archive", ARCHIVE, int(users), size, only_users, attributes)

    def _recorded(self, databases: Collection[str]) -> dict[str, str]:
        """What a restore has to know of these databases before it touches its target."""
        deployment = self.deployment
        features = {
            name: {
                str(one["name"]): one["options"]
                for one in held
                if not str(one["name"]).startswith("system.") and any(used(one.get("options", {})))
            }
            for name, held in deployment.collections.items()
            if name in databases
        }
        lists = {
            "broken_names": [one for one in deployment.broken_names if one.partition(".")[0] in databases],
            "old_indexes": [one for one in deployment.old_indexes if _database_of(one) in databases],
        }
        recorded = {word: json.dumps(names, ensure_ascii=False) for word, names in lists.items() if names}
        if features := {name: collections for name, collections in features.items() if collections}:
            recorded["features"] = json_util.dumps(features, json_options=_EJSON, ensure_ascii=False)
        if stored := sum(size.stored for name, size in self.sizes.items() if name in databases):
            recorded["stored"] = str(stored)
        return recorded


def survey(settings: MongoSettings, counts: str, stop: StopToken) -> Survey:
    """Look, with documents counted as `counts` says; raises what makes a dump fail."""
    # The cheapest question first: without a client nothing else matters.
    client = find_client("mongodump", settings.client_path, stop)
    with connect(settings, read=True) as connection, translated(f"cannot inspect {settings.location}", settings):
        found = probe.look(connection)
        _check_oplog(connection, found, settings)
        with_oplog = found.has_oplog and settings.oplog != "no" and not settings.chosen
        warnings: list[str] = []
        deployment = _choose(connection, found, settings, warnings, with_oplog=with_oplog)
        if deployment.measured:
            old = tuple(probe.old_indexes(connection, deployment.collections))
            deployment = replace(deployment, old_indexes=old)
        items = tuple(probe.inventory(connection, deployment, counts))
        sizes = probe.database_sizes(connection, deployment)
    inspection = _inspection(client, deployment, items, settings, warnings)
    if sizes and not deployment.measured:
        inspection = replace(inspection, size_estimate=sum(size.data for size in sizes.values()))
    return Survey(inspection, deployment, with_oplog, sizes)


def _inspection(
    client: Client,
    deployment: Deployment,
    items: tuple[InventoryItem, ...],
    settings: MongoSettings,
    warnings: list[str],
) -> Inspection:
    size = sum(item.size for item in items if item.size is not None)
    facts = Facts(deployment, client.version, settings, tuple(warnings))
    said = tuple(found_by(CHECKS, facts, settings.warnings))
    return Inspection("mongodb", deployment.version, client.version, size, items, said)


def _check_oplog(connection: Connection, found: Deployment, settings: MongoSettings) -> None:
    if found.topology == "sharded cluster" and settings.oplog != "no":
        raise SourceError(
            f"{settings.location} is a sharded cluster, of which mongodump makes no consistent dump",
            hint="Back up each shard and the config servers with the balancer stopped, or accept an inconsistent "
            "dump with oplog = no.",
        )
    if settings.oplog == "yes" and not found.has_oplog:
        raise SourceError(
            f"{settings.location} is a standalone server, which has no oplog",
            hint="Make it a replica set of one, or dump without a point in time: oplog = no.",
        )
    if found.has_oplog and settings.oplog != "no" and not settings.chosen:
        probe.check_oplog(connection)


def _choose(
    connection: Connection, found: Deployment, settings: MongoSettings, warnings: list[str], *, with_oplog: bool
) -> Deployment:
    """The deployment with the databases to dump, and what is in them."""
    names = probe.databases(connection, settings)
    refusal = SourceDenied(
        "the user may not read users and roles",
        hint="Grant the role backup in the database admin, or dump with oplog = no and accounts = no.",
    )
    readable = probe.may_read_users(connection)
    if with_oplog and not readable:
        raise refusal
    # `admin` with its users is not a database to choose, but goes with all of them.
    insisted = settings.accounts == "yes" or (settings.accounts == "auto" and not settings.database_chosen)
    wanted = insisted and settle(
        settings.accounts,
        possible=readable,
        refusal=refusal,
        warning="users and roles are left out: the user may not read them",
        warnings=warnings,
    )
    left_out = any(fnmatchcase("admin", pattern) for pattern in settings.exclude_databases)
    if "admin" not in names and (wanted or with_oplog) and not left_out:
        names = (*names, "admin")
    rights = probe.rights(connection)
    all_readable = rights is None or rights.all_collections("find")
    held = {name: probe.collections(connection, name, readable=all_readable) for name in names}
    return replace(found, databases=names, collections=held, readable_users=readable and "admin" in names)


def _database_of(index: str) -> str:
    """Of `index of database.collection`."""
    return index.rpartition(" of ")[2].partition(".")[0]
