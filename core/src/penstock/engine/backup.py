"""Backup: one dump of one source becomes one snapshot, or nothing at all."""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from penstock.api.errors import DumpFailed, Interrupted, RepositoryError, UsageError, say_more
from penstock.api.models import DumpPlan, LeftOut, StreamSpec
from penstock.api.source import Dump, Source
from penstock.engine.doubts import Doubts
from penstock.engine.dumping.plans import as_dumped, inspection_of, writable
from penstock.engine.dumping.side_by_side import ONE_JOB, Jobs, in_processes, in_threads, write_all
from penstock.engine.dumping.streams import FinishedStream, store_stream
from penstock.engine.dumping.units import FinishedUnit, Unit, units_of
from penstock.engine.dumping.workplace import Order
from penstock.engine.leaving_out import left_out_json
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.engine.tags import MAX_TAGS, checked_tag
from penstock.format.head import Head
from penstock.repository import Repository
from penstock.repository.checkpoint import phrase_of
from penstock.repository.write.renewal import LEAST_RENEWAL
from penstock.repository.write.session import Committed, Session
from penstock.repository.write.stream import StreamWriter

__all__ = ["BackupResult", "backup"]

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
    jobs: Jobs = ONE_JOB,
    listener: Listener,
) -> BackupResult:
    """Dump `source` into `repository` under the backup name `name`.

    `cache_size` (bytes) limits what this host remembers of the dump; None leaves that to its size. `pack_size` (bytes)
    makes packs smaller than the usual 16 MiB. `tags` are the snapshot's, as `checked_tag` takes them. Once in
    `renew_every`, a day at least, everything is stored anew; None never does that. The repository is brought in step
    before the database's view is opened. `jobs` says how many streams are written at once; `memory` (bytes) is shared.
    Nothing is committed unless every stream ended well. What the source says it cannot dump is recorded and in the
    result: whoever asked for the backup must be told that it is not whole. A `DumpFailed` that is `retryable` begins
    the whole dump again, three times at most; what was stored by then is not stored again. Raises what the source, the
    sink and the repository raise.
    """
    if not name or not writable(name):
        raise UsageError("invalid backup name: it must be non-empty Unicode text")
    if compression != "auto" and not 1 <= compression <= 19:
        raise UsageError("invalid compression: it must be auto or a zstd level from 1 to 19")
    tags = sorted({checked_tag(tag) for tag in tags})
    if len(tags) > MAX_TAGS:
        raise UsageError(f"a backup has {MAX_TAGS} tags at most")
    if renew_every is not None and renew_every < LEAST_RENEWAL:
        raise UsageError("invalid renew_every: it must be a day or more")
    repository.domain.require_may_store(name)
    jobs = jobs.of(source, memory)
    level = None if compression == "auto" else compression
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
                level=level,
                tags=tags,
                renew_every=renew_every,
                on_damage=on_damage,
                on_trouble=reporter.warn,
            )

        order = Order(name, b"", cache_dir, cache_size, pack_size, memory // jobs.count, level, jobs.count)
        run = _Run(repository, source, source_type, reporter, on_damage, jobs, order)
        plan, done = _until_undisturbed(lambda: run.attempt(new_session()), on_retry=reporter.begin_again)
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


@dataclass(frozen=True, slots=True)
class _Run:
    """How all attempts of one backup are made."""

    repository: Repository
    source: Source
    source_type: str
    reporter: Reporter
    on_damage: Callable[[RepositoryError], None]
    jobs: Jobs
    order: Order

    def attempt(self, session: Session) -> tuple[DumpPlan, Committed]:
        """One dump, from its view to the commit; a `DumpFailed` comes before anything of it counts."""
        reporter = self.reporter
        reporter.phase("preparing")
        done: Committed | None = None
        try:
            with session, ExitStack() as writing:
                # A host with too little memory for its buffers says so before the dump begins.
                writer = writing.enter_context(session.writer()) if self.jobs.count == 1 else None
                with self.source.dump() as dump:
                    plan = dump.plan
                    inspection_of(plan)  # before the dump, not hours later when the manifest is written
                    reporter.phase("dumping", plan.inspection.size_estimate)
                    for one in plan.inspection.left_out:
                        reporter.left_out(one)
                    units = units_of(plan.streams, self.jobs.count)
                    finished: list[FinishedUnit] = []
                    if len(units) == 1 and writer is None:
                        writer = writing.enter_context(session.writer())
                    if writer is not None:
                        streams = [self._store(dump, *one, writer) for one in enumerate(plan.streams)]
                    else:
                        finished = self._side_by_side(session, dump, units)
                        streams = sorted((one for unit in finished for one in unit.streams), key=lambda one: one.number)
                inspection, unlisted = inspection_of(as_dumped(plan, streams, reporter.objects_left_out))
                if unlisted:
                    reporter.warn(f"not recorded: the list of {unlisted} things that the database holds")
                # Only now has the source confirmed that the whole dump succeeded.
                reporter.phase("committing")
                done = session.commit(
                    source=self.source_type,
                    consistency=plan.consistency,
                    inspection=inspection,
                    streams=[(one.spec, one.stored) for one in streams],
                    written=[writer.finish()] if writer else [unit.written for unit in finished],
                )
            figures = {"read": done.head.size, "stored": done.stored, "packs": done.packs}
            reporter.completed(f"snapshot {done.head.snapshot.hex()}", figures)
        except (Interrupted, KeyboardInterrupt) as error:
            if done is not None:
                say_more(error, f"the snapshot {done.head.snapshot.hex()} is committed")
            raise
        return plan, done

    def _store(self, dump: Dump, number: int, spec: StreamSpec, writer: StreamWriter) -> FinishedStream:
        one = store_stream(dump.open, number, spec, writer, self.reporter.progress)
        self.reporter.ended(spec.name, one.stored.size)
        for left_out in one.left_out:
            self.reporter.left_out(left_out)
        return one

    def _side_by_side(self, session: Session, dump: Dump, units: Sequence[Unit]) -> list[FinishedUnit]:
        workplace = self.jobs.workplace
        count = min(self.jobs.count, len(units))
        if self.jobs.executor == "threads" or workplace is None:
            with in_threads(session, dump, count, len(units), self.reporter) as submit:
                return write_all(units, submit, self.reporter, lambda _: None)
        told = _Telling(self.reporter, self.on_damage)
        size = self.order.cache_size
        order = self.order if size is None else replace(self.order, cache_size=size and max(1, size // len(units)))
        with in_processes(session, order, workplace, count, told, self.repository.domain) as submit:
            return write_all(units, submit, self.reporter, self.jobs.note_spent)


class _Telling:
    """Takes what workers tell, as the reporter of the run does; what all of them meet is told once."""

    def __init__(self, reporter: Reporter, on_damage: Callable[[RepositoryError], None]) -> None:
        self._reporter = reporter
        self.note, self.retry = reporter.note, reporter.retry
        self.left_out, self.progress, self.damage = reporter.left_out, reporter.progress, on_damage

    def warn(self, message: str) -> None:
        if message not in self._reporter.warnings:
            self._reporter.warn(message)
