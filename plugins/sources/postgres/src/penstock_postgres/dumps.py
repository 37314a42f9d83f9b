"""A dump that is going on: its views of the databases, and what opens its streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from penstock.api import Dump, DumpFailed, DumpStream, Inspection, StopToken, StreamSpec
from penstock_postgres.client import client_for_dump, find_clients
from penstock_postgres.connection import connect, translated
from penstock_postgres.dumping import start_dump
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.survey import (
    Survey,
    about_server,
    chosen_databases,
    chosen_relations,
    look_at,
    version_of,
)
from penstock_postgres.views import check_unchanged, hold_tables, open_views

__all__ = ["attach_stream", "hold_dump", "inspect_source"]


def inspect_source(settings: PostgresSettings, stop: StopToken) -> Inspection:
    """Look, without dumping or counting: rows come from the statistics."""
    # The cheapest question first: without a client nothing else matters.
    clients = find_clients("pg_dump", settings.client_path, stop)
    databases = chosen_databases(settings)
    names = databases.names if databases else (None,)
    with (
        connect(settings, database=names[0]) as connection,
        translated(f"cannot inspect {settings.location_of(names[0])}"),
    ):
        server = version_of(connection)
        client = client_for_dump(server, clients)
        with_accounts, warnings = about_server(connection, settings, client)
        looks = [look_at(connection, settings, chosen_relations(connection, settings), count=False)]
    for name in names[1:]:
        with (
            connect(settings, database=name) as connection,
            translated(f"cannot inspect {settings.location_of(name)}"),
        ):
            looks.append(look_at(connection, settings, chosen_relations(connection, settings), count=False))
    survey = Survey(server, client, with_accounts, databases, tuple(looks), warnings)
    return replace(survey.inspection, streams=survey.streams, consistency=survey.consistency)


@contextmanager
def hold_dump(settings: PostgresSettings, stop: StopToken) -> Iterator[Dump]:
    """Hold one exported snapshot of each database for the length of the block; rows are counted in it."""
    clients = find_clients("pg_dump", settings.client_path, stop)
    databases = chosen_databases(settings)
    with open_views(settings, databases.names if databases else (None,)) as views:
        first = views[0].connection
        with translated(f"cannot start to dump {settings.location}"):
            client = client_for_dump(version_of(first), clients)
            with_accounts, warnings = about_server(first, settings, client)
            chosen = [chosen_relations(view.connection, settings) for view in views]
            held = hold_tables(views, [one.relations for one in chosen])
        looks = []
        for view, one in zip(views, chosen, strict=True):
            with translated(f"cannot start to dump {settings.location_of(view.database)}"):
                looks.append(look_at(view.connection, settings, one, count=True))
            if held:
                check_unchanged(settings, view.database, one.relations)
        survey = Survey(version_of(first), client, with_accounts, databases, tuple(looks), warnings)
        with translated(f"cannot start to dump {settings.location}"):
            plan = survey.plan(views)
        of_view = {view.database: (view, one.relations) for view, one in zip(views, chosen, strict=True)}

        def start(spec: StreamSpec) -> DumpStream:
            view, found = of_view[spec.attributes["database"]]
            if view.connection.closed:
                raise DumpFailed(f"{spec.name}: the connection that held its snapshot is closed")

            def confirm() -> None:
                if not held:
                    check_unchanged(settings, view.database, found)

            return start_dump(settings, spec, client, view.connection, stop=stop, confirm=confirm)

        yield Dump(plan, start)


def attach_stream(settings: PostgresSettings, spec: StreamSpec, stop: StopToken) -> DumpStream:
    """Start pg_dump, or pg_dumpall, on a stream of a dump that another process holds."""
    clients = find_clients("pg_dump", settings.client_path, stop)
    same = [client for client in clients if client.version == spec.attributes["client_version"]]
    client = client_for_dump(spec.attributes["server_version"], same or clients)
    with connect(settings, database=spec.attributes["database"]) as connection:
        return start_dump(settings, spec, client, connection, stop=stop)
