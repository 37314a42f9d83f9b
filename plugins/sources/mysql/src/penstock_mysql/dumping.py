"""The dump program on one database: how it is called."""

import json

from penstock.api import ChildOutput, DumpFailed, StopToken, StreamSpec, env_for_child
from penstock_mysql.client import Client
from penstock_mysql.connection import connect, option_file, translated
from penstock_mysql.dialect import CHILD_ENVIRONMENT
from penstock_mysql.events import events_as_sql
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.streams import END_MARKER, ChildStream

__all__ = ["start_dump"]

#: An INSERT holds as many rows as fit. Larger ones deduplicate better, for their beginnings move when rows change,
#: but this is what the smallest usual max_allowed_packet (4 MiB) takes back; in bytes.
_INSERT_BYTES = 4_000_000


def start_dump(settings: MySQLSettings, spec: StreamSpec, client: Client, stop: StopToken) -> ChildStream:
    """Start to dump the database of `spec`; raises `ClientMissing`, `DumpFailed`."""
    session = client.dialect.dump_session if client.keeps_long_dumps else ""
    database = spec.attributes["database"]
    events = _events(settings, database) if spec.attributes["events"] == "apart" else b""
    with option_file(settings, client, session=session) as (option, inherited, secrets):
        child = ChildOutput(
            [str(client.path), option, *_options(spec, client, settings)],
            name=f"{client.path.name} of {database}",
            env=env_for_child(CHILD_ENVIRONMENT),
            stall_timeout=settings.stall_timeout,
            pass_fds=inherited,
            end_marker=END_MARKER,
            secrets=secrets,
            stop=stop,
        )
    return ChildStream(child, database, before_end=events)


def _events(settings: MySQLSettings, database: str) -> bytes:
    with connect(settings) as connection, translated(f"cannot read the events of {database}", DumpFailed):
        return events_as_sql(connection, database)


def _options(spec: StreamSpec, client: Client, settings: MySQLSettings) -> list[str]:
    return [
        "--single-transaction",
        "--quick",
        "--events" if spec.attributes["events"] == "yes" else "--skip-events",
        "--triggers",
        "--routines" if spec.attributes["routines"] == "yes" else "--skip-routines",
        "--hex-blob",
        "--tz-utc",
        "--default-character-set=utf8mb4",
        # Asking for tablespaces takes a privilege (PROCESS), and hardly anybody uses them.
        "--no-tablespaces",
        # Two dumps of the same content are the same.
        "--skip-dump-date",
        # LOCK TABLES in the dump would keep a default of NEXT VALUE from its sequence.
        "--skip-add-locks",
        "--max-allowed-packet=1G",
        f"--net-buffer-length={_INSERT_BYTES}",
        *client.dialect.dump_options,
        *(
            f"--ignore-table={name}"
            for name in settings.exclude_tables
            if name.startswith(f"{spec.attributes['database']}.")
        ),
        *(f"--ignore-table={spec.attributes['database']}.{name}" for name in json.loads(spec.attributes["without"])),
        "--",
        spec.attributes["database"],
    ]
