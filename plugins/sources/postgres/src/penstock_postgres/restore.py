"""The restore of pg_dump's archive into one database."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from penstock.api import ChildInput, RestoreFailed, RestoreTarget, SourceError, StreamSpec
from penstock_postgres.client import client_for_restore, find_clients
from penstock_postgres.connection import (
    Connection,
    child_environment,
    connect,
    connect_anywhere,
    connect_beside,
    connection_string,
    rows,
    translated,
)
from penstock_postgres.database import (
    apply_properties,
    create_database,
    drop_database,
    is_as_initialised,
    name_beside,
    recorded_properties,
    replace_database,
)
from penstock_postgres.options import RestoreOptions
from penstock_postgres.probe import room_for_locks
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.target import destination, replaces

__all__ = ["restore_archive"]

#: What to do about what pg_restore says, in the order in which it is looked for.
_HINTS = {
    r"max_locks_per_transaction|out of shared memory": (
        "the restore is one transaction, which locks every table at once: restore into a database that is not there "
        "yet (it is made, and dropped if anything fails, so that one transaction is not needed), or raise "
        "max_locks_per_transaction on the server, or give up all-or-nothing with the option single_transaction=no"
    ),
    r'role ".*" does not exist': (
        "restore the roles too (globals.sql), or leave owners and grants out with owners=no and privileges=no"
    ),
    r"(schema|type|function|relation) .* does not exist": (
        "if the dump is a choice, it does not hold what the chosen tables need: restore it into a database that does"
    ),
    r'tablespace ".*" does not exist': "make it, or restore with tablespaces=no",
    r"extension .* is not available|could not open extension control file|could not access file": (
        "install the extension's package on the server first"
    ),
    r"other objects depend on it|cannot drop": (
        "dropping what the dump holds does not always work: restore into a new database, or as a role that may replace "
        "the old one as a whole (replace=yes)"
    ),
    r"must be (superuser|owner|member)|permission denied": (
        "restore as a superuser, or with owners=no and privileges=no"
    ),
}


def restore_archive(
    settings: PostgresSettings, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget
) -> None:
    """Give the archive to pg_restore, all or nothing.

    It runs in a single transaction, and gets the last block only when `blocks` has ended well: whatever fails, the
    database is as it was. One that had to be made is dropped again. With `single_transaction=no` only the latter holds,
    and nothing else is needed where the restore makes the database: so it does without where locks are too few.

    `target.clean` restores into a new database, too, which takes the place of the old one only when it is complete.
    Where that cannot be, pg_restore drops what the dump holds, within the transaction. Raises `RestoreFailed`.
    """
    options = RestoreOptions.of(target)
    recorded = recorded_properties(spec)
    with connect_anywhere(settings, destination(settings, spec, options)) as (connection, name, exists):
        replaced = exists and target.clean and replaces(connection, spec, options)
        initial = exists and "cluster" in spec.attributes and is_as_initialised(connection)
    if exists and not replaced:
        _restore(settings, spec, blocks, name, options, clean=target.clean)
        if initial and options.properties == "yes":
            with connect_beside(settings, name) as connection:
                apply_properties(connection, name, recorded, options)
        return
    made = name_beside(name) if replaced else name
    # From beside it, whatever its own settings and encoding are.
    with connect_beside(settings, name) as connection:
        create_database(connection, made, recorded, options)
        if options.single_transaction == "auto" and int(spec.attributes.get("objects", 0)) > room_for_locks(connection):
            options = options.model_copy(update={"single_transaction": "no"})
    try:
        if options.properties == "yes":
            with connect_beside(settings, name) as connection:
                apply_properties(connection, made, recorded, options)
        _restore(settings, spec, blocks, made, options, clean=False)
        if replaced:
            replace_database(settings, name, made)
    except BaseException as error:
        if (trouble := drop_database(settings, made)) and isinstance(error, SourceError):
            error.details += (f"the database {made}, which the restore had made, is still there: {trouble}",)
        raise


def _restore(
    settings: PostgresSettings,
    spec: StreamSpec,
    blocks: Iterable[memoryview],
    database: str,
    options: RestoreOptions,
    *,
    clean: bool,
) -> None:
    clients = find_clients("pg_restore", settings.client_path)
    with connect(settings, database=database) as connection:
        server = connection.info.parameter_status("server_version") or "unknown"
        client = client_for_restore(spec.attributes["client_version"], server, clients)
        environment, secrets = child_environment(connection, options=_session_options(connection))
        try:
            # No stall timeout: it may build one index for hours, and take nothing meanwhile.
            with (
                _schemas(connection, spec),
                ChildInput(
                    _command(client.program("pg_restore"), database, options, clean=clean),
                    name=f"pg_restore into {database}",
                    env=environment,
                    secrets=secrets,
                ) as child,
            ):
                for block in _last_held_back(blocks):
                    child.write(block)
        except RestoreFailed as error:
            error.hint = error.hint or _hint("\n".join(error.details))
            raise
        if options.analyze == "yes":
            # The data is there, and autovacuum will do the same later: no reason to call the restore a failure.
            with suppress(psycopg.Error):
                connection.execute("ANALYZE")


@contextmanager
def _schemas(connection: Connection, spec: StreamSpec) -> Iterator[None]:
    """Make the schemas that chosen tables need, and drop them again if the block fails."""
    needed = json.loads(spec.attributes.get("needs_schemas", "[]"))
    there = {name for (name,) in rows(connection, "SELECT nspname FROM pg_catalog.pg_namespace")}
    made = [sql.Identifier(name) for name in needed if name not in there]
    with translated("cannot make the schemas of the chosen tables", RestoreFailed):
        for name in made:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    try:
        yield
    except BaseException:
        for name in made:
            with suppress(psycopg.Error):
                connection.execute(sql.SQL("DROP SCHEMA {}").format(name))
        raise


def _command(program: str, database: str, options: RestoreOptions, *, clean: bool) -> list[str]:
    words = {
        "--single-transaction": options.single_transaction != "no",
        "--clean": clean,
        "--if-exists": clean,
        "--no-owner": options.owners == "no",
        "--no-privileges": options.privileges == "no",
        "--no-tablespaces": options.tablespaces == "no",
    }
    chosen = [word for word, wanted in words.items() if wanted]
    return [program, "--no-password", "--exit-on-error", *chosen, f"--dbname={connection_string(database)}"]


def _session_options(connection: Connection) -> tuple[str, ...]:
    """What the database's own settings must not say while it is restored."""
    # `reset_val`: what the role, the database and the server say, whatever this session has changed.
    query = "SELECT name, reset_val FROM pg_catalog.pg_settings WHERE name = ANY (%(names)s)"
    found = dict(rows(connection, query, {"names": ["default_transaction_read_only", "synchronous_commit"]}))
    options = []
    if found["default_transaction_read_only"] == "on":
        options.append("default_transaction_read_only=off")
    if found["synchronous_commit"] == "off":
        options.append("synchronous_commit=on")  # what is reported as restored is on the disk
    return tuple(options)


def _last_held_back(blocks: Iterable[memoryview]) -> Iterator[bytes]:
    """The blocks, each when the next has come, the last when `blocks` has ended.

    pg_restore commits on its own when it has read all data: it must not have all before everything was found good.
    """
    held = b""
    for block in blocks:
        if held:
            yield held
        held = bytes(block)
    if held:
        yield held


def _hint(text: str) -> str | None:
    return next((hint for pattern, hint in _HINTS.items() if re.search(pattern, text)), None)
