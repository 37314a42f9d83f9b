"""Restore: everything is looked at before the target is touched, and verified again on its way there."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.api.errors import DamagedObject, MissingObject, RestoreFailed, SnapshotNotFound
from penstock.api.models import RestoreTarget, StreamSpec
from penstock.api.source import Restore, Source
from penstock.engine.check import Finding, examine_documents
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.format.snapshot import StreamRecord
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.read.reader import SnapshotReader

__all__ = ["RestoreResult", "cat", "restore"]

_PROGRESS_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A completed restore; `written` in bytes."""

    snapshot: bytes
    streams: tuple[str, ...]
    written: int
    seconds: float


def restore(
    repository: Repository,
    entry: SnapshotEntry,
    source: Source,
    *,
    target: RestoreTarget,
    streams: Sequence[str] | None,
    verify_first: bool,
    despite_damage: bool,
    cache_dir: Path | None,
    listener: Listener,
) -> RestoreResult:
    """Write the snapshot `entry`, or only the named streams of it, to where `source`'s settings point.

    Before the target is touched: the target is asked whether it can take them, all small objects of the repository
    are verified (not with `despite_damage`), and every stream is read and compared with its digest (not without
    `verify_first`). Raises `DamagedObject`, `MissingObject` and what the source raises.
    """
    begun = time.monotonic()
    with (
        reporting(listener, "restore", entry.id.hex(), repository.sink, source) as reporter,
        SnapshotReader(repository, entry) as reader,
    ):
        chosen = _choose(reader, streams)
        specs = [_spec(record) for record in chosen]
        source.check_target(specs, target)
        if not despite_damage:
            _refuse_damage(examine_documents(repository, cache_dir))
        size = sum(record.size for record in chosen)
        if verify_first:
            reporter.phase("verifying", size)
            for record in chosen:
                _each_block(reader, record, reporter, len)
        reporter.phase("restoring", size)
        with source.restore(specs, target) as restoring:
            for record, spec in zip(chosen, specs, strict=True):
                _write(restoring, spec, _counted(reader, record, reporter))
                reporter.base += record.size
            restoring.finish()
        reporter.completed("restored", {"written": size, "segments": reader.segments_read})
    return RestoreResult(entry.id, tuple(record.name for record in chosen), size, time.monotonic() - begun)


def cat(
    repository: Repository,
    entry: SnapshotEntry,
    stream: str,
    *,
    out: Callable[[memoryview], object],
    listener: Listener,
) -> int:
    """Give the bytes of one stream to `out`, in order; their number.

    Raises `DamagedObject` where they stop being what was written; all before that were.
    """
    with (
        reporting(listener, "cat", entry.id.hex(), repository.sink) as reporter,
        SnapshotReader(repository, entry) as reader,
    ):
        record = reader.stream(stream)
        reporter.total = record.size
        _each_block(reader, record, reporter, out)
        reporter.completed("written", {"written": record.size})
        return record.size


def _choose(reader: SnapshotReader, names: Sequence[str] | None) -> list[StreamRecord]:
    if names is not None and not names:
        raise SnapshotNotFound("no stream was named")
    records = list(reader.manifest.streams) if names is None else [reader.stream(name) for name in names]
    return sorted(records, key=lambda record: record.phase)


def _spec(record: StreamRecord) -> StreamSpec:
    return StreamSpec(
        name=record.name,
        format=record.format,
        phase=record.phase,
        size_estimate=record.size,
        optional=record.optional,
        attributes=record.attributes,
    )


def _refuse_damage(findings: Sequence[Finding]) -> None:
    if findings:
        kind = MissingObject if findings[0].gone else DamagedObject
        raise kind(
            findings[0].key,
            findings[0].problem,
            hint="penstock check tells more; --despite-damage restores if this snapshot itself is whole",
            details=tuple(f"{finding.key}: {finding.problem}" for finding in findings[1:]),
        )


def _write(restoring: Restore, spec: StreamSpec, blocks: Iterator[memoryview]) -> None:
    """One stream, to its end: only there is it known to be whole. A source that stops earlier has not restored it."""
    restoring.write(spec, blocks)
    if next(blocks, None) is not None:
        raise RestoreFailed(
            f"{spec.name} was not restored: the source stopped reading before the end of the stream",
            hint="Report it to the author of the plugin.",
        )


def _counted(reader: SnapshotReader, record: StreamRecord, reporter: Reporter) -> Iterator[memoryview]:
    """The blocks of a stream, counted as they go."""
    done = told = 0
    for block in reader.blocks(record):
        yield block
        done += len(block)
        if done - told >= _PROGRESS_BYTES:
            told = done
            reporter.progress(record.name, done)
    reporter.progress(record.name, done)


def _each_block(
    reader: SnapshotReader, record: StreamRecord, reporter: Reporter, use: Callable[[memoryview], object]
) -> None:
    for block in _counted(reader, record, reporter):
        use(block)
    reporter.base += record.size
