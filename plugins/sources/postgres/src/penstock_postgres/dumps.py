"""A dump that is going on: its view of the database, and what opens its streams."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

import psycopg

from penstock.api import Dump, DumpFailed, DumpStream, Inspection, Report, StopToken, StreamSpec
from penstock_postgres import probe
from penstock_postgres.archive_stream import ArchiveStream
from penstock_postgres.client import Client, client_for_dump, find_clients
from penstock_postgres.cluster import Databases
from penstock_postgres.connection import Connection, connect, translated
from penstock_postgres.dumping import ARCHIVE, PARTS, SCHEMA, start_dump
from penstock_postgres.parts import open_part
from penstock_postgres.sessions import Sessions
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.survey import (
    Look,
    Survey,
    about_server,
    chosen_databases,
    chosen_relations,
    look_at,
    version_of,
)
from penstock_postgres.views import lock_tables, open_view

__all__ = ["attach_stream", "hold_dump", "inspect_source"]


def inspect_source(settings: PostgresSettings, stop: StopToken) -> Inspection:
    """Look, without dumping or counting: rows come from the statistics."""
    # The cheapest question first: without a client nothing else matters.
    clients = find_clients("pg_dump", settings.client_path, stop)
    databases = chosen_databases(settings)
    with connect(settings, database=databases.names[0] if databases else None) as connection:
        survey = _survey(settings, clients, connection, databases, "inspect")
    return replace(survey.inspection, streams=survey.streams, consistency=survey.consistency)


@contextmanager
def hold_dump(settings: PostgresSettings, stop: StopToken, report: Report) -> Iterator[Dump]:
    """Hold one exported snapshot of the database for the length of the block.

    Of several databases, which share no view anyway, each has its own for as long as its stream is read: nothing waits
    for a dump that has not begun, and one connection is all that it takes.
    """
    clients = find_clients("pg_dump", settings.client_path, stop)
    databases = chosen_databases(settings)
    names = databases.names if databases else (None,)
    view = None if databases else open_view(settings, None)
    connection = view.connection if view else connect(settings, database=names[0])
    sessions = Sessions(settings, view.database, view.snapshot) if view else None
    try:
        survey = _survey(settings, clients, connection, databases, "start to dump")
        if view is not None and survey.looks[0].parts:
            lock_tables(settings, view, survey.looks[0].chosen.relations)
        with translated(f"cannot start to dump {settings.location}"):
            plan = survey.plan(view, connection)
        counting = probe.CountingTime()

        def start(spec: StreamSpec) -> DumpStream:
            if spec.format == SCHEMA or spec.format in PARTS:
                return open_part(settings, spec, survey.client, sessions, stop=stop, report=report)
            if spec.format != ARCHIVE:
                with nullcontext(connection) if not connection.closed else connect(settings) as there:
                    return start_dump(settings, spec, survey.client, there, stop=stop)
            if view is not None and view.connection.closed:
                raise DumpFailed(f"{spec.name}: the connection that held its snapshot is closed")
            held = (view, survey.looks[0].chosen) if view else None
            return ArchiveStream(settings, spec, survey.client, held, counting, stop=stop, report=report)

        yield Dump(plan, start)
    finally:
        if sessions is not None:
            sessions.close()
        # A lost connection cannot harm any more: pg_dump has its own, and says itself if it was too late.
        with suppress(psycopg.Error):
            connection.close()


def attach_stream(settings: PostgresSettings, spec: StreamSpec, stop: StopToken, report: Report) -> DumpStream:
    """Start pg_dump, or pg_dumpall, on a stream of a dump that another process holds."""
    clients = find_clients("pg_dump", settings.client_path, stop)
    same = [client for client in clients if client.version == spec.attributes["client_version"]]
    client = client_for_dump(spec.attributes["server_version"], same or clients)
    if spec.format == ARCHIVE:
        return ArchiveStream(settings, spec, client, None, probe.CountingTime(), stop=stop, report=report)
    if spec.format == SCHEMA or spec.format in PARTS:
        return open_part(settings, spec, client, stop=stop, report=report)
    with connect(settings, database=spec.attributes["database"]) as connection:
        return start_dump(settings, spec, client, connection, stop=stop)


def _survey(
    settings: PostgresSettings,
    clients: list[Client],
    connection: Connection,
    databases: Databases | None,
    doing: str,
) -> Survey:
    """Look at the database of `connection`, and then at the others of `databases`, one after the other."""
    with translated(f"cannot {doing} {settings.location_of(connection.info.dbname)}"):
        server = version_of(connection)
        client = client_for_dump(server, clients)
        with_accounts, warnings = about_server(connection, settings, client, databases)
        looks: list[Look] = [look_at(connection, settings, chosen_relations(connection, settings))]
    for name in databases.names[1:] if databases else ():
        with connect(settings, database=name) as other, translated(f"cannot {doing} {settings.location_of(name)}"):
            looks.append(look_at(other, settings, chosen_relations(other, settings)))
    return Survey(server, client, with_accounts, databases, tuple(looks), warnings)
