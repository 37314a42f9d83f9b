"""A restore that is going on: databases are restored beside the old ones, and replace them when all are complete."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from penstock.api import (
    Report,
    Restore,
    RestoreFailed,
    RestoreTarget,
    SourceDenied,
    SourceError,
    StopToken,
    StreamSpec,
    UsageError,
)
from penstock.api.servers import undone_unless_finished
from penstock_postgres.accounts import restore_accounts
from penstock_postgres.archives import restore_archive
from penstock_postgres.attributes import ArchiveAttributes, Properties
from penstock_postgres.connection import about_tls, connect_anywhere, connect_beside
from penstock_postgres.database import (
    apply_properties,
    create_database,
    drop_database,
    is_as_initialised,
    name_beside,
)
from penstock_postgres.dumping import ACCOUNTS, ARCHIVE
from penstock_postgres.options import RestoreOptions
from penstock_postgres.probe import room_for_locks
from penstock_postgres.replacing import Replacement, put_in_place
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.target import destination, replaces

__all__ = ["restoring"]


@contextmanager
def restoring(
    settings: PostgresSettings, target: RestoreTarget, *, stop: StopToken, report: Report
) -> Iterator[Restore]:
    """One restore; when the block is left without `finish`, the databases that it had made are dropped again."""
    for warning in about_tls(settings):
        report.warn(warning)
    with undone_unless_finished(_Work(settings, target, stop, report)) as restore:
        yield restore


@contextmanager
def _collected(failures: list[SourceError]) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        failures.append(error)


class _Work:
    """What one restore has made, and what is left to do when everything was written."""

    def __init__(self, settings: PostgresSettings, target: RestoreTarget, stop: StopToken, report: Report) -> None:
        self._settings = settings
        self._clean = target.clean
        self._options = RestoreOptions.of(target)
        self._stop = stop
        self._report = report
        self._made: list[str] = []
        self._replacements: list[Replacement] = []
        #: Databases that every new server has, with what is recorded of them.
        self._initial: list[tuple[str, Properties]] = []

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Restore one stream; a database goes into a new one, unless it exists and may not be replaced."""
        if spec.format == ACCOUNTS:
            restore_accounts(self._settings, blocks, self._options, self._report)
        elif spec.format == ARCHIVE:
            self._write_archive(spec, blocks)
        else:
            raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of PostgreSQL's")

    def finish(self) -> None:
        """Put each database in its place. What was restored is kept from here on, whatever fails."""
        self._made.clear()
        failures: list[SourceError] = []
        waiting = list(self._replacements)
        try:
            while waiting:
                with _collected(failures):
                    put_in_place(self._settings, waiting.pop(0), stop=self._stop, report=self._report)
            for name, properties in self._initial:
                with _collected(failures), connect_beside(self._settings, name) as connection:
                    apply_properties(connection, name, properties, self._options)
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
        left = []
        while self._made:
            name = self._made.pop()
            if trouble := drop_database(self._settings, name):
                left.append(f"the database {name}, which the restore had made, still exists: {trouble}")
        return tuple(left)

    def _write_archive(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        settings, options = self._settings, self._options
        recorded = ArchiveAttributes.of(spec)
        with connect_anywhere(settings, destination(settings, spec, options)) as (connection, name, exists):
            replaced = exists and self._clean and replaces(connection, spec, options)
            initial = exists and "cluster" in spec.attributes and is_as_initialised(connection)
        if exists and not replaced:
            restore_archive(settings, spec, blocks, name, options, clean=self._clean, stop=self._stop)
            if initial and options.properties == "yes":
                self._initial.append((name, recorded.properties))
            return
        made = name_beside(name) if replaced else name
        # From beside it, whatever its own settings and encoding are.
        with connect_beside(settings, name) as connection:
            self._made.append(made)  # before: an interrupt may come when the server has made it already
            try:
                create_database(connection, made, recorded.properties, options)
            except (RestoreFailed, SourceDenied):  # refused: what has that name is not ours
                self._made.remove(made)
                raise
            if options.single_transaction == "auto" and recorded.objects > room_for_locks(connection):
                # All or nothing does not need it here: the database is dropped if anything fails.
                options = options.model_copy(update={"single_transaction": "no"})
            if options.properties == "yes":
                apply_properties(connection, made, recorded.properties, options)
        restore_archive(settings, spec, blocks, made, options, clean=False, stop=self._stop)
        if replaced:
            self._replacements.append(Replacement(name, made, name_beside(name)))
