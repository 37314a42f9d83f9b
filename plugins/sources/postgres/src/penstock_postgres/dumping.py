"""The client programs that dump: how they are called, and how their output ends well."""

from penstock.api import ChildOutput, StopToken, StreamSpec
from penstock_postgres.client import Client
from penstock_postgres.connection import Connection, child_environment, connection_string
from penstock_postgres.settings import PostgresSettings

__all__ = [
    "ACCOUNTS",
    "ARCHIVE",
    "DATABASES",
    "LARGE_OBJECTS",
    "PARTS",
    "QUEUE_SECONDS",
    "ROWS",
    "SCHEMA",
    "SEQUENCES",
    "start_dump",
]

#: The formats of streams: pg_dump's own archive of a whole database, and SQL as pg_dumpall writes it.
ARCHIVE = "pg_dump-custom"
ACCOUNTS = "sql"
#: Those of a database by tables: two archives of pg_dump, rows as COPY writes them, and SQL that sets sequences.
SCHEMA = "pg_dump-custom-schema"
LARGE_OBJECTS = "pg_dump-custom-large-objects"
ROWS = "pg-copy-text"
SEQUENCES = "pg-setval-sql"
#: What a database begins with in a restore, and what follows the schema of one by tables.
DATABASES = frozenset({ARCHIVE, SCHEMA})
PARTS = frozenset({LARGE_OBJECTS, ROWS, SEQUENCES})

#: For a lock that the view holds already: only whoever queues behind the view is in the way, and waits for it to end.
QUEUE_SECONDS = 10.0

_ACCOUNTS_END = b"-- PostgreSQL database cluster dump complete"


def start_dump(
    settings: PostgresSettings, spec: StreamSpec, client: Client, connection: Connection, *, stop: StopToken
) -> ChildOutput:
    """Start pg_dump, or pg_dumpall, on one stream, against the server of `connection`."""
    accounts = spec.format == ACCOUNTS
    environment, secrets = child_environment(connection, settings)
    return ChildOutput(
        _accounts_command(spec, client) if accounts else _dump_command(spec, client, settings),
        name=f"{'pg_dumpall' if accounts else 'pg_dump'} of {spec.attributes['database']}",
        env=environment,
        stall_timeout=settings.stall_timeout,
        end_marker=_ACCOUNTS_END if accounts else None,
        secrets=secrets,
        stop=stop,
    )


def _dump_command(spec: StreamSpec, client: Client, settings: PostgresSettings) -> list[str]:
    # Where to is in the environment. Not compressed, or it would not deduplicate.
    lock_timeout = settings.lock_timeout
    chosen = _choice(settings)
    if spec.format == SCHEMA:
        lock_timeout = min(lock_timeout, QUEUE_SECONDS)
        chosen += ["--section=pre-data", "--section=post-data"]
    elif spec.format == LARGE_OBJECTS:
        # Of no schema: so no table is looked at or locked. The long form of -b has changed its name.
        chosen = ["--section=data", "--exclude-schema=*", "-b"]
    return [
        client.program("pg_dump"),
        "--format=custom",
        "--compress=0",
        "--no-password",
        f"--snapshot={spec.attributes['snapshot']}",
        f"--lock-wait-timeout={max(1, round(lock_timeout * 1000))}",
        *chosen,
    ]


def _choice(settings: PostgresSettings) -> list[str]:
    patterns = {
        "--schema": settings.schemas,
        "--exclude-schema": settings.exclude_schemas,
        "--table": settings.tables,
        "--exclude-table": settings.exclude_tables,
        "--exclude-table-data": settings.exclude_table_data,
    }
    chosen = [f"{option}={pattern}" for option, several in patterns.items() for pattern in several]
    if settings.schemas or settings.tables:
        chosen.append("--strict-names")
    if settings.large_objects != "auto":
        chosen.append("-b" if settings.large_objects == "yes" else "-B")  # the long options have changed their names
    return chosen


def _accounts_command(spec: StreamSpec, client: Client) -> list[str]:
    # No --restrict-key: the random one keeps a hostile name in the dump from becoming a command of psql, for whoever
    # feeds it to psql by hand. That few bytes differ in every dump is little to pay.
    command = [client.program("pg_dumpall"), "--globals-only", "--no-password", "--encoding=UTF8"]
    if spec.attributes["passwords"] == "no":
        command.append("--no-role-passwords")
    return [*command, f"--database={connection_string(spec.attributes['database'])}"]
