"""The stream of one database: pg_dump's archive, under a view of the database."""

from contextlib import suppress
from dataclasses import replace

import psycopg

from penstock.api import (
    DumpFailed,
    DumpStream,
    InventoryItem,
    PenstockError,
    Report,
    StopToken,
    StreamOutcome,
    StreamSpec,
)
from penstock.api.servers import listed
from penstock_postgres import probe
from penstock_postgres.checked_archive import ADVICE, CheckedArchive
from penstock_postgres.client import Client
from penstock_postgres.connection import cancelled_by, said_by, translated
from penstock_postgres.dumping import start_dump
from penstock_postgres.recorded import archive_attributes
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.survey import Chosen, chosen_relations
from penstock_postgres.views import View, changed_tables, join_view, open_view

__all__ = ["ArchiveStream"]

#: Views that are taken before a database that changes all the time is given up.
_ATTEMPTS = 3


class ArchiveStream(DumpStream):
    """The archive of a whole database.

    Its first byte comes when pg_dump has locked every table. What was truncated, rewritten or dropped since the view
    was taken would be missing: then all of it begins again, under a new view. Rows are counted in the view when pg_dump
    has ended: nobody waits for that.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        spec: StreamSpec,
        client: Client,
        held: tuple[View, Chosen] | None,
        counting: probe.CountingTime,
        *,
        stop: StopToken,
        report: Report,
    ) -> None:
        """Start it, under a view that is `held`, with what is chosen in it, that of another process, or a new one."""
        self._settings = settings
        self._spec = spec
        self._client = client
        self._counting = counting
        self._stop = stop
        self._report = report
        self._attempt = 0
        self._own: View | None = None
        self._inventory: tuple[InventoryItem, ...] = ()
        self._counted = False
        self._begin(held)

    def readinto(self, buffer: memoryview, /) -> int:
        """As `ChildOutput` does; the first one may dump twice."""
        before = not self._child.has_begun
        count = self._child.readinto(buffer)
        # Even if there is none: a table that was dropped may be the reason.
        while before and self._begins_again():
            count = self._child.readinto(buffer)
        return count

    def close(self) -> None:
        """As `ChildOutput` does; then rows are counted, once."""
        try:
            self._child.close()
            if not self._counted:
                self._counted = True
                self._count()
        except DumpFailed as error:
            # pg_dump says only that the view is gone; the view's own session was told why.
            if lost := self._view.lost():
                error.details = (f"the session that held the view: {lost}", *error.details)
                ADVICE.give(error)
            raise
        finally:
            self._end_view()

    def abort(self) -> None:
        """End pg_dump, and the view if it is the stream's own."""
        self._child.abort()
        self._end_view()

    def outcome(self) -> StreamOutcome:
        """What the restore needs to know, as of the view, and the rows that were counted in it."""
        return StreamOutcome(self._attributes, self._inventory)

    def _begin(self, held: tuple[View, Chosen] | None) -> None:
        self._attempt += 1
        database = self._spec.attributes["database"]
        view = held[0] if held else self._new_view(database)
        self._view, self._own = view, None if held else view
        connection = view.connection
        try:
            with translated(f"cannot start to dump {self._settings.location_of(database)}", DumpFailed):
                self._chosen = held[1] if held else chosen_relations(connection, self._settings)
                recorded = archive_attributes(connection, self._chosen.relations, self._chosen.choice)
            self._attributes = {"snapshot": self._view.snapshot, **recorded}
            spec = replace(self._spec, attributes={**self._spec.attributes, **self._attributes})
            child = start_dump(self._settings, spec, self._client, connection, stop=self._stop)
            self._child = CheckedArchive(child, spec.name)
        except BaseException:  # an interrupt, too, leaves no transaction behind
            self._end_view()
            raise

    def _new_view(self, database: str) -> View:
        snapshot = self._spec.attributes.get("snapshot")
        if snapshot is None or self._attempt > 1:
            return open_view(self._settings, database)
        return View(join_view(self._settings, database, snapshot), snapshot)

    def _begins_again(self) -> bool:
        """Whether tables have changed under the view, and the dump has begun again for that."""
        database = self._spec.attributes["database"]
        changed = changed_tables(self._settings, database, self._chosen.relations)
        if not changed:
            return False
        what = f"{listed(changed, 'table', 'tables')} of {database} changed just when the dump began"
        self._child.abort()
        self._end_view()
        if self._attempt >= _ATTEMPTS:
            raise DumpFailed(
                f"{what}, and a snapshot does not protect against that: truncated, rewritten or dropped",
                hint="Run the backup again when nothing truncates, rewrites or drops these tables.",
            )
        self._report.retry(f"{what}: it begins again")
        self._begin(None)
        return True

    def _count(self) -> None:
        several = bool(self._settings.databases)
        connection = self._view.connection
        try:
            with cancelled_by(self._stop, connection):
                self._inventory = tuple(
                    probe.inventory(
                        connection,
                        self._chosen.relations,
                        self._chosen.choice,
                        self._settings.row_counts,
                        counting=self._counting,
                        prefix=f"{self._view.database}." if several else "",
                    )
                )
        except psycopg.Error as error:
            self._stop.check()
            self._report.warn(f"the rows of {self._view.database} could not be counted: {said_by(error)}")

    def _end_view(self) -> None:
        """Close the connection of a view that was taken here."""
        own, self._own = self._own, None
        if own is not None:
            with suppress(psycopg.Error, PenstockError):
                own.connection.close()
