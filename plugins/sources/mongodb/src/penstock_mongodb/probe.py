"""What a deployment is and holds: topology, databases, collections, sizes, and whether this user may read them."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from penstock.api import InventoryItem, SourceDenied
from penstock.api.servers import choose_databases
from penstock_mongodb.client import newest_server, version_of
from penstock_mongodb.connection import Connection
from penstock_mongodb.settings import MongoSettings

__all__ = ["SYSTEM_DATABASES", "Deployment", "databases", "inventory", "look", "step_past_oplog_end", "warnings"]

#: Of these, `admin` alone holds something to keep: users, roles, and what somebody put there.
SYSTEM_DATABASES = frozenset({"admin", "config", "local"})
_NEVER = frozenset({"config", "local"})
_BUCKETS = "system.buckets."


@dataclass(frozen=True, slots=True)
class Deployment:
    """What answered: `topology` is "standalone", "replica set" or "sharded cluster"."""

    topology: str
    version: str
    writable: bool
    databases: tuple[str, ...] = ()
    #: The collections of each database that is to be dumped, as `listCollections` tells of them.
    collections: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    readable_users: bool = False

    @property
    def has_oplog(self) -> bool:
        """Whether it can be dumped at one point in time."""
        return self.topology == "replica set"

    @property
    def broken_names(self) -> list[str]:
        """The collections with a line break in their name: mongorestore takes them only if they are named to it."""
        names = (f"{name}.{one['name']}" for name, found in self.collections.items() for one in found)
        return [name for name in names if "\n" in name]


def look(connection: Connection) -> Deployment:
    """The deployment itself, without what it holds."""
    told = connection.admin.command("hello", read_preference=connection.read_preference)
    sharded = told.get("msg") == "isdbgrid"
    topology = "sharded cluster" if sharded else "replica set" if "setName" in told else "standalone"
    version = connection.admin.command("buildInfo", read_preference=connection.read_preference)["version"]
    return Deployment(topology, str(version), bool(told.get("isWritablePrimary", told.get("ismaster"))))


def databases(connection: Connection, settings: MongoSettings) -> tuple[str, ...]:
    """The names of the databases to dump, without the system's own.

    Raises `SourceDenied` when the user may not see all of them, unless they are named in the settings, and
    `SourceError` when one of those is missing.
    """
    command = {
        "listDatabases": 1,
        "nameOnly": True,
        "authorizedDatabases": bool(settings.database or settings.databases),
    }
    try:
        # Without this word a user without the privilege is told of some databases, as if there were no others.
        told = connection.admin.command(command, read_preference=connection.read_preference)
    except OperationFailure as error:
        if error.code != 13:
            raise
        raise SourceDenied(
            f"the user {settings.user} may not list all databases",
            hint="Grant the role backup in the database admin, or name the databases in the settings.",
        ) from None
    found = [str(entry["name"]) for entry in told["databases"]]
    if not settings.chosen and SYSTEM_DATABASES.issuperset(found):
        return ()  # it may hold users and roles alone
    return tuple(name for name in choose_databases(found, settings, special=SYSTEM_DATABASES) if name not in _NEVER)


def collections(connection: Connection, name: str) -> list[dict[str, Any]]:
    """What `listCollections` tells of a database, after one document of each collection was asked for."""
    database = connection[name]
    found = sorted((dict(one) for one in database.list_collections()), key=lambda one: str(one["name"]))
    for one in found:
        if one["type"] == "collection" and not str(one["name"]).startswith("system."):
            _command(database, "find", one["name"], limit=1, singleBatch=True, projection={"_id": 1})
    return found


def may_read_users(connection: Connection) -> bool:
    """Whether the user may dump users and roles."""
    try:
        connection.admin["system.users"].find_one({}, {"_id": 1})
        connection.admin["system.roles"].find_one({}, {"_id": 1})
    except OperationFailure as error:
        if error.code != 13:
            raise
        return False
    return True


def check_oplog(connection: Connection) -> None:
    """Raises `SourceDenied` where the user may not read the oplog."""
    try:
        connection.local["oplog.rs"].find_one({}, {"ts": 1})
    except OperationFailure as error:
        if error.code != 13:
            raise
        raise SourceDenied(
            "the user may not read the oplog, without which there is no point in time",
            hint="Grant the role backup in the database admin, or dump with oplog = no.",
        ) from None


def step_past_oplog_end(connection: Connection) -> None:
    """Let something harmless be the newest entry of the oplog, where it is none yet.

    mongodump begins with the newest entry, and fails if that is a rename; one that changed a user asks for more rights
    at the restore. The role `backup` may write such a note; without that right the dump is tried as it is.
    """
    with suppress(OperationFailure):
        newest = connection.local["oplog.rs"].find_one(sort=[("$natural", -1)], projection={"op": 1, "ns": 1})
        if newest and (newest["op"] == "c" or str(newest["ns"]).startswith("admin.")):
            connection.admin.command("appendOplogNote", data={"penstock": "a dump begins"})


def inventory(connection: Connection, deployment: Deployment, counts: str) -> Iterator[InventoryItem]:
    """Every collection and view of the databases to dump, and how many users and roles there are."""
    for name, found in deployment.collections.items():
        database = connection[name]
        for one in found:
            collection = str(one["name"])
            kind = _kind(one)
            if kind is None:
                continue
            stored = _BUCKETS + collection if kind == "time-series collection" else collection
            rows = size = None
            if kind != "view":
                size = _size(database, stored)
                if counts == "exact":
                    rows = _count(database, collection)
                elif counts == "estimate" and stored == collection:
                    rows = int(_command(database, "count", collection)["n"])
            yield InventoryItem(kind, f"{name}.{collection}", rows, size, exact=rows is not None and counts == "exact")
    if deployment.readable_users:
        for kind in ("users", "roles"):
            rows = connection.admin[f"system.{kind}"].estimated_document_count()
            yield InventoryItem(kind, f"admin.system.{kind}", rows)


def warnings(deployment: Deployment, client_version: str, settings: MongoSettings) -> Iterator[str]:
    """What prevents no dump, but should be known."""
    if newest_server(client_version) < version_of(deployment.version):
        major, minor = newest_server(client_version)
        yield (
            f"the server is MongoDB {deployment.version}, but mongodump {client_version} was made for {major}.{minor} "
            "and older ones: install newer Database Tools"
        )
    if version_of(deployment.version) < (4, 2):
        yield f"MongoDB {deployment.version} is older than what the Database Tools support"
    if deployment.topology == "sharded cluster":
        yield "this is a sharded cluster: what is moved or written during the dump may be missing, or be there twice"
    if deployment.has_oplog and settings.oplog == "auto" and settings.chosen:
        yield "a choice of databases is dumped without the oplog, and not at one point in time"
    for name in deployment.broken_names:
        yield f"{name!r} has a line break in its name: mongorestore brings it back with the option replay=no alone"


def _kind(one: dict[str, Any]) -> str | None:
    if str(one["name"]).startswith("system."):
        return "stored functions" if one["name"] == "system.js" else None
    if one["type"] == "timeseries":
        return "time-series collection"
    if one["type"] == "view":
        return "view"
    options = one.get("options", {})
    return "capped collection" if options.get("capped") else "collection"


def _size(database: Database[dict[str, Any]], collection: str) -> int | None:
    with suppress(OperationFailure):  # a privilege of its own, and an estimate is worth no failure
        return int(_command(database, "collStats", collection)["size"])
    return None


def _count(database: Database[dict[str, Any]], collection: str) -> int:
    pipeline = [{"$group": {"_id": None, "n": {"$sum": 1}}}]
    answer = _command(database, "aggregate", collection, pipeline=pipeline, cursor={})["cursor"]["firstBatch"]
    return int(answer[0]["n"]) if answer else 0


def _command(database: Database[dict[str, Any]], word: str, collection: str, **more: Any) -> dict[str, Any]:
    """A plain command: the driver's own methods refuse names that older servers took, such as `a$b`."""
    return dict(database.command(word, collection, read_preference=database.read_preference, **more))
