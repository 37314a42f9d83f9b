"""Starts mongodump on one stream. MongoDB has no snapshot to share: only an archive with the oplog is consistent."""

from penstock.api import ChildOutput, DumpStream, StopToken, StreamSpec, env_for_child
from penstock_mongodb.archive import Archive
from penstock_mongodb.client import Client, find_client
from penstock_mongodb.connection import connect, tool_configuration
from penstock_mongodb.probe import step_past_oplog_end
from penstock_mongodb.settings import MongoSettings

__all__ = ["start_dump"]


def start_dump(settings: MongoSettings, spec: StreamSpec, stop: StopToken) -> DumpStream:
    """Start mongodump on one stream; `spec` is plain data, so any process may call it."""
    client = find_client("mongodump", settings.client_path, stop)
    oplog = spec.attributes["oplog"] == "yes"
    if oplog:
        with connect(settings) as connection:
            step_past_oplog_end(connection)
    with tool_configuration(settings, read=True) as (arguments, descriptor, secrets):
        child = ChildOutput(
            _command(client, arguments, None if oplog else spec.attributes["database"]),
            name=f"mongodump of {'everything' if oplog else spec.attributes['database']}",
            env=env_for_child(),
            stall_timeout=settings.stall_timeout,
            pass_fds=[descriptor],
            secrets=secrets,
            stop=stop,
        )
    return Archive(child, spec.name, oplog=oplog)


def _command(client: Client, arguments: list[str], database: str | None) -> list[str]:
    # One collection at a time, or two dumps of the same data would interleave them differently; and uncompressed:
    # either would prevent deduplication.
    command = [client.program, *arguments, "--archive", "--numParallelCollections=1"]
    return [*command, "--oplog" if database is None else f"--db={database}"]
