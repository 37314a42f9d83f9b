"""What a restore's target would do with what a dump records: asked before anything is changed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bson import json_util
from pymongo.errors import OperationFailure

from penstock.api import LeftOut, Need, RestoreStep, SourceDenied, StreamSpec, UsageError
from penstock.api.servers import listed
from penstock_mongodb.attributes import ArchiveAttributes
from penstock_mongodb.client import version_of
from penstock_mongodb.commands import repeated
from penstock_mongodb.connection import Connection
from penstock_mongodb.features import Feature, missing
from penstock_mongodb.naming import name_in_target, option_name
from penstock_mongodb.options import RestoreOptions
from penstock_mongodb.probe import Deployment, Rights

__all__ = ["ACCOUNTS", "Foreseen", "Incoming", "foresee"]

#: What is left out as a whole where the user may make no users and roles.
ACCOUNTS = "users and roles"
_MAKES_ACCOUNTS = ("createRole", "createUser", "dropRole", "dropUser", "grantRole", "revokeRole")


@dataclass(frozen=True, slots=True)
class Incoming:
    """One stream, as this restore takes it: where databases and collections go, and whether the oplog is replayed."""

    spec: StreamSpec
    recorded: ArchiveAttributes
    renames: Mapping[str, str]
    #: The databases in the target.
    names: Sequence[str]
    replayed: bool


@dataclass(slots=True)
class Foreseen:
    """Parts of a `RestorePlan`."""

    left_out: list[LeftOut] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    steps: list[RestoreStep] = field(default_factory=list)


def foresee(
    connection: Connection,
    deployment: Deployment,
    held: Rights | None,
    incoming: Sequence[Incoming],
    options: RestoreOptions,
) -> Foreseen:
    """What will be left out or is needed.

    Raises `UsageError` or `SourceDenied` for what would break the replay of an oplog, with the way out.
    """
    found = Foreseen()
    version = min(version_of(deployment.version), _compatibility(connection) or version_of(deployment.version))
    for one in incoming:
        _check_features(one, version, options, found)
        _check_accounts(one, held, options, found)
        for name in one.recorded.old_indexes:
            if not options.databases or name.rpartition(" of ")[2].partition(".")[0] in options.databases:
                step = f"convert the index {name}, which only servers before 3.4 took"
                found.steps.append(RestoreStep(step, one.spec.name))
    found.needs += _space(connection, incoming)
    return found


def _compatibility(connection: Connection) -> tuple[int, int] | None:
    """The version whose features the server is set to; None if the user may not ask."""
    with suppress(OperationFailure):
        told = connection.admin.command("getParameter", 1, featureCompatibilityVersion=1)
        return version_of(str(told["featureCompatibilityVersion"]["version"]))
    return None


def _check_features(one: Incoming, version: tuple[int, int], options: RestoreOptions, found: Foreseen) -> None:
    lacking: dict[Feature, list[str]] = {}
    for database, collections in one.recorded.features.items():
        if options.databases and database not in options.databases:
            continue
        for collection, recorded in collections.items():
            for feature in missing(recorded, version):
                lacking.setdefault(feature, []).append(f"{database}.{collection}")
                found.left_out.append(_without(one, database, collection, recorded, feature))
    for feature, names in lacking.items():
        since = ".".join(map(str, feature.since))
        here = ".".join(map(str, version))
        what = f"{feature.option} of {listed(names, 'collection', 'collections')}"
        if feature.essential and one.replayed:
            raise UsageError(
                f"{one.spec.name} needs MongoDB {since}, and the target has the features of {here}: {what}",
                hint="Raise the target's featureCompatibilityVersion, restore into a newer server, or leave out what "
                "it does not take, and the changes during the dump, with the option replay=no.",
            )
        found.needs.append(
            Need("features", f"MongoDB {since}", False, f"the target has those of {here}; left out: {what}")
        )


def _without(one: Incoming, database: str, collection: str, recorded: Mapping[str, Any], feature: Feature) -> LeftOut:
    new, name = name_in_target(database, collection, one.renames)
    reason = f"MongoDB has it since {'.'.join(map(str, feature.since))}, and the target is set to an older version"
    given = json_util.loads(json.dumps(recorded))
    statement = repeated(new, {"create": name, **given})
    if feature.essential:
        return LeftOut("time-series collection", name, reason, statement=statement, database=new)
    return LeftOut("option", option_name([feature.option], name), reason, statement=statement, database=new)


def _check_accounts(one: Incoming, held: Rights | None, options: RestoreOptions, found: Foreseen) -> None:
    if held is None or "admin" not in one.names or options.accounts == "no":
        return
    may = held.all_collections(*_MAKES_ACCOUNTS) and bool(held.cluster & {"getParameter", "anyAction"})
    if may:
        return
    if one.replayed:
        raise SourceDenied(
            f"the user may not make users and roles, which {one.spec.name} holds",
            hint="Grant the role restore in the database admin; or leave them out, and the changes during the dump, "
            "with the option replay=no.",
        )
    found.needs.append(Need("role", "restore", False, "users and roles are left out"))
    found.left_out.append(LeftOut("accounts", ACCOUNTS, "the user may not make any", database="admin"))


def _space(connection: Connection, incoming: Sequence[Incoming]) -> Iterator[Need]:
    """Whether what the databases took on the disk of their server has room on the target's."""
    wanted = sum(one.recorded.stored for one in incoming)
    if not wanted:
        return
    name = f"{wanted} bytes"
    for database in dict.fromkeys(name for one in incoming for name in one.names):
        with suppress(OperationFailure):
            told = connection[database].command("dbStats")
            if "fsTotalSize" in told:
                free = int(told["fsTotalSize"]) - int(told["fsUsedSize"])
                freed = sum(_taken(connection, name) for one in incoming for name in one.names)
                # What is free changes all the time: it is said only where it is too little.
                met = free + freed >= wanted
                yield Need("free space", name, met, "" if met else f"{free + freed} bytes are free")
                return
    yield Need("free space", name, None, "the server does not tell the user what is free")


def _taken(connection: Connection, database: str) -> int:
    """What goes when the database is dropped; there is none, unless a clean restore drops it."""
    told = connection[database].command("dbStats")
    return int(told["storageSize"]) + int(told["indexSize"])
