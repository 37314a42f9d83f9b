"""The target of a restore: what stands in the way."""

from collections.abc import Iterator, Sequence

from penstock.api import (
    RestorePlan,
    RestoreStep,
    RestoreTarget,
    SourceDenied,
    StopToken,
    StreamSpec,
    TargetMissing,
    TargetNotEmpty,
    UsageError,
)
from penstock.api.servers import check_destinations, listed
from penstock_mysql.attributes import DatabaseAttributes, check_attributes
from penstock_mysql.client import client_for_restore, find_clients
from penstock_mysql.connection import Connection, connect, rows, translated
from penstock_mysql.dialect import DIALECTS, server_version
from penstock_mysql.foresight import foresee
from penstock_mysql.options import RestoreOptions, check_name
from penstock_mysql.placing import NEEDED, Placement, database_exists, place
from penstock_mysql.privileges import Privileges, granted
from penstock_mysql.probe import collations_of
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.storing import check_storing
from penstock_mysql.survey import DATABASE

__all__ = ["MayNotReplace", "may_make_accounts", "plan_restore", "target_name"]

_STEPS = {
    "make": "make the database {} and fill its tables",
    "beside": "fill the tables of {} beside it, and put them in its place when all are whole",
    "replace": "drop the database {}, make it anew and fill its tables",
    "into": "fill the tables of the empty database {}",
}


class MayNotReplace(SourceDenied):
    """A database is in the way that the account cannot load another beside."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the account may not make a database beside {name}, to replace it when the new one is whole",
            hint=f"Grant it the same privileges on `{name}~%`.*, or let the old database be dropped before the new one "
            "is loaded, with beside=no.",
        )


def target_name(settings: MySQLSettings, spec: StreamSpec, options: RestoreOptions) -> str:
    """The name that a database gets: by the option rename, by the settings if they name one, or its own.

    Raises `UsageError` for one that no restore may write to.
    """
    recorded = spec.attributes["database"]
    name = options.rename.get(recorded) or settings.database or recorded
    check_name(name)
    return name


def may_make_accounts(allowed: Privileges) -> bool:
    """Whether the account may make others and give them privileges."""
    return allowed.anywhere("CREATE USER") and allowed.anywhere("INSERT")


def plan_restore(
    settings: MySQLSettings, streams: Sequence[StreamSpec], target: RestoreTarget, stop: StopToken
) -> RestorePlan:
    """What `Source.plan_restore` promises, for the streams of one dump."""
    options = RestoreOptions.of(target)
    for spec in streams:
        check_attributes(spec)
    databases = [spec for spec in streams if spec.format == DATABASE]
    names = {spec.attributes["database"]: target_name(settings, spec, options) for spec in databases}
    check_destinations(names, options.rename)
    with connect(settings) as connection, translated(f"cannot look at {settings.location}"):
        allowed = granted(connection)
        _check_writable(connection, allowed, settings)
        steps: list[RestoreStep] = []
        placed: dict[str, Placement] = {}
        clients = find_clients("restore", settings.client_path, stop) if databases else []
        for spec in streams:
            _check_server(connection, spec, options)
            if spec.format != DATABASE:
                if options.accounts == "yes" and not may_make_accounts(allowed):
                    raise SourceDenied(
                        f"the account {connection.user} may not make accounts",
                        hint="Restore as an administrator, or with accounts=no.",
                    )
                continue
            client_for_restore(connection.version, clients, server_version(spec.attributes["server_version"]))
            name = target_name(settings, spec, options)
            _check_collations(connection, spec)
            if missing := allowed.missing(name, *NEEDED):
                raise SourceDenied(
                    f"the account {connection.user} lacks privileges to restore {name}: {', '.join(missing)}",
                    hint="Restore as an administrator, or grant it all of them on the database.",
                )
            if not database_exists(connection, name):
                if options.create == "no":
                    raise TargetMissing(
                        f"the server has no database {name}",
                        hint="Create it, or let the restore do it with create=yes.",
                    )
            elif not target.clean:
                _check_empty(connection, name)
            one = place(connection, allowed, name, options, clean=target.clean)
            if one is None:
                raise MayNotReplace(name)
            steps.append(RestoreStep(_STEPS[one.how].format(name), spec.name))
            placed[spec.attributes["database"]] = one
        recorded = {spec.attributes["database"]: (spec, names[spec.attributes["database"]]) for spec in databases}
        accounts = [spec for spec in streams if spec.format != DATABASE]
        found = foresee(connection, allowed, recorded, accounts, options)
        beside = {name for name, one in placed.items() if one.how == "beside"}
        attributes = [DatabaseAttributes.of(spec) for spec in databases]
        found.needs += check_storing(connection, allowed, attributes, options, beside=beside)
    steps += _last_steps(databases, accounts if options.accounts != "no" else [])
    return RestorePlan(
        tuple(streams), target, tuple(steps), tuple(found.left_out), tuple(found.needs), tuple(found.warnings)
    )


def _last_steps(databases: Sequence[StreamSpec], accounts: Sequence[StreamSpec]) -> Iterator[RestoreStep]:
    for spec in accounts:
        yield RestoreStep("make the accounts that the server lacks", spec.name)
    if databases:
        yield RestoreStep("make routines, views, triggers and events")
    for spec in accounts:
        yield RestoreStep("give the new accounts their grants", spec.name)


def _check_writable(connection: Connection, allowed: Privileges, settings: MySQLSettings) -> None:
    strict = "0" if connection.is_mariadb else "@@GLOBAL.super_read_only"
    ((read_only, super_read_only),) = rows(connection, f"SELECT @@GLOBAL.read_only, {strict}")
    # MariaDB's newer versions have words for it.
    is_on = str(read_only).upper() not in ("0", "OFF")
    exempt = allowed.anywhere("SUPER", "CONNECTION_ADMIN", "READ_ONLY ADMIN", "READ ONLY ADMIN", "ALL PRIVILEGES")
    if int(super_read_only) or (is_on and not exempt):
        raise SourceDenied(f"{settings.location} is read-only: a replica, perhaps", hint="Restore into its primary.")


def _check_server(connection: Connection, spec: StreamSpec, options: RestoreOptions) -> None:
    dumped, server = server_version(spec.attributes["server_version"]), connection.version
    if dumped.vendor != server.vendor:
        what = f"{spec.name} was dumped from {dumped}, and the target is {server}"
        if spec.format != DATABASE:
            if options.accounts != "no":
                raise UsageError(
                    f"{what}: accounts of the one mean nothing to the other", hint="Restore with accounts=no."
                )
        elif options.other_engine == "no":
            raise UsageError(
                f"{what}: their SQL is not the same",
                hint=f"Restore into {DIALECTS[dumped.vendor].title}, or try it with the option other_engine=yes.",
            )
    elif server.series < dumped.series and options.older_server == "no":
        raise UsageError(
            f"{spec.name} was dumped from {dumped}, and the target is {server}: an older server may not understand it",
            hint="Restore into a server that is as new, or try it with the option older_server=yes.",
        )


def _check_collations(connection: Connection, spec: StreamSpec) -> None:
    names = DatabaseAttributes.of(spec).needed_collations
    known = collations_of(connection)
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(
            f"{connection.version} does not have {listed(missing, 'collation', 'collations')}, which {spec.name} needs",
            hint="Restore into the engine and version that was dumped, or a newer one.",
        )


def _check_empty(connection: Connection, name: str) -> None:
    found = []
    for one, many, table, schema, column in (
        ("table or view", "tables and views", "TABLES", "TABLE_SCHEMA", "TABLE_NAME"),
        ("routine", "routines", "ROUTINES", "ROUTINE_SCHEMA", "ROUTINE_NAME"),
        ("event", "events", "EVENTS", "EVENT_SCHEMA", "EVENT_NAME"),
    ):
        query = f"SELECT COUNT(*), MIN({column}) FROM information_schema.{table} WHERE {schema} = %s"  # noqa: S608
        ((count, first),) = rows(connection, query, [name])
        if count:
            found.append(f"{count} {one if count == 1 else many} (such as {first})")
    if found:
        raise TargetNotEmpty(
            f"the database {name} is not empty: it holds {', '.join(found)}",
            hint="Restore under another name with rename, or allow the database to be dropped first (--clean).",
        )
