"""A dump that is going on: what was started under the global read lock, and what opens the streams."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from penstock.api import (
    Dump,
    DumpFailed,
    DumpPlan,
    DumpStream,
    Inspection,
    SourceError,
    StopToken,
    StreamSpec,
    TextStream,
)
from penstock_mysql.accounts import accounts_as_sql
from penstock_mysql.client import client_for_dump, find_clients
from penstock_mysql.connection import Connection, connect, execute, global_read_lock, translated
from penstock_mysql.dialect import server_version
from penstock_mysql.dumping import start_dump
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.streams import ChildStream
from penstock_mysql.survey import ACCOUNTS, DATABASE, Survey, look_at

__all__ = ["attach_stream", "hold_dump", "inspect_source"]


def inspect_source(settings: MySQLSettings, stop: StopToken) -> Inspection:
    """Look, without dumping or counting: rows come from the statistics."""
    # The cheapest question first: without a client nothing else matters.
    clients = find_clients("dump", settings.client_path, stop)
    with connect(settings) as connection, translated(f"cannot inspect {settings.location}"):
        found = look_at(connection, settings, clients)
        plan = found.plan(connection, settings)
    return replace(found.inspection, streams=plan.streams, consistency=plan.consistency)


@contextmanager
def hold_dump(settings: MySQLSettings, stop: StopToken) -> Iterator[Dump]:
    """Check all that can be checked; with `consistency = server`, all databases are started at one moment.

    Each of these dumps then waits, in its client program and in the server, until its turn to be read comes.
    """
    clients = find_clients("dump", settings.client_path, stop)
    started: dict[str, ChildStream] = {}
    with ExitStack() as cleaning:
        cleaning.callback(_abort, started)
        with connect(settings) as connection, translated(f"cannot start to dump {settings.location}"):
            found = look_at(connection, settings, clients)
            plan = _begin(connection, settings, found, started, stop)

        def start(spec: StreamSpec) -> DumpStream:
            if spec.format == ACCOUNTS:
                return _accounts(settings, spec)
            return started.get(spec.name) or start_dump(settings, spec, found.client, stop)

        yield Dump(plan, start)


def attach_stream(settings: MySQLSettings, spec: StreamSpec, stop: StopToken) -> DumpStream:
    """Start the dump program on one database, or read the accounts."""
    if spec.format == ACCOUNTS:
        return _accounts(settings, spec)
    if settings.consistency == "server":
        raise SourceError(
            f"{spec.name} can only be read where its dump was started",
            hint="Leave the streams in one process, or give up one view for all databases: consistency = database.",
        )
    clients = find_clients("dump", settings.client_path, stop)
    server = server_version(spec.attributes["server_version"])
    return start_dump(settings, spec, client_for_dump(server, clients, older=settings.older_client), stop)


def _begin(
    connection: Connection,
    settings: MySQLSettings,
    found: Survey,
    started: dict[str, ChildStream],
    stop: StopToken,
) -> DumpPlan:
    plan = found.plan(connection, settings)
    together = settings.consistency == "server"
    exact = settings.row_counts == "exact"
    if not together and not exact:
        return plan
    execute(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with global_read_lock(connection, settings.lock_timeout) if together else ExitStack():
        if together:
            for spec in plan.streams:
                if spec.format == DATABASE:
                    started[spec.name] = start_dump(settings, spec, found.client, stop)
            # No writer can commit before each of them has its view.
            for stream in started.values():
                stream.wait_for_first_byte()
        execute(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    return found.counted(connection, settings, plan, exact=together) if exact else plan


def _accounts(settings: MySQLSettings, spec: StreamSpec) -> DumpStream:
    doing = f"cannot read the accounts of {settings.location}"
    with connect(settings) as connection, translated(doing, DumpFailed):
        return TextStream(spec.name, accounts_as_sql(connection))


def _abort(started: dict[str, ChildStream]) -> None:
    for stream in started.values():
        stream.abort()
