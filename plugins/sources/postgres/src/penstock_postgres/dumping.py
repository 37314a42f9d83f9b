"""The client programs that dump: how they are called, and how their output ends well."""

from penstock.api import ChildOutput, StopToken, StreamSpec
from penstock_postgres.client import Client
from penstock_postgres.connection import Connection, child_environment, connection_string
from penstock_postgres.settings import PostgresSettings

__all__ = ["ACCOUNTS", "ARCHIVE", "start_dump"]

#: The formats of the two kinds of streams: pg_dump's own archive, and SQL as pg_dumpall writes it.
ARCHIVE = "pg_dump-custom"
ACCOUNTS = "sql"

_ACCOUNTS_END = b"-- PostgreSQL database cluster dump complete"


def start_dump(
    settings: PostgresSettings, spec: StreamSpec, client: Client, connection: Connection, *, stop: StopToken
) -> ChildOutput:
    """Start pg_dump, or pg_dumpall, on one stream, against the server of `connection`."""
    archive = spec.format == ARCHIVE
    environment, secrets = child_environment(connection, settings)
    return ChildOutput(
        _dump_command(spec, client, settings) if archive else _accounts_command(spec, client),
        name=f"{'pg_dump' if archive else 'pg_dumpall'} of {spec.attributes['database']}",
        env=environment,
        stall_timeout=settings.stall_timeout,
        end_marker=None if archive else _ACCOUNTS_END,
        secrets=secrets,
        stop=stop,
    )


def _dump_command(spec: StreamSpec, client: Client, settings: PostgresSettings) -> list[str]:
    # Where to is in the environment. Not compressed, or it would not deduplicate.
    return [
        client.program("pg_dump"),
        "--format=custom",
        "--compress=0",
        "--no-password",
        f"--snapshot={spec.attributes['snapshot']}",
        f"--lock-wait-timeout={max(1, round(settings.lock_timeout * 1000))}",
        *_choice(settings),
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
