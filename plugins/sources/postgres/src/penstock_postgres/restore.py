"""A restore that is going on: databases are restored beside the old ones, and replace them when all are complete."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass

from penstock.api import (
    LeftOut,
    Report,
    Restore,
    RestoreFailed,
    RestoreTarget,
    SourceDenied,
    SourceError,
    StopToken,
    StreamSpec,
    UsageError,
    found_by,
)
from penstock.api.servers import leave_out, undone_unless_finished
from penstock_postgres.accounts import restore_accounts
from penstock_postgres.archives import Into, restoring_into
from penstock_postgres.attributes import ArchiveAttributes, Properties
from penstock_postgres.checks import RESTORE_CHECKS
from penstock_postgres.client import Client, find_clients
from penstock_postgres.database import (
    apply_properties,
    create_database,
    drop_database,
    give_owner,
    is_as_initialised,
    name_beside,
)
from penstock_postgres.dumping import ACCOUNTS, ARCHIVE, PARTS, SCHEMA
from penstock_postgres.elsewhere import Elsewhere
from penstock_postgres.loading import Loaded
from penstock_postgres.options import RestoreOptions
from penstock_postgres.probe import room_for_locks
from penstock_postgres.recorded import properties_of
from penstock_postgres.replacing import Replacement, put_in_place
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.tables_restore import OpenTables, TablesRestore
from penstock_postgres.target import destination, replaces

__all__ = ["restoring"]


@contextmanager
def restoring(
    settings: PostgresSettings, target: RestoreTarget, *, stop: StopToken, report: Report
) -> Iterator[Restore]:
    """One restore; when the block is left without `finish`, the databases that it had made are dropped again."""
    for warning in found_by(RESTORE_CHECKS, settings, settings.warnings):
        report.warn(warning)
    with (
        Elsewhere(settings) as elsewhere,
        undone_unless_finished(_Work(settings, target, elsewhere, stop, report)) as restore,
    ):
        yield restore


@contextmanager
def _collected(failures: list[SourceError]) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        failures.append(error)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one database is restored: `name` is what it is called until it is complete, `final` afterwards.

    `properties` is what it is given when it is complete, if anything.
    """

    spec: StreamSpec
    name: str
    final: str
    exists: bool
    atomic: bool
    clean: bool
    properties: Properties | None


class _Work:
    """What one restore has made, and what is left to do when everything was written."""

    def __init__(
        self, settings: PostgresSettings, target: RestoreTarget, elsewhere: Elsewhere, stop: StopToken, report: Report
    ) -> None:
        self._settings = settings
        self._elsewhere = elsewhere
        self._clean = target.clean
        self._strict = target.strict
        self._clients: list[Client] = []  # looked for when there is an archive
        self._options = RestoreOptions.of(target)
        self._stop = stop
        self._report = report
        self._made: list[str] = []
        self._replacements: list[Replacement] = []
        self._tables: OpenTables | None = None

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Restore one stream; a database goes into a new one, unless it exists and may not be replaced."""
        if spec.format == ACCOUNTS:
            restore_accounts(self._settings, blocks, self._options, self._report)
        elif spec.format == ARCHIVE:
            place = self._place(spec)
            with self._restoring_into(place) as into:
                into.run(spec.name, blocks, clean=place.clean)
            self._settle(place, into.work.loaded)
        elif spec.format == SCHEMA:
            self._complete_tables()
            self._tables = OpenTables(self._by_tables(spec))
            self._tables.begin(spec, blocks)
        elif spec.format in PARTS and self._tables is not None:
            self._tables.write(spec, blocks)
        else:
            raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of PostgreSQL's")

    def finish(self) -> None:
        """Put each database in its place. What was restored is kept from here on, whatever fails."""
        self._complete_tables()
        self._elsewhere.close()  # it may be to a database that is replaced
        self._made.clear()
        failures: list[SourceError] = []
        waiting = list(self._replacements)
        try:
            while waiting:
                with _collected(failures):
                    put_in_place(self._settings, waiting.pop(0), stop=self._stop, report=self._report)
        finally:
            for one in waiting:  # after an interruption
                self._report.warn(f"{one.name} is restored as {one.restored}; to put it in place, run {one.statements}")
        if failures:
            first, *others = failures
            for other in others:
                first.details += (other.message, *other.details, other.hint or "")
            raise first

    def undo(self) -> tuple[str, ...]:
        """Drop what was made, unless it is finished; says what could not be dropped."""
        if self._tables is not None:
            self._tables.abandon()
        left = []
        while self._made:
            name = self._made.pop()
            if trouble := drop_database(self._settings, name):
                left.append(f"the database {name}, which the restore had made, still exists: {trouble}")
        return tuple(left)

    def _complete_tables(self) -> None:
        """Complete the database whose last stream has come."""
        if self._tables is not None:
            self._tables.complete()

    @contextmanager
    def _by_tables(self, spec: StreamSpec) -> Iterator[TablesRestore]:
        """The restore of a database whose streams come one by one; it is in its place when the block has ended."""
        place = self._place(spec)
        with self._restoring_into(place) as into, closing(TablesRestore(into, clean=place.clean)) as tables:
            yield tables
            tables.complete()
        self._settle(place, into.work.loaded)

    def _place(self, spec: StreamSpec) -> _Place:
        """Where the database goes: it is made unless it is there to be filled."""
        settings, options = self._settings, self._options
        recorded = ArchiveAttributes.of(spec)
        with self._elsewhere.look_at(destination(settings, spec, options)) as (connection, name, exists):
            replaced = exists and self._clean and replaces(settings, connection, spec, options)
            initial = exists and "cluster" in spec.attributes and is_as_initialised(connection)
            own = properties_of(connection) if replaced else None
        if exists and not replaced:
            given = recorded.properties if initial and options.properties == "yes" else None
            atomic = options.single_transaction != "no"
            return _Place(spec, name, name, exists=True, atomic=atomic, clean=self._clean, properties=given)
        made = name_beside(name) if replaced else name
        # From beside it, whatever its own settings and encoding are.
        connection = self._elsewhere.beside(name)
        self._made.append(made)  # before: an interrupt may come when the server has made it already
        try:
            create_database(connection, made, recorded.properties, options)
        except (RestoreFailed, SourceDenied):  # refused: what has that name is not ours
            self._made.remove(made)
            raise
        properties = recorded.properties if options.properties == "yes" else own
        if properties is not None and options.owners == "yes":
            self._leave_out(give_owner(connection, made, properties, final=name))
        # One transaction, so that not even a killed restore leaves half a database under that name; where the
        # server has no room for so many locks, the database is at least dropped if anything fails.
        fits = recorded.objects <= room_for_locks(connection)
        atomic = options.single_transaction == "yes" or (options.single_transaction == "auto" and fits)
        return _Place(spec, made, name, exists=False, atomic=atomic, clean=False, properties=properties)

    def _settle(self, place: _Place, loaded: Loaded) -> None:
        """What a database is given when it is complete."""
        if place.properties is not None:
            connection = self._elsewhere.beside(place.name)
            if place.exists and self._options.owners == "yes":
                self._leave_out(give_owner(connection, place.name, place.properties, final=place.final))
            # Only now: they would have been in force for the restore itself.
            given = apply_properties(connection, place.name, place.properties, self._options, final=place.final)
            self._leave_out(given)
        if place.name != place.final:
            kept = name_beside(place.final)
            self._replacements.append(Replacement(place.final, place.name, kept, keeps_old=loaded.rows_lost))

    def _restoring_into(self, place: _Place) -> AbstractContextManager[Into]:
        self._clients = self._clients or find_clients("pg_restore", self._settings.client_path, self._stop)
        return restoring_into(
            self._settings,
            place.spec,
            place.name,
            self._options,
            self._clients,
            final=place.final,
            atomic=place.atomic,
            strict=self._strict,
            stop=self._stop,
            report=self._report,
        )

    def _leave_out(self, refused: Iterable[LeftOut]) -> None:
        leave_out(refused, self._report, strict=self._strict)
