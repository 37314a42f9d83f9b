"""The target of a restore: what stands in the way."""

from collections.abc import Iterator, Sequence

from penstock.api import (
    ClientTooOld,
    Need,
    RestorePlan,
    RestoreStep,
    RestoreTarget,
    SourceDenied,
    StopToken,
    StreamSpec,
    TargetNotEmpty,
    UsageError,
)
from penstock.api.servers import check_destinations
from penstock_mongodb.attributes import ArchiveAttributes, check_attributes
from penstock_mongodb.client import Client, find_client, version_of
from penstock_mongodb.connection import Connection, connect, translated
from penstock_mongodb.foresight import Incoming, foresee
from penstock_mongodb.options import RestoreOptions
from penstock_mongodb.probe import Deployment, Rights, look, rights
from penstock_mongodb.settings import MongoSettings

__all__ = [
    "broken_names",
    "plan_restore",
    "renames_of",
    "replays",
    "target_databases",
    "user_collections",
]


def plan_restore(
    settings: MongoSettings, streams: Sequence[StreamSpec], target: RestoreTarget, stop: StopToken
) -> RestorePlan:
    """What `Source.plan_restore` promises, for the streams of one dump."""
    options = RestoreOptions.of(target)
    for spec in streams:
        check_attributes(spec)
    client = find_client("mongorestore", settings.client_path, stop)
    doing = f"cannot look at {settings.location}"
    _check_destinations(settings, streams, options)
    steps: list[RestoreStep] = []
    needs: list[Need] = []
    incoming: list[Incoming] = []
    with connect(settings) as connection, translated(doing, settings):
        deployment = look(connection)
        if not deployment.writable and deployment.topology != "sharded cluster":
            raise SourceDenied(
                f"{settings.location} is a secondary, which takes no writes", hint="Restore into the primary."
            )
        held = rights(connection)
        for spec in streams:
            needs += _versions(spec, client, deployment, options)
            if spec.attributes["oplog"] == "yes":
                needs += _check_replay(spec, deployment, options, held)
            _check_names(settings, spec, options)
            names = target_databases(settings, spec, options)
            if not target.clean:
                _check_empty(connection, names)
            replayed = replays(spec, options)
            steps += _steps(connection, spec, names, replayed)
            renames = {} if replayed else renames_of(settings, spec, options)
            incoming.append(Incoming(spec, ArchiveAttributes.of(spec), renames, names, replayed))
        foreseen = foresee(connection, deployment, held, incoming, options)
    if steps:
        steps += foreseen.steps
        steps.append(RestoreStep("make the indexes, each by itself where the target refuses several"))
    if held is not None and streams:
        needs.append(_restores(held))
    left_out = tuple(foreseen.left_out)
    return RestorePlan(tuple(streams), target, tuple(steps), left_out, _once([*needs, *foreseen.needs]))


def replays(spec: StreamSpec, options: RestoreOptions) -> bool:
    """Whether the archive is brought to its one point in time."""
    return spec.attributes["oplog"] == "yes" and options.replay == "yes"


def target_databases(settings: MongoSettings, spec: StreamSpec, options: RestoreOptions) -> list[str]:
    """The databases that the restore of a stream writes to, under their new names."""
    found: set[str] = set()
    renames = renames_of(settings, spec, options)
    for name in ArchiveAttributes.of(spec).databases:
        if not options.databases or name in options.databases:
            found.add(renames.get(name, name))
            found |= {new.partition(".")[0] for old, new in renames.items() if old.startswith(f"{name}.")}
    return sorted(found)


def broken_names(spec: StreamSpec, options: RestoreOptions) -> list[str]:
    """The collections to restore that have a line break in their name, as `database.collection`."""
    names = ArchiveAttributes.of(spec).broken_names
    return [name for name in names if not options.databases or name.partition(".")[0] in options.databases]


def renames_of(settings: MongoSettings, spec: StreamSpec, options: RestoreOptions) -> dict[str, str]:
    """From what to what: the option has the first word, then the database that the target's settings name."""
    renames = dict(options.rename)
    if settings.database and spec.attributes["oplog"] == "no":
        renames.setdefault(spec.attributes["database"], settings.database)
    return {old: new for old, new in renames.items() if old != new}


def user_collections(connection: Connection, database: str) -> list[str]:
    """The names of what somebody made in a database: collections, views, stored functions."""
    names = [str(name) for name in connection[database].list_collection_names()]
    return sorted(name for name in names if name == "system.js" or not name.startswith("system."))


def _check_destinations(settings: MongoSettings, streams: Sequence[StreamSpec], options: RestoreOptions) -> None:
    destinations: dict[str, str | None] = {}
    for spec in streams:
        recorded = spec.attributes.get("database")
        if settings.database not in (None, recorded) and (recorded is None or "admin" in (recorded, settings.database)):
            raise UsageError(
                f"{spec.name} cannot be restored into the one database {settings.database}",
                hint="Leave the database out of the target's URL; the one that holds the user is its authSource.",
            )
        renames = renames_of(settings, spec, options)
        names = ArchiveAttributes.of(spec).databases
        destinations |= {name: renames.get(name, name) for name in names if name in (options.databases or names)}
    check_destinations(destinations, {old.partition(".")[0]: new for old, new in options.rename.items()})


def _versions(spec: StreamSpec, client: Client, deployment: Deployment, options: RestoreOptions) -> Iterator[Need]:
    wrote, served = spec.attributes["client_version"], spec.attributes["server_version"]
    known = version_of(client.version) >= version_of(wrote)
    if not known and options.older_client == "no":
        raise ClientTooOld(
            f"{spec.name} was written by mongodump {wrote}, and the mongorestore here is {client.version}",
            hint="Install newer Database Tools, or try it with the option older_client=yes.",
        )
    yield Need("client program", f"mongorestore {wrote}", known, f"here it is {client.version}")
    known = version_of(deployment.version) >= version_of(served)
    if not known and options.older_server == "no":
        raise UsageError(
            f"{spec.name} was dumped from MongoDB {served}, and the target is {deployment.version}: an older server "
            "may not understand it",
            hint="Restore into a server that is as new, or try it with the option older_server=yes.",
        )
    yield Need("server", f"MongoDB {served}", known, f"the target is {deployment.version}")


def _steps(connection: Connection, spec: StreamSpec, names: Sequence[str], replayed: bool) -> Iterator[RestoreStep]:
    for name in names:
        held = len(user_collections(connection, name))
        if name == "admin":
            yield RestoreStep("add users and roles that are not there", spec.name)
            if held:
                yield RestoreStep("drop what somebody made in the database admin, and fill it", spec.name)
            continue
        old = (
            f"drop the database {name}, which holds {_collections(held)}, and"
            if held
            else f"make the database {name} and"
        )
        yield RestoreStep(f"{old} fill it", spec.name)
    if names and replayed:
        yield RestoreStep("replay the oplog of the time that the dump took", spec.name)


def _once(needs: Sequence[Need]) -> tuple[Need, ...]:
    return tuple(dict.fromkeys(needs))


def _restores(held: Rights) -> Need:
    if held.all_collections("insert", "createCollection", "createIndex", "dropCollection"):
        return Need("role", "restore")
    note = "the user has no such rights in all databases; a role in the restored ones alone may do"
    return Need("role", "restore", None, note)


def _check_names(settings: MongoSettings, spec: StreamSpec, options: RestoreOptions) -> None:
    """A pattern of mongorestore fits no line break: it passes over such collections without a word, and ends well."""
    for name in broken_names(spec, options):
        if spec.attributes["oplog"] == "yes" and options.replay == "yes":
            raise UsageError(
                f"{spec.name} holds {name!r}: mongorestore would pass over a name with a line break",
                hint="Restore what was read, and not at one point in time, with the option replay=no.",
            )
        if renames_of(settings, spec, options).keys() & {name, name.partition(".")[0]}:
            raise UsageError(
                f"{spec.name} holds {name!r}: mongorestore cannot rename what has a line break in its name",
                hint="Restore it under its own name, into another server if need be, and rename it there.",
            )


def _check_replay(
    spec: StreamSpec, deployment: Deployment, options: RestoreOptions, held: Rights | None
) -> tuple[Need, ...]:
    if options.replay == "no":
        return ()
    for name in ("databases", "rename"):
        if getattr(options, name):
            raise UsageError(
                f"{spec.name} is brought to one point in time by its oplog, which knows no option {name}",
                hint="Restore all of it; or, as it was read and not at one point in time, with the option replay=no.",
            )
    if options.accounts == "no":
        raise UsageError(
            f"{spec.name} has users and roles in its oplog, too: they cannot be left out",
            hint="Restore them, or give up the point in time with the option replay=no.",
        )
    if deployment.topology == "sharded cluster":
        raise UsageError(
            "a sharded cluster takes no oplog", hint="Give up the point in time with the option replay=no."
        )
    if held is None:
        return ()
    allowed = held.cluster
    # Before 5.0 there is no such action: each thing that the oplog does is judged by itself.
    version = version_of(deployment.version)
    action = "applyOps" if version >= (5, 0) else "useUUID"
    if not allowed & {action, "anyAction"}:
        roles = "the roles restore and dbAdminAnyDatabase" if version == (5, 0) else "the role restore"
        raise SourceDenied(
            f"the user may not replay an oplog ({action})",
            hint=f"Grant {roles} in the database admin, and for users and roles that were changed during the dump a "
            "role with anyAction on anyResource; or give up the point in time with the option replay=no.",
        )
    whole = "anyAction" in held.collections or None
    note = "asked for where users or roles changed during the dump"
    return Need("privilege", action), Need("privilege", "anyAction on anyResource", whole, note)


def _check_empty(connection: Connection, names: Sequence[str]) -> None:
    for name in names:
        if found := user_collections(connection, name):
            raise TargetNotEmpty(
                f"the database {name} is not empty: it holds {_collections(len(found))}, such as {found[0]}",
                hint="Restore under another name with rename, into another deployment, or allow what is in the way to "
                "be dropped first (--clean).",
            )


def _collections(count: int) -> str:
    return "1 collection or view" if count == 1 else f"{count} collections and views"
