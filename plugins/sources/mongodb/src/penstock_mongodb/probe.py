"""What a deployment is and holds: topology, databases, collections, sizes, and whether this user may read them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from penstock.api import InventoryItem, SourceDenied
from penstock.api.servers import choose_databases
from penstock_mongodb.building import is_old
from penstock_mongodb.connection import Connection
from penstock_mongodb.settings import MongoSettings

__all__ = [
    "SYSTEM_DATABASES",
    "Deployment",
    "DatabaseSize",
    "Rights",
    "database_sizes",
    "databases",
    "inventory",
    "look",
    "old_indexes",
    "rights",
    "step_past_oplog_end",
]

#: Of these, `admin` alone holds something to keep: users, roles, and what somebody put there.
SYSTEM_DATABASES = frozenset({"admin", "config", "local"})
_NEVER = frozenset({"config", "local"})
MAX_MEASURED = 300
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
    #: Those that newer servers do not take, as `index of database.collection`.
    old_indexes: tuple[str, ...] = ()

    @property
    def has_oplog(self) -> bool:
        """Whether it can be dumped at one point in time."""
        return self.topology == "replica set"

    @property
    def measured(self) -> bool:
        """Whether there are few enough collections to ask for the size of each."""
        return sum(map(len, self.collections.values())) <= MAX_MEASURED

    @property
    def broken_names(self) -> list[str]:
        """The collections with a line break in their name: mongorestore takes them only if they are named to it."""
        names = (f"{name}.{one['name']}" for name, found in self.collections.items() for one in found)
        return [name for name in names if "\n" in name]


@dataclass(frozen=True, slots=True)
class DatabaseSize:
    """Bytes of its documents, and bytes that they and their indexes take on the disk."""

    data: int
    stored: int


@dataclass(frozen=True, slots=True)
class Rights:
    """The actions that a user may take on the cluster, and on the collections of all databases."""

    cluster: frozenset[str]
    collections: frozenset[str]

    def all_collections(self, *actions: str) -> bool:
        """Whether these may be taken on whatever collection."""
        return "anyAction" in self.collections or self.collections.issuperset(actions)


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


def rights(connection: Connection) -> Rights | None:
    """What the user may do; None where the server asks for no login."""
    told = connection.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
    if not told["authenticatedUsers"]:
        return None
    cluster: set[str] = set()
    collections: set[str] = set()
    for privilege in told["authenticatedUserPrivileges"]:
        resource, actions = privilege["resource"], set(privilege["actions"])
        if resource in ({"cluster": True}, {"anyResource": True}):
            cluster |= actions
        if resource in ({"db": "", "collection": ""}, {"anyResource": True}):
            collections |= actions
    return Rights(frozenset(cluster), frozenset(collections))


def collections(connection: Connection, name: str, *, readable: bool) -> list[dict[str, Any]]:
    """What `listCollections` tells of a database.

    Unless all are known to be readable, one document of each is asked for: what may not be read is found before the
    dump.
    """
    database = connection[name]
    found = sorted((dict(one) for one in database.list_collections()), key=lambda one: str(one["name"]))
    for one in () if readable else found:
        if one["type"] == "collection" and not str(one["name"]).startswith("system."):
            _command(database, "find", one["name"], limit=1, singleBatch=True, projection={"_id": 1})
    return found


def old_indexes(connection: Connection, found: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The indexes that newer servers do not take, where the user may list them."""
    for name, collections_found in found.items():
        for one in collections_found:
            if one["type"] != "collection" or str(one["name"]).startswith("system."):
                continue
            with suppress(OperationFailure):
                told = _command(connection[name], "listIndexes", str(one["name"]))["cursor"]["firstBatch"]
                yield from (f"{spec['name']} of {name}.{one['name']}" for spec in told if is_old(spec))


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
    """Every collection and view of the databases to dump, and how many users and roles there are.

    A server takes ten times as long for a collection's size as for its number of documents: where there are more than
    `MAX_MEASURED`, none is measured, or the look would take as long as the dump. `database_sizes` knows how much it is.
    """
    measured = deployment.measured
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
                size, estimate = _statistics(database, stored) if measured else (None, None)
                if counts == "exact":
                    rows = _count(database, collection)
                elif counts == "estimate" and stored == collection:
                    rows = int(_command(database, "count", collection)["n"]) if estimate is None else estimate
            yield InventoryItem(kind, f"{name}.{collection}", rows, size, exact=rows is not None and counts == "exact")
    if deployment.readable_users:
        for kind in ("users", "roles"):
            rows = connection.admin[f"system.{kind}"].estimated_document_count()
            yield InventoryItem(kind, f"admin.system.{kind}", rows)


def database_sizes(connection: Connection, deployment: Deployment) -> dict[str, DatabaseSize]:
    """The size of each database to dump, where the user may know it."""
    found: dict[str, DatabaseSize] = {}
    for name in deployment.databases:
        with suppress(OperationFailure):
            told = connection[name].command("dbStats", read_preference=connection.read_preference)
            stored = int(told["storageSize"]) + int(told["indexSize"])
            found[name] = DatabaseSize(int(told["dataSize"]), stored)
    return found


def _kind(one: dict[str, Any]) -> str | None:
    if str(one["name"]).startswith("system."):
        return "stored functions" if one["name"] == "system.js" else None
    if one["type"] == "timeseries":
        return "time-series collection"
    if one["type"] == "view":
        return "view"
    options = one.get("options", {})
    return "capped collection" if options.get("capped") else "collection"


def _statistics(database: Database[dict[str, Any]], collection: str) -> tuple[int | None, int | None]:
    """Size in bytes and number of documents, by one question: a deployment may have thousands of collections."""
    with suppress(OperationFailure):  # a privilege of its own, and an estimate is worth no failure
        told = _command(database, "collStats", collection)
        return int(told["size"]), int(told["count"]) if "count" in told else None
    return None, None


def _count(database: Database[dict[str, Any]], collection: str) -> int:
    pipeline = [{"$group": {"_id": None, "n": {"$sum": 1}}}]
    answer = _command(database, "aggregate", collection, pipeline=pipeline, cursor={})["cursor"]["firstBatch"]
    return int(answer[0]["n"]) if answer else 0


def _command(database: Database[dict[str, Any]], word: str, collection: str, **more: Any) -> dict[str, Any]:
    """A plain command: the driver's own methods refuse names that older servers took, such as `a$b`."""
    return dict(database.command(word, collection, read_preference=database.read_preference, **more))
