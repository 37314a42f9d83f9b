"""A dump: mongodump on each of its streams. MongoDB has no view to hold; an archive with the oplog has its own."""

from penstock.api import ChildOutput, DumpStream, StopToken, StreamSpec, env_for_child
from penstock_mongodb.archive import Archive
from penstock_mongodb.client import Client, find_client
from penstock_mongodb.connection import tool_configuration
from penstock_mongodb.settings import MongoSettings

__all__ = ["start_dump"]


def start_dump(settings: MongoSettings, spec: StreamSpec, stop: StopToken) -> DumpStream:
    """Start mongodump on one stream; the plain data of `spec` is all that it takes."""
    client = find_client("mongodump", settings.client_path, stop)
    oplog = spec.attributes["oplog"] == "yes"
    with tool_configuration(settings, read=True) as (arguments, descriptor, secrets):
        child = ChildOutput(
            _command(spec, client, arguments),
            name=f"mongodump of {'everything' if oplog else spec.attributes['database']}",
            env=env_for_child(),
            stall_timeout=settings.stall_timeout,
            pass_fds=[descriptor],
            secrets=secrets,
            stop=stop,
        )
    return Archive(child, spec.name, oplog=oplog)


def _command(spec: StreamSpec, client: Client, configuration: list[str]) -> list[str]:
    # One collection after the other, or two dumps of the same data would mix their documents differently; and not
    # compressed. Neither would deduplicate.
    command = [client.program, *configuration, "--archive", "--numParallelCollections=1"]
    return [*command, "--oplog" if spec.attributes["oplog"] == "yes" else f"--db={spec.attributes['database']}"]
