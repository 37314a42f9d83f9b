"""The target of a restore: what stands in the way."""

import os
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from penstock.api import (
    RestorePlan,
    RestoreTarget,
    SourceDenied,
    SourceError,
    StopToken,
    StreamSpec,
    TargetMissing,
    TargetNotEmpty,
    UsageError,
)
from penstock.api.servers import check_destinations, listed
from penstock_postgres.attributes import ArchiveAttributes, check_attributes
from penstock_postgres.client import Client, client_for_restore, find_clients, major_of
from penstock_postgres.connection import Connection, connect_beside, rows, translated
from penstock_postgres.dumping import ACCOUNTS, DATABASES, PARTS
from penstock_postgres.elsewhere import Elsewhere
from penstock_postgres.findings import Findings
from penstock_postgres.options import RestoreOptions
from penstock_postgres.settings import PostgresSettings

__all__ = ["destination", "is_superuser", "obstacle_to_replacing", "plan_restore", "replaces"]


def plan_restore(
    settings: PostgresSettings, streams: Sequence[StreamSpec], target: RestoreTarget, stop: StopToken
) -> RestorePlan:
    """What `Source.plan_restore` promises, for the streams of one dump: every database is looked at."""
    options = RestoreOptions.of(target)
    for spec in streams:
        check_attributes(spec)
    archives = [spec for spec in streams if spec.format in DATABASES]
    _check_complete(streams, archives)
    destinations = {spec.attributes["database"]: destination(settings, spec, options) for spec in archives}
    check_destinations(destinations, options.rename)
    clients = find_clients("pg_restore", settings.client_path, stop) if archives else []
    findings = Findings()
    with Elsewhere(settings) as elsewhere:
        first = destination(settings, archives[0], options) if archives else None
        with elsewhere.look_at(first) as (there, _, _), translated(f"cannot look at {settings.location}"):
            coming = _look_at_server(there, settings, streams, options, findings)
        for spec in archives:
            with (
                elsewhere.look_at(destination(settings, spec, options)) as (connection, name, exists),
                translated(f"cannot look at {settings.location_of(name)}"),
            ):
                _check_versions(connection, spec, options, clients)
                made = not exists or (target.clean and replaces(settings, connection, spec, options))
                if "yes" in (options.owners, options.privileges, options.policies):
                    _check_roles(connection, spec, options, coming=coming, made=made)
                if not exists:
                    _check_creation(connection, name, options)
                elif not target.clean:
                    _check_empty(connection, spec)
                elif options.beside == "yes" and (obstacle := obstacle_to_replacing(settings, connection)):
                    raise SourceDenied(
                        f"the database {name} cannot be replaced: {obstacle}", hint="Restore with beside=no."
                    )
                elif not made:
                    _check_droppable(connection)
                findings.look_at(connection, spec, options, name, exists=exists, made=made)
    return RestorePlan(
        tuple(streams), target, tuple(findings.steps), needs=tuple(findings.needs), warnings=tuple(findings.warnings)
    )


def _check_complete(streams: Sequence[StreamSpec], archives: Sequence[StreamSpec]) -> None:
    """What is filled into a database comes with its schema."""
    known = {spec.attributes["database"] for spec in archives}
    for spec in streams:
        if spec.format in PARTS and spec.attributes["database"] not in known:
            raise UsageError(
                f"{spec.name} cannot be restored without the schema of {spec.attributes['database']}",
                hint="Restore all streams of the database, or print this one with penstock cat.",
            )


def _look_at_server(
    there: Connection,
    settings: PostgresSettings,
    streams: Sequence[StreamSpec],
    options: RestoreOptions,
    findings: Findings,
) -> bool:
    """Whether the restore makes the roles that the server lacks; raises `SourceDenied` where it may not."""
    if rows(there, "SELECT pg_catalog.pg_is_in_recovery()")[0][0]:
        raise SourceDenied(f"{settings.location} is a standby: it takes no writes", hint="Restore into its primary.")
    accounts = [spec for spec in streams if spec.format == ACCOUNTS]
    if options.accounts == "no" or not accounts:
        return False
    superuser = is_superuser(there)
    if superuser:
        findings.step("make the roles and tablespaces that the server lacks", accounts[0])
    elif options.accounts == "yes":
        raise SourceDenied(
            f"the role {there.info.user} may not restore roles and tablespaces: it is not a superuser",
            hint="Restore as a superuser, or with accounts=no.",
        )
    return superuser


def destination(settings: PostgresSettings, spec: StreamSpec, options: RestoreOptions) -> str | None:
    """The database that an archive is restored into: None is what libpq's own defaults name.

    The option `rename` has the first word. A target with one database takes one archive, whatever its name was; where
    it has several, or none is named, everything goes to where it came from.
    """
    recorded = spec.attributes["database"]
    if recorded in options.rename:
        return options.rename[recorded]
    if settings.databases:
        return recorded
    if settings.database or settings.service or os.environ.get("PGDATABASE") or os.environ.get("PGSERVICE"):
        return settings.database
    return recorded


def replaces(settings: PostgresSettings, connection: Connection, spec: StreamSpec, options: RestoreOptions) -> bool:
    """Whether a clean restore of the archive replaces the database at hand as a whole."""
    if options.beside == "auto" and "choice" in spec.attributes:
        return False  # what was not chosen would be lost
    return options.beside != "no" and not obstacle_to_replacing(settings, connection)


def is_superuser(connection: Connection) -> bool:
    """Whether the role that connected is a superuser."""
    superuser: bool = rows(connection, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user")[0][0]
    return superuser


def obstacle_to_replacing(settings: PostgresSettings, connection: Connection) -> str | None:
    """Why the database at hand cannot be replaced by another one, or None."""
    query = """
    SELECT d.datistemplate, r.rolsuper OR (r.rolcreatedb AND pg_catalog.pg_has_role(d.datdba, 'USAGE')),
        EXISTS (SELECT FROM pg_catalog.pg_subscription s WHERE s.subdbid = d.oid),
        EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.database = d.datname)
    FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
    WHERE d.datname = pg_catalog.current_database() AND r.rolname = session_user
    """
    ((template, allowed, subscription, slot),) = rows(connection, query)
    if not allowed:
        return f"the role {connection.info.user} may not create databases, or does not own this one"
    if template:
        return "it is a template"
    if subscription or slot:
        return "it has subscriptions" if subscription else "it has replication slots"
    try:
        connect_beside(settings, connection.info.dbname).close()
    except SourceError as error:
        return f"it can only be replaced from another database, and {error.message}"
    return None


def _check_versions(
    connection: Connection, spec: StreamSpec, options: RestoreOptions, clients: Sequence[Client]
) -> None:
    server = connection.info.parameter_status("server_version") or "unknown"
    dumped = spec.attributes["server_version"]
    client_for_restore(spec.attributes["client_version"], server, clients)
    if major_of(server) < major_of(dumped) and options.older_server == "no":
        raise UsageError(
            f"{spec.name} was dumped from PostgreSQL {dumped}, and the target is {server}: an older server may not "
            "understand it",
            hint="Restore into a server that is as new, or try it with the option older_server=yes.",
        )


def _check_roles(
    connection: Connection, spec: StreamSpec, options: RestoreOptions, *, coming: bool, made: bool
) -> None:
    attributes = ArchiveAttributes.of(spec)
    needed = set(attributes.policy_roles) if options.policies == "yes" else set()
    if options.owners == "yes" or options.privileges == "yes":
        needed |= attributes.needed_roles
    if made and options.properties == "yes":
        recorded = attributes.properties
        needed |= {role for role, _ in recorded.settings if role is not None}
        needed |= {role for role, _, _ in recorded.grants or () if role is not None}
        needed |= {recorded.owner} if options.owners == "yes" else set()
    query = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%(names)s)"
    missing = needed - {name for (name,) in rows(connection, query, {"names": sorted(needed)})}
    if missing and not coming:
        raise SourceDenied(
            f"{spec.name} needs roles that the server does not have: {', '.join(sorted(missing))}",
            hint="Restore the roles too, as a superuser; or make them; or leave owners, grants and policies out with "
            "the options owners=no, privileges=no and policies=no.",
        )


def _check_creation(connection: Connection, name: str, options: RestoreOptions) -> None:
    what = f"the server has no database {name}"
    if options.create == "no":
        raise TargetMissing(what, hint="Create it, or let the restore do it with create=yes.")
    query = "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user"
    if not rows(connection, query)[0][0]:
        raise TargetMissing(
            f"{what}, and the role {connection.info.user} may not create it",
            hint="Create it, or restore as a superuser.",
        )


def _check_droppable(connection: Connection) -> None:
    """Dropping a subscription drops its slot on the publisher, and cannot be undone with the rest."""
    query = """
    SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
    WHERE d.datname = pg_catalog.current_database() ORDER BY 1
    """
    if names := [name for (name,) in rows(connection, query)]:
        one = sql.Identifier(names[0]).as_string(None)
        raise SourceDenied(
            f"the database {connection.info.dbname} has {listed(names, 'subscription', 'subscriptions')}: a clean "
            "restore would have to drop what the publisher keeps for it",
            hint=f"Let go of each first: ALTER SUBSCRIPTION {one} DISABLE; ALTER SUBSCRIPTION {one} SET (slot_name = "
            f"NONE); DROP SUBSCRIPTION {one}; and drop the slot on the publisher if nobody needs it.",
        )


_IN_THE_WAY = """
WITH members AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),
found (one, many, classid, oid, name) AS (
    SELECT 'table, view or sequence', 'tables, views and sequences', 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid,
        n.nspname || '.' || c.relname
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND c.oid >= 16384
    UNION ALL
    SELECT 'type', 'types', 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, n.nspname || '.' || t.typname
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid >= 16384 AND t.typtype IN ('b', 'd', 'e', 'r', 'c') AND t.typelem = 0
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
    UNION ALL
    SELECT 'function', 'functions', 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, n.nspname || '.' || p.proname
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid >= 16384
    UNION ALL
    SELECT 'schema', 'schemas', 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, nspname
    FROM pg_catalog.pg_namespace WHERE oid >= 16384 AND nspname <> 'public' AND nspname !~ '^pg_'
    UNION ALL
    SELECT 'large object', 'large objects', 0, oid, oid::text FROM pg_catalog.pg_largeobject_metadata
    UNION ALL
    SELECT 'publication', 'publications', 'pg_catalog.pg_publication'::pg_catalog.regclass, oid, pubname
    FROM pg_catalog.pg_publication
    UNION ALL
    SELECT 'event trigger', 'event triggers', 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, oid, evtname
    FROM pg_catalog.pg_event_trigger
    UNION ALL
    SELECT 'foreign server', 'foreign servers', 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, oid, srvname
    FROM pg_catalog.pg_foreign_server
)
SELECT one, many, count(*), min(name::text) FROM found f
WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = f.classid AND m.objid = f.oid)
GROUP BY one, many ORDER BY count(*) DESC
"""


def _check_empty(connection: Connection, spec: StreamSpec) -> None:
    found = _chosen_in_the_way(connection, spec) if "relations" in spec.attributes else rows(connection, _IN_THE_WAY)
    if found:
        listed = ", ".join(
            f"{count} {one if count == 1 else many} (such as {name})" for one, many, count, name in found
        )
        raise TargetNotEmpty(
            f"the database {connection.info.dbname} is not empty: it holds {listed}",
            hint="Restore into a new database, or allow what the dump replaces to be dropped first (--clean).",
        )


def _chosen_in_the_way(connection: Connection, spec: StreamSpec) -> list[tuple[Any, ...]]:
    """A choice of tables or schemas goes into a database that holds others."""
    query = """
    SELECT 'table, view or sequence', 'tables, views and sequences', count(*), min(n.nspname || '.' || c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN ROWS FROM (unnest(%(schemas)s::text[]), unnest(%(names)s::text[])) AS chosen (schema, name)
            ON chosen.schema = n.nspname AND chosen.name = c.relname
    HAVING count(*) > 0
    UNION ALL
    SELECT 'schema', 'schemas', count(*), min(nspname) FROM pg_catalog.pg_namespace
    WHERE nspname = ANY (%(made)s) AND nspname <> 'public' HAVING count(*) > 0
    """
    recorded = ArchiveAttributes.of(spec)
    relations = recorded.relations or ()
    chosen = {
        "schemas": [schema for schema, _ in relations],
        "names": [name for _, name in relations],
        "made": list(recorded.makes_schemas),
    }
    return rows(connection, query, chosen)
