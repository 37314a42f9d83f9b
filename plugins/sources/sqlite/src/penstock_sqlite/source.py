"""The source: one SQLite database file, as one stream."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from penstock.api import (
    Capability,
    Dump,
    DumpPlan,
    DumpStream,
    Inspection,
    InventoryItem,
    Restore,
    RestorePlan,
    RestoreTarget,
    Source,
    StreamSpec,
    UsageError,
    found_by,
)
from penstock_sqlite.checks import CHECKS
from penstock_sqlite.options import RestoreOptions
from penstock_sqlite.process import Reader
from penstock_sqlite.restoring import ImageAttributes, check_place, plan_for, restoring
from penstock_sqlite.settings import SqliteSettings, settings_from_url

__all__ = ["FORMAT", "SqliteSource"]

#: The format of the stream: the bytes of a database file that needs no journal and no log.
FORMAT = "sqlite"
_CONSISTENCY = "one read transaction"


class SqliteSource(Source):
    """Dumps the image of a database file under one read transaction, and writes such an image back.

    Writers are not stopped in WAL mode. Nothing is copied on disk unless the setting `copy_to` asks for it. The
    options of a restore: `check` is `quick` (the default), `full` or `off`, for the check that the restored database
    has to pass before it takes its place; `owner` and `mode` say whose the file is.
    """

    name = "sqlite"
    schemes = ("sqlite",)
    Settings = SqliteSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONSISTENT})

    settings: SqliteSettings

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """As `settings_from_url` of the settings module says."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The database file."""
        return str(self.settings.path.absolute())

    def inspect(self) -> Inspection:
        """As the contract says; makes no copy, whatever `copy_to` says."""
        reader = Reader(self.settings.model_copy(update={"copy_to": None}), self.stop)
        try:
            answer = reader.answer()
            found = _inspection(self.settings, answer)
            return replace(found, streams=(_stream(self.settings.path, answer),), consistency=_CONSISTENCY)
        finally:
            reader.end()

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """As the contract says; the view belongs to a child process, which gives out the one stream."""
        reader = Reader(self.settings, self.stop)
        try:
            answer = reader.answer()
            plan = DumpPlan(
                inspection=_inspection(self.settings, answer),
                streams=(_stream(self.settings.path, answer),),
                consistency=_CONSISTENCY,
            )

            def start(spec: StreamSpec) -> DumpStream:
                if spec.format != FORMAT:
                    raise UsageError(f"{spec.name}: not a stream of this dump")
                return reader.stream(int(answer["size"]))

            yield Dump(plan, start)
        finally:
            reader.end()

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        """As the contract says; with `clean` it also refuses a database that another process has open."""
        if len(streams) != 1 or streams[0].format != FORMAT:
            names = ", ".join(f"{spec.name} ({spec.format})" for spec in streams) or "none"
            raise UsageError(f"a SQLite database is restored from one stream of format {FORMAT}, not from: {names}")
        options = RestoreOptions.of(target)
        ImageAttributes.of(streams[0])
        check_place(self.settings.path, clean=target.clean)
        return plan_for(self.settings.path, streams[0], target, options)

    def restore(self, plan: RestorePlan) -> AbstractContextManager[Restore]:
        """As the contract says: the database appears whole and checked, or not at all."""
        options = RestoreOptions.of(plan.target)
        return restoring(self.settings.path, options, clean=plan.target.clean, stop=self.stop, report=self.report)


def _inspection(settings: SqliteSettings, answer: Mapping[str, Any]) -> Inspection:
    import sqlite3  # the command line starts without it

    facts = {**answer, "copied": settings.copy_to is not None}
    return Inspection(
        engine="SQLite",
        server_version=answer["written_by"],
        client_version=sqlite3.sqlite_version,
        size_estimate=answer["size"],
        inventory=tuple(InventoryItem(**item, exact=item["rows"] is not None) for item in answer["inventory"]),
        warnings=tuple(found_by(CHECKS, facts, settings.warnings)),
    )


def _stream(path: Path, answer: Mapping[str, Any]) -> StreamSpec:
    names = ("page_size", "page_count", "journal_mode", "encoding", "user_version", "application_id", "mode")
    name = path.name.encode(errors="replace").decode()  # a name of any bytes, as text that can be stored
    return StreamSpec(
        name="".join(letter if letter.isprintable() else "_" for letter in name),
        format=FORMAT,
        size_estimate=answer["size"],
        attributes={
            "sqlite_version": answer["written_by"],
            **{key: str(answer[key]) for key in names},
            **({"damaged": "yes"} if answer["damage"] else {}),
        },
    )
