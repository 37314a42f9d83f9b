"""A repository in memory, a source whose bytes the test chooses, and the engine's verbs with short names."""

import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from penstock.api import (
    Dump,
    DumpPlan,
    DumpStream,
    Event,
    Inspection,
    PluginSettings,
    Restore,
    RestorePlan,
    RestoreTarget,
    Secret,
    Sink,
    Source,
    StreamSpec,
)
from penstock.engine import BackupResult, CheckReport, RestoreResult, backup, check, find, restore
from penstock.format.keys import PassphraseCost
from penstock.repository import Access, Repository, SnapshotEntry
from penstock.repository.domain import Domain
from penstock.repository.known.cache_file import cache_file
from penstock.repository.layout import DomainLayout
from penstock.repository.read.content import each_row, parts_of, sessions_of
from penstock.repository.snapshots import find_snapshot
from penstock.testing import MemorySink

__all__ = [
    "CHEAP", "KIB", "MIB", "PASSPHRASE", "BytesSource", "BytesStream", "Lab", "needed_by", "noise", "restored_from",
]  # fmt: skip

KIB = 1024
MIB = 1024 * KIB
PASSPHRASE = Secret("correct horse battery staple")
#: Argon2id with the least work allowed.
CHEAP = PassphraseCost(iterations=2, memory_kib=19456, lanes=1)


def noise(size: int, seed: int = 0) -> bytes:
    """Incompressible bytes without repetition, always the same."""
    return random.Random(seed).randbytes(size)


class BytesStream(DumpStream):
    """Gives `data` in reads of the sizes from `reads` (the last one repeated), and remembers how it ended."""

    def __init__(self, data: bytes, reads: Iterable[int] = (MIB,)) -> None:
        self._data = data
        self._sizes = iter(reads)
        self._size = 1
        self.done = 0
        self.closes = 0
        self.aborts = 0

    def readinto(self, buffer: memoryview, /) -> int:
        self._size = next(self._sizes, self._size)
        part = self._data[self.done : self.done + min(self._size, len(buffer))]
        buffer[: len(part)] = part
        self.done += len(part)
        return len(part)

    def close(self) -> None:
        self.closes += 1

    def abort(self) -> None:
        self.aborts += 1

    @property
    def ended(self) -> bool:
        """Whether it was closed or aborted."""
        return self.closes + self.aborts > 0


class _NoSettings(PluginSettings):
    pass


class BytesSource(Source):
    """Dumps the given streams, and keeps what is restored.

    `touched` lists the streams whose restore has begun: while it is empty, the target is untouched.
    """

    name = "bytes"
    Settings = _NoSettings

    def __init__(
        self,
        streams: Mapping[str, bytes],
        *,
        phases: Mapping[str, int] | None = None,
        opener: Callable[[bytes], DumpStream] = BytesStream,
    ) -> None:
        super().__init__(_NoSettings())
        self.streams = dict(streams)
        self._phases = phases or {}
        self._opener = opener
        self.opened: list[DumpStream] = []
        self.touched: list[str] = []
        self.restored: dict[str, bytes] = {}

    def inspect(self) -> Inspection:
        return Inspection("bytes", "1", "1", size_estimate=sum(map(len, self.streams.values())))

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        specs = tuple(StreamSpec(name, "raw", phase=self._phases.get(name, 0)) for name in self.streams)
        yield Dump(DumpPlan(self.inspect(), specs, consistency="one state"), self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        stream = self._opener(self.streams[spec.name])
        self.opened.append(stream)
        return stream

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        return RestorePlan(tuple(streams), target)

    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        yield Restore(self.take_back)

    def take_back(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        self.touched.append(spec.name)
        self.restored[spec.name] = b"".join(bytes(block) for block in blocks)


def restored_from(entry: SnapshotEntry) -> dict[str, bytes]:
    """What a snapshot restores to, by stream."""
    target = BytesSource({})
    restore(
        entry,
        target,
        target=RestoreTarget(),
        streams=None,
        verify_first=False,
        memory=64 * MIB,
        listener=lambda event: None,
    )
    return target.restored


def needed_by(entry: SnapshotEntry) -> frozenset[str]:
    """The keys of all objects of its domain that a snapshot needs, its head among them."""
    at = entry.domain.at
    needed = {at.snapshot_key(entry.id), at.session_key(entry.session)}
    needed |= {at.part_key(ref.part) for ref in parts_of(entry)}
    needed |= {at.session_key(session) for session in sessions_of(entry)}
    needed |= {at.pack_key(row.pack) for row in each_row(entry) if row.used}
    return frozenset(needed)


@contextmanager
def chosen_secrets() -> Iterator[None]:
    """Secrets and ids that are the same in every run of a test, and others in every other repository that it makes.

    On them depends where a dump is cut, and how much a night stores: what a test says of that must not be chance.
    """
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    _made[test] += 1
    with patch("os.urandom", random.Random(f"{test} {_made[test]}").randbytes):
        yield


#: How many repositories each test has made.
_made: Counter[str] = Counter()


class Lab:
    """One repository, opened by its owner, and one host's cache in `folder`.

    It is created, unless `owner` is given: then it is in the sink already.
    """

    def __init__(self, folder: Path, sink: Sink | None = None, owner: Access | None = None) -> None:
        self._threads = set(threading.enumerate())
        self.cache = folder
        self.sink = sink or MemorySink()
        if owner is None:
            with chosen_secrets():
                self.repository = Repository.create(self.sink, passphrase=PASSPHRASE, cost=CHEAP)
        else:
            self.repository = Repository.open(self.sink, owner)
        self.owner = self.repository.access
        self.events: list[Event] = []
        self.warnings: list[str] = []

    @property
    def domain(self) -> Domain:
        """The domain that its owner backs up to, with all keys."""
        return self.repository.domain

    @property
    def at(self) -> DomainLayout:
        """Where the objects of its domain are."""
        return self.domain.at

    def keys(self, prefix: str = "") -> set[str]:
        """The keys of all objects below a prefix."""
        return {info.key for info in self.sink.list(prefix)}

    def sessions(self, snapshot: str = "latest") -> tuple[bytes, ...]:
        """The sessions that a snapshot needs."""
        return tuple(sessions_of(find_snapshot(self.open(), snapshot)))

    def forget_past(self, cache: Path | None = None) -> None:
        """Delete what a host remembers of the last dumps: then it finds chunks by the sparse index alone."""
        folder = cache_file(cache or self.cache, self.domain.scope, self.sink.location).parent / "past"
        assert folder.is_dir()
        shutil.rmtree(folder)

    def flip(self, key: str, at: int) -> None:
        """Turn over one bit of a byte of an object; `at` may count from its end."""
        data = bytearray(self.sink.get(key))
        data[at] ^= 1
        self.sink.put(key, bytes(data))

    def remaining_threads(self, *, interrupted: bool = False) -> list[str]:
        """The names of our threads that were started since the lab was made, and have not ended.

        A run that is interrupted does not wait for its threads: they end a moment later. Any other has waited for them.
        """
        started = set(threading.enumerate()) - self._threads
        ours = [thread for thread in started if thread.name.startswith("penstock")]
        for thread in ours if interrupted else ():
            thread.join(60)
        return [thread.name for thread in ours if thread.is_alive()]

    def open(self, access: Access | Secret | None = None, sink: Sink | None = None) -> Repository:
        """Open the repository again: by default as its owner, through the lab's own sink."""
        return Repository.open(sink or self.sink, access or self.owner)

    def backup(
        self,
        source: Source | Mapping[str, bytes],
        *,
        name: str = "shop",
        tags: Sequence[str] = (),
        renew_every: timedelta | None = None,
        by: Repository | None = None,
        cache: Path | None = None,
        memory: int = 64 * MIB,
    ) -> BackupResult:
        """Back up a source, or the given streams."""
        return backup(
            by or self.open(),
            source if isinstance(source, Source) else BytesSource(source),
            name=name,
            source_type="bytes",
            cache_dir=cache or self.cache,
            memory=memory,
            compression="auto",
            tags=tags,
            renew_every=renew_every,
            listener=self.events.append,
        )

    def restore(
        self,
        snapshot: str | SnapshotEntry = "latest",
        *,
        into: Source | None = None,
        by: Repository | None = None,
        streams: Sequence[str] | None = None,
        cache: Path | None = None,
        verify_first: bool = True,
        memory: int = 64 * MIB,
    ) -> RestoreResult:
        """Restore a snapshot; what makes it doubtful that it is the latest is in `warnings` afterwards."""
        return restore(
            self.find(snapshot, by=by, cache=cache) if isinstance(snapshot, str) else snapshot,
            into or BytesSource({}),
            target=RestoreTarget(),
            streams=streams,
            verify_first=verify_first,
            memory=memory,
            listener=self.events.append,
        )

    def find(self, snapshot: str, *, by: Repository | None = None, cache: Path | None = None) -> SnapshotEntry:
        """The snapshot with that name; `warnings` then holds the reasons to doubt that it is the right one."""
        self.warnings = []
        return find(by or self.open(), snapshot, cache_dir=cache, warn=self.warnings.append)

    def restored(self, snapshot: str = "latest") -> dict[str, bytes]:
        """The restored bytes by stream."""
        target = BytesSource({})
        self.restore(snapshot, into=target)
        return target.restored

    def check(
        self,
        *,
        read_data: bool = True,
        by: Repository | None = None,
        cache: Path | None = None,
        checkpoint: str | None = None,
        memory: int = 64 * MIB,
    ) -> CheckReport:
        """Check the repository, as on a fresh host unless `cache` is given."""
        return check(
            by or self.open(),
            read_data=read_data,
            cache_dir=cache,
            checkpoint=checkpoint,
            memory=memory,
            listener=self.events.append,
        )
