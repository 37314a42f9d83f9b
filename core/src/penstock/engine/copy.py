"""Copy: a snapshot stored once more in another repository, under the keys of its owner."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from penstock.api.errors import Interrupted, UsageError, say_more
from penstock.engine.backup import Compression
from penstock.engine.doubts import Doubts
from penstock.engine.origins import Origins
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.engine.tags import MAX_TAGS
from penstock.engine.transfer import transfer
from penstock.format.times import as_text, is_time
from penstock.format.trust import Role
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.budget import MIB
from penstock.repository.domain import Domain
from penstock.repository.notices import read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.read.listing import listed
from penstock.repository.snapshots import each_snapshot
from penstock.repository.upkeep import marks
from penstock.repository.upkeep.marks import Marks, read_marks
from penstock.repository.write.session import Committed, Session

__all__ = ["Copying", "CopyResult"]

#: For each of reading and writing, in bytes.
_LEAST = 64 * MIB


@dataclass(frozen=True, slots=True)
class CopyResult:
    """A snapshot, `entry`, and its copy in another repository, which may have been there before.

    `dated` says whether retention there goes by the time of the original. `stored` is what the other repository grew
    by (bytes).
    """

    entry: SnapshotEntry
    copy: bytes
    there: bool
    dated: bool
    stored: int
    seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One of the `copies` in the document of `penstock copy`. Sizes in bytes."""
        return {
            "snapshot": self.entry.id.hex(),
            "backup": self.entry.head.backup,
            "finished": self.entry.head.finished,
            "copy": self.copy.hex(),
            "there": self.there,
            "dated": self.dated,
            "streams": self.entry.head.streams,
            "size": self.entry.head.size,
            "stored": self.stored,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }


class Copying:
    """Copies snapshots of `source` into `target`, another repository, with the keys that each was opened with.

    A context manager, for one thread. Entering looks what is there. `cache_dir`, `cache_size`, `pack_size` and
    `compression` are those of a backup into `target`. Buffers take `memory` bytes at most: half of it for reading.
    Raises `UsageError` where both are one repository, or for less than 128 MiB, and `RoleForbids` unless `source` was
    opened by its owner, and `target` by somebody who writes there.
    """

    def __init__(
        self,
        source: Repository,
        target: Repository,
        *,
        cache_dir: Path,
        cache_size: int | None = None,
        pack_size: int | None = None,
        memory: int = DEFAULT_MEMORY,
        compression: Compression = "auto",
    ) -> None:
        if source.id == target.id:
            raise UsageError(
                f"{target.sink.location} holds the same repository as {source.sink.location}",
                hint="Name another repository with --to. What copies this one as it is, is penstock replicate.",
            )
        if memory < 2 * _LEAST:
            raise UsageError(f"copying takes at least {2 * _LEAST // MIB} MiB of memory: half of it for reading")
        source.access.require_owner("copying a snapshot")
        self._target = target
        self._domain = target.domain
        self._cache_dir = cache_dir
        self._cache_size = cache_size
        self._pack_size = pack_size
        self._memory = memory // 2
        self._level = None if compression == "auto" else compression
        #: What is said of snapshots, by domain.
        self._marks: dict[bytes, Marks] = {}

    def __enter__(self) -> Self:
        domain = self._domain
        with ExitStack() as opening:
            requests = ReadBudget.of(DEFAULT_MEMORY, domain.sink.connections).requests
            self._workers = opening.enter_context(Workers(requests, "penstock-copy", domain.sink.stop))
            self._origins = Origins()
            opening.callback(self._origins.close)
            said = self._marks_of(domain)
            heads = listed(self._workers, domain.sink, domain.at.snapshots)
            notices = read_notices(domain, self._workers)
            # What is damaged there is no copy that counts: whoever copies it again gets another one.
            there = each_snapshot(domain, self._workers, heads, notices, on_damage=lambda _: None)
            self._origins.add(entry for entry in there if not said.badness(entry))
            self._closing = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.__exit__(kind, error, traceback)

    def copy(self, entry: SnapshotEntry, *, listener: Listener) -> CopyResult:
        """Copy one snapshot; one that is there already is not copied again.

        Every stream is compared with the digest of the dump on its way; the head there comes after all of it. Raises
        `NotCopied` if the snapshot does not come out whole, `RoleForbids` for a backup of a name that the key of the
        target may not store, and what the sinks and a commit raise; then there is no copy.
        """
        begun = time.monotonic()
        with reporting(listener, "copy", entry.id.hex(), entry.domain.sink, self._domain.sink) as reporter:
            self._domain.require_may_store(entry.head.backup)
            copy = self._origins.find(entry.head)
            there, read, stored = copy is not None, 0, 0
            if copy is None:
                done = self._store(entry, reporter)
                self._origins.note(done.head, done.digest)
                copy = done.head.snapshot, done.digest
                read, stored = done.head.size, done.stored
            try:
                # Also of one that was there: what copied it may have been killed before it said so.
                dated = self._date(entry, copy)
            except (Interrupted, KeyboardInterrupt) as error:
                say_more(error, f"the copy {copy[0].hex()} is committed")
                raise
            reporter.completed(f"snapshot {copy[0].hex()}", {"read": read, "stored": stored})
        return CopyResult(
            entry=entry,
            copy=copy[0],
            there=there,
            dated=dated,
            stored=stored,
            seconds=time.monotonic() - begun,
            warnings=reporter.warnings,
        )

    def _store(self, entry: SnapshotEntry, reporter: Reporter) -> Committed:
        tags = sorted(self._marks_of(entry.domain).tags(entry))
        if more := tags[MAX_TAGS:]:
            reporter.warn(f"a snapshot is stored with {MAX_TAGS} tags at most; not copied: {', '.join(more)}")
        with Doubts(reporter.warn, "not used") as on_damage:
            session = Session(
                self._target,
                entry.head.backup,
                cache_folder=self._cache_dir,
                cache_size=self._cache_size,
                pack_size=self._pack_size,
                memory=self._memory,
                level=self._level,
                tags=tags[:MAX_TAGS],
                on_damage=on_damage,
                on_trouble=reporter.warn,
            )
            return transfer(entry, session, memory=self._memory, reporter=reporter)

    def _date(self, entry: SnapshotEntry, copy: tuple[bytes, bytes]) -> bool:
        """Say when the original was stored, for retention: the store of the copy dates it at the copying.

        Only the owner can: whether it was said.
        """
        domain = self._domain
        said = self._marks_of(domain)
        if copy in said.written:
            return True
        original = self._marks_of(entry.domain).dated(entry).modified
        time = as_text(original) if original else entry.head.finished
        if domain.access.role is not Role.OWNER or not is_time(time):
            return False
        self._workers.call(marks.written, domain, dict([copy]), time)
        said.written[copy] = time
        return True

    def _marks_of(self, domain: Domain) -> Marks:
        if domain.scope not in self._marks:
            self._marks[domain.scope] = read_marks(domain, self._workers)
        return self._marks[domain.scope]
