"""The restore of pg_dump's archive into one database, by pg_restore."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from penstock.api import ChildInput, RestoreFailed, StopToken, StreamSpec, say_more
from penstock.api.servers import Advice, last_held_back
from penstock_postgres.attributes import ArchiveAttributes
from penstock_postgres.client import client_for_restore, find_clients
from penstock_postgres.connection import (
    Connection,
    child_environment,
    connect,
    connection_string,
    rows,
    said_by,
    translated,
)
from penstock_postgres.options import RestoreOptions
from penstock_postgres.settings import PostgresSettings

__all__ = ["restore_archive"]

#: What to do about what pg_restore says, in the order in which it is looked for.
_ADVICE = Advice(
    {
        r"max_locks_per_transaction|out of shared memory": (
            "Restore into a database that does not exist yet: it is made, and dropped if anything fails, so that one "
            "transaction, which locks every table at once, is not needed. Or raise max_locks_per_transaction on the "
            "server, or give up all-or-nothing with the option single_transaction=no."
        ),
        r'role ".*" does not exist': (
            "Restore the roles too (accounts.sql), or leave owners and grants out with owners=no and privileges=no."
        ),
        r"(schema|type|function|relation) .* does not exist": (
            "Restore a choice of tables into a database that has what they need: types, functions, extensions."
        ),
        r'tablespace ".*" does not exist': "Make it, or restore with tablespaces=no.",
        r"extension .* is not available|could not open extension control file|could not access file": (
            "Install the extension's package on the server first."
        ),
        r"other objects depend on it|cannot drop": (
            "Restore into a new database, or as a role that may replace the old one (replace=yes): dropping what "
            "the dump holds does not always work."
        ),
        r"must be (superuser|owner|member)|permission denied": (
            "Restore as a superuser, or with owners=no and privileges=no."
        ),
    }
)


def restore_archive(
    settings: PostgresSettings,
    spec: StreamSpec,
    blocks: Iterable[memoryview],
    database: str,
    options: RestoreOptions,
    *,
    clean: bool,
    stop: StopToken,
) -> None:
    """Give the archive to pg_restore, which runs in a single transaction unless the options say otherwise.

    It gets the last block only when `blocks` has ended well: whatever fails, the database is as it was. With `clean` it
    drops what the dump holds first, within the transaction. Raises `RestoreFailed`.
    """
    recorded = ArchiveAttributes.of(spec)
    clients = find_clients("pg_restore", settings.client_path, stop)
    with connect(settings, database=database) as connection:
        server = connection.info.parameter_status("server_version") or "unknown"
        client = client_for_restore(recorded.client_version, server, clients)
        environment, secrets = child_environment(connection, options=_session_options(connection))
        try:
            # No stall timeout: it may build one index for hours, and take nothing meanwhile.
            with (
                _schemas(connection, recorded),
                ChildInput(
                    _command(client.program("pg_restore"), database, options, clean=clean),
                    name=f"pg_restore into {database}",
                    env=environment,
                    secrets=secrets,
                    stop=stop,
                ) as child,
            ):
                for block in last_held_back(blocks):
                    child.write(block)
        except RestoreFailed as error:
            _ADVICE.give(error)
            raise
        if options.analyze == "yes":
            # The data is there, and autovacuum will do the same later: no reason to call the restore a failure.
            with suppress(psycopg.Error):
                connection.execute("ANALYZE")


@contextmanager
def _schemas(connection: Connection, recorded: ArchiveAttributes) -> Iterator[None]:
    """Make the schemas that chosen tables need, and drop them again if the block fails."""
    there = {name for (name,) in rows(connection, "SELECT nspname FROM pg_catalog.pg_namespace")}
    made = [sql.Identifier(name) for name in recorded.needs_schemas if name not in there]
    with translated("cannot make the schemas of the chosen tables", RestoreFailed):
        for name in made:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    try:
        yield
    except BaseException as error:
        for name in made:
            try:
                connection.execute(sql.SQL("DROP SCHEMA {}").format(name))
            except psycopg.Error as refused:
                shown = name.as_string(None)
                say_more(error, f"the schema {shown}, which the restore had made, is left: {said_by(refused)}")
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
