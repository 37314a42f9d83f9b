"""Backup: one dump of one source becomes one snapshot, or nothing."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from penstock.api.errors import RepositoryError, SourceError, UsageError
from penstock.api.models import DumpPlan, Inspection, StreamSpec
from penstock.api.source import Dump, Source
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.format.encoding import encode_json
from penstock.format.snapshot import Catalogue, Manifest, StreamRecord
from penstock.repository import Repository
from penstock.repository.snapshots import list_snapshots
from penstock.repository.write.session import Writer

__all__ = ["BackupResult", "backup"]

Compression = Literal["auto"] | int


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A committed backup. Sizes in bytes: `read` of the dump, `stored` of all that the repository grew by."""

    snapshot: bytes
    catalogue: Catalogue
    read: int
    stored: int
    packs: int
    seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in JSON documents: sizes in bytes, times in seconds or as ISO 8601 in UTC."""
        return {
            "name": self.catalogue.backup,
            "snapshot": self.snapshot.hex(),
            "source": self.catalogue.source,
            "started": self.catalogue.started,
            "finished": self.catalogue.finished,
            "streams": self.catalogue.streams,
            "read": self.read,
            "stored": self.stored,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }


def backup(
    repository: Repository,
    source: Source,
    *,
    name: str,
    source_type: str,
    cache_dir: Path,
    memory: int,
    compression: Compression,
    listener: Listener,
) -> BackupResult:
    """Dump `source` into `repository` under the backup name `name`.

    Nothing is committed unless every stream ended well. Raises what the source, the sink and the repository raise.
    """
    if not name or not _writable(name):
        raise UsageError("a backup needs a name, in Unicode")
    if compression != "auto" and not 1 <= compression <= 19:
        raise UsageError("compression is auto or a zstd level from 1 to 19")
    repository.access.require_writer()
    begun = time.monotonic()
    with reporting(listener, "backup", name, repository.sink, source) as reporter:

        def on_damage(error: RepositoryError) -> None:
            reporter.warn(f"not used: {error}")

        with ExitStack() as writing:
            repository.sink.preflight()
            with source.dump() as dump:
                plan = dump.plan
                _check_plan(plan)
                reporter.phase("dumping", plan.inspection.size_estimate)
                writer = writing.enter_context(
                    Writer(
                        repository,
                        cache_folder=cache_dir,
                        memory=memory,
                        level=None if compression == "auto" else compression,
                        on_damage=on_damage,
                    )
                )
                records = tuple(_store(dump, spec, writer, reporter) for spec in plan.streams)
            # Only now has the source said that all of it was well.
            reporter.phase("committing")
            manifest = Manifest(plan.consistency, _inspection_json(plan.inspection), records)
            parents = [entry for entry in list_snapshots(repository, on_damage) if entry.catalogue.backup == name]
            catalogue, object_size = writer.commit(
                backup=name,
                source=source_type,
                parent=parents[-1].id if parents else None,
                manifest=manifest,
            )
        stored = catalogue.stored + object_size
        figures = {"read": catalogue.size, "stored": stored, "packs": writer.packs}
        reporter.completed(f"snapshot {catalogue.snapshot.hex()}", figures)
    return BackupResult(
        snapshot=catalogue.snapshot,
        catalogue=catalogue,
        read=catalogue.size,
        stored=stored,
        packs=writer.packs,
        seconds=time.monotonic() - begun,
        warnings=(*plan.inspection.warnings, *reporter.warnings),
    )


def _check_plan(plan: DumpPlan) -> None:
    names = [spec.name for spec in plan.streams]
    if not names or len(set(names)) != len(names):
        raise SourceError("the source's plan has no streams, or two of one name: a defect of the plugin")
    streams = [[spec.name, spec.format, dict(spec.attributes)] for spec in plan.streams]
    # Known before the dump, not when hours later the manifest is written, or cannot be read.
    if not _writable([plan.consistency, _inspection_json(plan.inspection), streams]):
        raise SourceError("the source's plan holds what is no Unicode text: a defect of the plugin")
    if min(spec.phase for spec in plan.streams) < 0:
        raise SourceError("the source's plan has a phase below zero: a defect of the plugin")


def _writable(value: object) -> bool:
    """Whether it can stand in a manifest: names from file systems may hold what is no Unicode."""
    try:
        encode_json({"value": value})
    except (TypeError, ValueError):
        return False
    return True


def _store(dump: Dump, spec: StreamSpec, writer: Writer, reporter: Reporter) -> StreamRecord:
    stream = dump.open(spec)
    stored = writer.store(stream, lambda done: reporter.progress(spec.name, done))
    try:
        # Raises unless the child ended well: end of file alone is not success.
        stream.close()
    except BaseException:
        stream.abort()
        raise
    reporter.base += stored.size
    return StreamRecord(
        name=spec.name,
        format=spec.format,
        phase=spec.phase,
        optional=spec.optional,
        attributes=dict(spec.attributes),
        size=stored.size,
        digest=stored.digest,
        recipe=stored.recipe,
    )


def _inspection_json(inspection: Inspection) -> dict[str, Any]:
    return {
        "client_version": inspection.client_version,
        "engine": inspection.engine,
        "inventory": [
            {"exact": item.exact, "kind": item.kind, "name": item.name, "rows": item.rows, "size": item.size}
            for item in inspection.inventory
        ],
        "server_version": inspection.server_version,
        "warnings": list(inspection.warnings),
    }
