"""The streams of a database by tables: which there are, and what opens one of them from its spec."""

import re
from contextlib import closing

import psycopg

from penstock.api import DumpFailed, DumpStream, InventoryItem, Report, StopToken, StreamOutcome, StreamSpec
from penstock_postgres import probe
from penstock_postgres.checked_archive import CheckedArchive
from penstock_postgres.client import Client
from penstock_postgres.connection import cancelled_by, connect, said_by
from penstock_postgres.copy_stream import CopyStream
from penstock_postgres.dumping import ROWS, SCHEMA, SEQUENCES, start_dump
from penstock_postgres.sequences import SequencesStream
from penstock_postgres.sessions import Sessions
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.survey import chosen_relations
from penstock_postgres.views import TablesChanged, join_view

__all__ = ["open_part"]


def open_part(
    settings: PostgresSettings,
    spec: StreamSpec,
    client: Client,
    sessions: Sessions | None = None,
    *,
    stop: StopToken,
    report: Report,
) -> DumpStream:
    """Open a stream under the view that its spec names, in this process or another.

    `sessions` are those of a dump that goes on in this process; without them, the stream's own ends with it.
    """
    if spec.format == ROWS:
        if sessions is not None:
            return CopyStream(settings, spec, sessions, stop=stop)
        with closing(Sessions(settings, spec.attributes["database"], spec.attributes["snapshot"])) as own:
            return CopyStream(settings, spec, own, stop=stop)
    if spec.format == SEQUENCES:
        return SequencesStream(settings, spec, stop=stop)
    with connect(settings, database=spec.attributes["database"]) as connection:
        archive = CheckedArchive(start_dump(settings, spec, client, connection, stop=stop), spec.name)
    return _SchemaStream(archive, settings, spec, stop, report) if spec.format == SCHEMA else archive


class _SchemaStream(DumpStream):
    """All definitions. When pg_dump has ended, what is not rows of tables is counted in the view."""

    def __init__(
        self, archive: CheckedArchive, settings: PostgresSettings, spec: StreamSpec, stop: StopToken, report: Report
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._spec = spec
        self._stop = stop
        self._report = report
        self._inventory: tuple[InventoryItem, ...] | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        """As `ChildOutput` does."""
        return self._archive.readinto(buffer)

    def close(self) -> None:
        """As `ChildOutput` does; a lock that did not come means that somebody waits for the view to end."""
        try:
            self._archive.close()
        except DumpFailed as error:
            if any(re.search("(lock|statement) timeout", line) for line in error.details):
                raise TablesChanged(
                    f"{error.message}: something waits to change a table", details=error.details
                ) from error
            raise
        if self._inventory is None:
            self._inventory = self._count()

    def abort(self) -> None:
        """End pg_dump."""
        self._archive.abort()

    def outcome(self) -> StreamOutcome:
        """What was counted."""
        return StreamOutcome({}, self._inventory or ())

    def _count(self) -> tuple[InventoryItem, ...]:
        database = self._spec.attributes["database"]
        try:
            with join_view(self._settings, database, self._spec.attributes["snapshot"]) as connection:
                chosen = chosen_relations(connection, self._settings)
                others = [one for one in chosen.relations if one.relkind != "r"]
                with cancelled_by(self._stop, connection):
                    return tuple(
                        probe.inventory(
                            connection,
                            others,
                            chosen.choice,
                            self._settings.row_counts,
                            counting=probe.CountingTime(),
                            prefix=f"{database}." if self._settings.databases else "",
                        )
                    )
        except psycopg.Error as error:
            self._stop.check()
            self._report.warn(f"the rows of {database} could not be counted: {said_by(error)}")
            return ()
