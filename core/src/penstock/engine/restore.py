"""Restore: everything is looked at before the target is touched, and verified again on its way there."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.api.errors import RestoreFailed, UsageError
from penstock.api.models import LeftOut, RestorePlan, RestoreTarget, StreamSpec
from penstock.api.source import Restore, Source
from penstock.engine.leaving_out import left_out_json
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.format.manifest import StreamRecord
from penstock.repository import SnapshotEntry
from penstock.repository.read.budget import DEFAULT_MEMORY
from penstock.repository.read.dumped import spec_of
from penstock.repository.read.reader import SnapshotReader

__all__ = ["CatResult", "PlannedRestore", "RestoreResult", "cat", "plan_restore", "restore"]

_PROGRESS_BYTES = 4 * 1024 * 1024
#: Objects that an error names.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A completed restore. `written` in bytes; `target` for people; `verified_first`: all was read once before.

    `finished` is when the dump was, `signer` whose key signed it.
    """

    snapshot: bytes
    backup: str
    finished: str
    signer: str
    target: str
    streams: tuple[str, ...]
    written: int
    verified_first: bool
    seconds: float
    warnings: tuple[str, ...] = ()
    #: The first ten thousand objects that are missing, and how many are in all.
    left_out: tuple[LeftOut, ...] = ()
    left_out_count: int = 0

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock restore`."""
        return {
            "snapshot": self.snapshot.hex(),
            "backup": self.backup,
            "finished": self.finished,
            "signer": self.signer,
            "target": self.target,
            "streams": list(self.streams),
            "written": self.written,
            "verified_first": self.verified_first,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "left_out": [left_out_json(one) for one in self.left_out],
            "left_out_count": self.left_out_count,
        }


@dataclass(frozen=True, slots=True)
class PlannedRestore:
    """What a restore of a snapshot would do; `target` for people, `size` in bytes."""

    entry: SnapshotEntry
    target: str
    size: int
    plan: RestorePlan

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock restore --dry-run`."""
        plan = self.plan
        return {
            "snapshot": self.entry.id.hex(),
            "backup": self.entry.head.backup,
            "finished": self.entry.head.finished,
            "signer": self.entry.signer,
            "target": self.target,
            "streams": [spec.name for spec in plan.streams],
            "size": self.size,
            "steps": [{"action": step.action, "stream": step.stream} for step in plan.steps],
            "needs": [{"kind": n.kind, "name": n.name, "met": n.met, "note": n.note} for n in plan.needs],
            "left_out": [left_out_json(one) for one in plan.left_out],
            "warnings": list(plan.warnings),
        }


@dataclass(frozen=True, slots=True)
class CatResult:
    """A stream that was given out as a whole; `written` in bytes."""

    snapshot: bytes
    stream: str
    written: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What was done, as a JSON document."""
        return {
            "snapshot": self.snapshot.hex(),
            "stream": self.stream,
            "written": self.written,
            "seconds": round(self.seconds, 3),
        }


def plan_restore(
    entry: SnapshotEntry,
    source: Source,
    *,
    target: RestoreTarget,
    streams: Sequence[str] | None,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> PlannedRestore:
    """What `restore` would do, with everything looked at that it looks at, and nothing changed.

    Raises what `restore` raises before it touches the target, but does not read the streams.
    """
    with (
        reporting(listener, "restore", entry.id.hex(), entry.domain.sink, source) as reporter,
        SnapshotReader(entry, memory) as reader,
    ):
        chosen, plan = _prepare(reader, source, target, streams, reporter)
        reporter.completed("planned", {})
    return PlannedRestore(entry, source.location, sum(record.size for record in chosen), plan)


def restore(
    entry: SnapshotEntry,
    source: Source,
    *,
    target: RestoreTarget,
    streams: Sequence[str] | None,
    verify_first: bool,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
    on_left_out: Callable[[LeftOut], None] = lambda _: None,
) -> RestoreResult:
    """Write the snapshot `entry`, or only the named streams of it, to where `source`'s settings point.

    Before the target is touched, it is asked how it would take them, the packs and sessions that they need are looked
    for and, with `verify_first`, every stream is read and compared with its digest. Nothing else in the repository
    matters. Buffers take `memory` bytes at most. Objects that the target does not take are left out: they are in the
    result, and `on_left_out` takes each, as it comes, with its statement.

    Raises `SnapshotNotFound` for an unknown stream, `DamagedObject`, `MissingObject`, `Interrupted` when the sink's
    `stop` stops, `RestoreFailed` if the source leaves a stream unread or, with `target.strict`, an object out, and what
    the source raises.
    """
    begun = time.monotonic()
    with (
        reporting(listener, "restore", entry.id.hex(), entry.domain.sink, source) as reporter,
        SnapshotReader(entry, memory) as reader,
    ):
        reporter.on_left_out = on_left_out
        chosen, plan = _prepare(reader, source, target, streams, reporter)
        size = sum(record.size for record in chosen)
        if verify_first:
            reporter.phase("verifying", size)
            for record in chosen:
                _each_block(reader, record, reporter, lambda _: None)
        reporter.phase("restoring", size)
        for one in plan.left_out:
            reporter.left_out(one)
        with source.restore(plan) as restoring:
            for record, spec in zip(chosen, plan.streams, strict=True):
                _write(restoring, spec, _counted(reader, record, reporter))
                reporter.ended(record.name, record.size)
            if target.strict and reporter.left_out_count:
                # A source that notices in the middle should raise by itself; leaving here undoes what it can undo.
                raise RestoreFailed(
                    f"the target did not take everything: {reporter.objects_left_out[0]}",
                    hint="Give the target what is missing, or restore without --strict: then it is left out and named.",
                    details=tuple(str(one) for one in reporter.objects_left_out[1:_NAMED]),
                )
            reporter.phase("finishing")
            restoring.finish()
        reporter.completed("restored", {"written": size, "segments": reader.segments_read})
    return RestoreResult(
        snapshot=entry.id,
        backup=entry.head.backup,
        finished=entry.head.finished,
        signer=entry.signer,
        target=source.location,
        streams=tuple(record.name for record in chosen),
        written=size,
        verified_first=verify_first,
        seconds=time.monotonic() - begun,
        warnings=reporter.warnings,
        left_out=reporter.objects_left_out,
        left_out_count=reporter.left_out_count,
    )


def cat(
    entry: SnapshotEntry,
    stream: str,
    *,
    out: Callable[[memoryview], object],
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> CatResult:
    """Give the bytes of one stream to `out`, in order. Buffers take `memory` bytes at most.

    Raises `DamagedObject` at the first segment that is not what was written, or at the end if the whole is not; and
    `Interrupted` when the sink's `stop` stops.
    """
    begun = time.monotonic()
    with (
        reporting(listener, "cat", entry.id.hex(), entry.domain.sink) as reporter,
        SnapshotReader(entry, memory) as reader,
    ):
        record = reader.stream(stream)
        reporter.phase("reading", record.size)
        _each_block(reader, record, reporter, out)
        reporter.completed("written", {"written": record.size})
    return CatResult(entry.id, record.name, record.size, time.monotonic() - begun)


def _prepare(
    reader: SnapshotReader,
    source: Source,
    target: RestoreTarget,
    streams: Sequence[str] | None,
    reporter: Reporter,
) -> tuple[list[StreamRecord], RestorePlan]:
    """The streams to restore, and how the target would take them."""
    chosen = _choose(reader, streams)
    reporter.phase("preparing")
    plan = source.plan_restore([spec_of(record) for record in chosen], target)
    for warning in plan.warnings:
        reporter.warn(warning)
    lost = [one for one in plan.left_out if one.lost]
    if target.strict and lost:
        raise RestoreFailed(
            f"the target cannot take everything: {lost[0]}",
            hint="Give the target what is missing, or restore without --strict: then it is left out and named.",
            details=tuple(str(one) for one in lost[1:_NAMED]),
        )
    reader.require(chosen)
    return chosen, plan


def _choose(reader: SnapshotReader, names: Sequence[str] | None) -> list[StreamRecord]:
    """The streams of these names, or all, in the order of their phases; each once."""
    if names is not None and not names:
        raise UsageError("no stream was named", hint="Name at least one stream, or none to restore all of them.")
    records = reader.manifest.streams if names is None else [reader.stream(name) for name in dict.fromkeys(names)]
    return sorted(records, key=lambda record: record.phase)


class _Watched(Iterator[memoryview]):
    """The blocks of a stream, and the error that they broke off with."""

    def __init__(self, blocks: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self.error: BaseException | None = None

    def __next__(self) -> memoryview:
        try:
            return next(self._blocks)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise


def _write(restoring: Restore, spec: StreamSpec, blocks: Iterator[memoryview]) -> None:
    """One stream, to its end: only there is it known to be whole.

    A source that stops reading earlier, or that goes on although the stream broke off, has not restored it.
    """
    watched = _Watched(blocks)
    restoring.write(spec, watched)
    if watched.error is not None:
        raise watched.error
    if next(watched, None) is not None:
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
    reporter.ended(record.name, record.size)
