"""Backup: one dump of one source becomes one snapshot, or nothing at all."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from penstock.api.errors import DumpFailed, Interrupted, SourceError, UsageError, say_more
from penstock.api.models import DumpPlan, Inspection, InventoryItem, LeftOut, StreamSpec
from penstock.api.source import Dump, Source
from penstock.engine.doubts import Doubts
from penstock.engine.leaving_out import left_out_json, recorded_left_out
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.engine.tags import MAX_TAGS, checked_tag
from penstock.format.encoding import encode_json
from penstock.format.head import Head
from penstock.format.manifest import MAX_MANIFEST
from penstock.repository import Repository
from penstock.repository.checkpoint import phrase_of
from penstock.repository.write.renewal import LEAST_RENEWAL
from penstock.repository.write.session import Committed, Session
from penstock.repository.write.stream import StoredStream, StreamWriter

__all__ = ["BackupResult", "backup"]

#: What a manifest takes beside names and attributes, for each stream and in all, generously: the numbers of its parts.
_OF_A_STREAM = 200
_OF_A_MANIFEST = 1024 * 1024
#: Objects that were left out, and that a manifest names.
_LEFT_OUT_RECORDED = 1000
#: Dumps that are begun before one that only the moment spoils is given up.
_ATTEMPTS = 3

_T = TypeVar("_T")
Compression = Literal["auto"] | int


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A committed backup. Sizes in bytes: `read` is the size of the dump, `stored` what the repository grew by.

    If anything is left out, it is no success.
    """

    snapshot: bytes
    head: Head
    #: Of its head.
    digest: bytes
    read: int
    stored: int
    packs: int
    seconds: float
    warnings: tuple[str, ...]
    retries: int = 0
    #: The first ten thousand objects that the source could not dump, and how many are in all.
    left_out: tuple[LeftOut, ...] = ()
    left_out_count: int = 0

    def to_json(self) -> dict[str, Any]:
        """The form used in JSON documents: sizes in bytes, times in seconds or as ISO 8601 in UTC."""
        return {
            "name": self.head.backup,
            "snapshot": self.snapshot.hex(),
            "checkpoint": phrase_of(self.digest),
            "source": self.head.source,
            "started": self.head.started,
            "finished": self.head.finished,
            "streams": self.head.streams,
            "read": self.read,
            "stored": self.stored,
            "seconds": round(self.seconds, 3),
            "retries": self.retries,
            "warnings": list(self.warnings),
            "left_out": [left_out_json(one) for one in self.left_out],
            "left_out_count": self.left_out_count,
        }


def backup(
    repository: Repository,
    source: Source,
    *,
    name: str,
    source_type: str,
    cache_dir: Path,
    cache_size: int | None = None,
    pack_size: int | None = None,
    memory: int,
    compression: Compression,
    tags: Collection[str] = (),
    renew_every: timedelta | None = None,
    listener: Listener,
) -> BackupResult:
    """Dump `source` into `repository` under the backup name `name`.

    `cache_size` (bytes) limits what this host remembers of the dump; None leaves that to its size. `pack_size` (bytes)
    makes packs smaller than the usual 16 MiB. `tags` are the snapshot's, as `checked_tag` takes them. Once in
    `renew_every`, a day at least, everything is stored anew; None never does that. The repository is brought in step
    before the database's view is opened.
    Nothing is committed unless every stream ended well. What the source says it cannot dump is recorded and in the
    result: whoever asked for the backup must be told that it is not whole. A `DumpFailed` that is `retryable` begins
    the whole dump again, three times at most; what was stored by then is not stored again. Raises what the source, the
    sink and the repository raise.
    """
    if not name or not _writable(name):
        raise UsageError("invalid backup name: it must be non-empty Unicode text")
    if compression != "auto" and not 1 <= compression <= 19:
        raise UsageError("invalid compression: it must be auto or a zstd level from 1 to 19")
    tags = sorted({checked_tag(tag) for tag in tags})
    if len(tags) > MAX_TAGS:
        raise UsageError(f"a backup has {MAX_TAGS} tags at most")
    if renew_every is not None and renew_every < LEAST_RENEWAL:
        raise UsageError("invalid renew_every: it must be a day or more")
    repository.domain.require_may_store(name)
    begun = time.monotonic()
    with (
        reporting(listener, "backup", name, repository.sink, source) as reporter,
        Doubts(reporter.warn, "not used") as on_damage,
    ):

        def new_session() -> Session:
            return Session(
                repository,
                name,
                cache_folder=cache_dir,
                cache_size=cache_size,
                pack_size=pack_size,
                memory=memory,
                level=None if compression == "auto" else compression,
                tags=tags,
                renew_every=renew_every,
                on_damage=on_damage,
                on_trouble=reporter.warn,
            )

        plan, done = _until_undisturbed(
            lambda: _attempt(new_session(), source, source_type, reporter), on_retry=reporter.begin_again
        )
    return BackupResult(
        snapshot=done.head.snapshot,
        head=done.head,
        digest=done.digest,
        read=done.head.size,
        stored=done.stored,
        packs=done.packs,
        seconds=time.monotonic() - begun,
        warnings=(*plan.inspection.warnings, *reporter.warnings),
        retries=reporter.retries,
        left_out=reporter.objects_left_out,
        left_out_count=reporter.left_out_count,
    )


def _until_undisturbed(attempt: Callable[[], _T], *, on_retry: Callable[[str], None]) -> _T:
    """What `attempt` gives, made again after a `DumpFailed` that another dump may be without."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return attempt()
        except DumpFailed as error:
            if not error.retryable:
                raise
            on_retry(f"{error.message}: the dump begins again")
    return attempt()


def _attempt(session: Session, source: Source, source_type: str, reporter: Reporter) -> tuple[DumpPlan, Committed]:
    """One dump, from its view to the commit; a `DumpFailed` comes before anything of it counts."""
    reporter.phase("preparing")
    done: Committed | None = None
    try:
        with session, session.writer() as writer:
            with source.dump() as dump:
                plan = dump.plan
                _inspection_of(plan)  # before the dump, not hours later when the manifest is written
                reporter.phase("dumping", plan.inspection.size_estimate)
                for one in plan.inspection.left_out:
                    reporter.left_out(one)
                streams = [_store(dump, number, spec, writer, reporter) for number, spec in enumerate(plan.streams)]
            inspection, unlisted = _inspection_of(_as_dumped(plan, streams, reporter.objects_left_out))
            if unlisted:
                reporter.warn(f"not recorded: the list of {unlisted} things that the database holds")
            # Only now has the source confirmed that the whole dump succeeded.
            reporter.phase("committing")
            done = session.commit(
                source=source_type,
                consistency=plan.consistency,
                inspection=inspection,
                streams=[(one.spec, one.stored) for one in streams],
                written=[writer.finish()],
            )
        figures = {"read": done.head.size, "stored": done.stored, "packs": done.packs}
        reporter.completed(f"snapshot {done.head.snapshot.hex()}", figures)
    except (Interrupted, KeyboardInterrupt) as error:
        if done is not None:
            say_more(error, f"the snapshot {done.head.snapshot.hex()} is committed")
        raise
    return plan, done


@dataclass(frozen=True, slots=True)
class _Dumped:
    """One stream that was dumped: `spec` with the attributes that only the dump has shown."""

    spec: StreamSpec
    stored: StoredStream
    inventory: tuple[InventoryItem, ...]


def _as_dumped(plan: DumpPlan, streams: Sequence[_Dumped], left_out: tuple[LeftOut, ...]) -> DumpPlan:
    """The plan, with what the dump has shown of its streams."""
    items = {(item.kind, item.name): item for item in plan.inspection.inventory}
    items |= {(item.kind, item.name): item for one in streams for item in one.inventory}
    inspection = replace(plan.inspection, inventory=tuple(items.values()), left_out=left_out)
    return replace(plan, inspection=inspection, streams=tuple(one.spec for one in streams))


def _inspection_of(plan: DumpPlan) -> tuple[dict[str, Any], int]:
    """What is recorded of the source's report, and how many items of its inventory there is no room for.

    Raises `SourceError` for a plan of which no manifest can be made.
    """
    inspection = _inspection_json(plan.inspection)
    streams = _check_plan(plan, inspection)
    room = MAX_MANIFEST - _OF_A_MANIFEST - len(streams) - _OF_A_STREAM * len(plan.streams)
    if room < 0:
        raise SourceError(
            f"{len(plan.streams)} streams with such attributes do not fit into a manifest",
            hint="Leave something out, or make several backups of it.",
        )
    if len(encode_json(inspection)) <= room:
        return inspection, 0
    return {**inspection, "inventory": []}, len(inspection["inventory"])


def _check_plan(plan: DumpPlan, inspection: dict[str, Any]) -> bytes:
    names = [spec.name for spec in plan.streams]
    if not names or len(set(names)) != len(names):
        raise SourceError("the source's plan has no streams, or two with the same name: a defect in the plugin")
    streams = [[spec.name, spec.format, dict(spec.attributes), spec.record_separator.hex()] for spec in plan.streams]
    if not _writable([plan.consistency, inspection, streams]):
        raise SourceError("the source's plan contains text that is not valid Unicode: a defect in the plugin")
    if min(spec.phase for spec in plan.streams) < 0:
        raise SourceError("the source's plan has a negative phase: a defect in the plugin")
    return encode_json({"streams": streams})


def _writable(value: object) -> bool:
    """Whether the value can be stored in a manifest: file names may not be valid Unicode."""
    try:
        encode_json({"value": value})
    except (TypeError, ValueError):
        return False
    return True


def _store(dump: Dump, number: int, spec: StreamSpec, writer: StreamWriter, reporter: Reporter) -> _Dumped:
    stream = dump.open(spec)
    stored = writer.store(number, spec, stream, lambda done: reporter.progress(spec.name, done))
    try:
        # Raises unless the child succeeded: end of file alone is not success.
        stream.close()
        outcome = stream.outcome()
    except BaseException:
        stream.abort()
        raise
    reporter.base += stored.size
    if outcome.attributes:
        spec = replace(spec, attributes={**spec.attributes, **outcome.attributes})
    for one in outcome.left_out:
        reporter.left_out(one)
    return _Dumped(spec, stored, outcome.inventory)


def _inspection_json(inspection: Inspection) -> dict[str, Any]:
    left_out = [recorded_left_out(one) for one in inspection.left_out[:_LEFT_OUT_RECORDED]]
    return {
        "client_version": inspection.client_version,
        "engine": inspection.engine,
        "inventory": [
            {"exact": item.exact, "kind": item.kind, "name": item.name, "rows": item.rows, "size": item.size}
            for item in inspection.inventory
        ],
        "server_version": inspection.server_version,
        "warnings": list(inspection.warnings),
        **({"left_out": left_out} if left_out else {}),
    }
