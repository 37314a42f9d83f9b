"""The client programs that dump: how they are called, and how their output ends well."""

from collections.abc import Callable

from penstock.api import ChildOutput, DumpFailed, DumpStream, StopToken, StreamSpec
from penstock_postgres.client import Client
from penstock_postgres.connection import Connection, child_environment, connection_string
from penstock_postgres.settings import PostgresSettings

__all__ = ["ACCOUNTS", "ARCHIVE", "start_dump"]

#: The formats of the two kinds of streams: pg_dump's own archive, and SQL as pg_dumpall writes it.
ARCHIVE = "pg_dump-custom"
ACCOUNTS = "sql"

_ARCHIVE_MAGIC = b"PGDMP"
_ACCOUNTS_END = b"-- PostgreSQL database cluster dump complete"


def start_dump(
    settings: PostgresSettings,
    spec: StreamSpec,
    client: Client,
    connection: Connection,
    *,
    stop: StopToken,
    confirm: Callable[[], None] | None = None,
) -> DumpStream:
    """Start pg_dump, or pg_dumpall, on one stream, against the server of `connection`.

    `confirm` is called when an archive has ended well; it raises `DumpFailed` where that is not enough.
    """
    archive = spec.format == ARCHIVE
    environment, secrets = child_environment(connection)
    child = ChildOutput(
        _dump_command(spec, client, settings) if archive else _accounts_command(spec, client),
        name=f"{'pg_dump' if archive else 'pg_dumpall'} of {spec.attributes['database']}",
        env=environment,
        stall_timeout=settings.stall_timeout,
        end_marker=None if archive else _ACCOUNTS_END,
        secrets=secrets,
        stop=stop,
    )
    return _Archive(child, spec.name, confirm) if archive else child


class _Archive(DumpStream):
    """pg_dump's archive has a beginning of its own, and no end: that it is whole is for pg_dump's exit to say."""

    def __init__(self, child: ChildOutput, name: str, confirm: Callable[[], None] | None = None) -> None:
        self._child = child
        self._name = name
        self._confirm = confirm
        self._start = b""

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._child.readinto(buffer)
        if len(self._start) < len(_ARCHIVE_MAGIC):
            self._start += bytes(buffer[: min(count, len(_ARCHIVE_MAGIC) - len(self._start))])
        return count

    def close(self) -> None:
        self._child.close()
        if self._start != _ARCHIVE_MAGIC:
            raise DumpFailed(f"{self._name} does not begin as an archive of pg_dump does")
        confirm, self._confirm = self._confirm, None
        if confirm is not None:
            confirm()

    def abort(self) -> None:
        self._child.abort()


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
