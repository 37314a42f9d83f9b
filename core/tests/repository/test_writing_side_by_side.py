"""Streams of one dump are written side by side, by threads and by processes, and committed together."""

import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import pytest
from core.tests.repository.folder_sink import FolderSink
from core.tests.repository.lab import MIB, PASSPHRASE, BytesSource, BytesStream, Lab, noise

from penstock.api import Capability, Interrupted, ObjectInfo, Sink, StopToken, StreamSpec
from penstock.repository import Access, Repository
from penstock.repository.snapshots import list_snapshots
from penstock.repository.write.session import Session
from penstock.repository.write.stream import StoredStream, Written
from penstock.testing import MemorySink
from penstock.testing.memory import MemorySettings

SHARED = noise(5 * MIB, 7)
STREAMS = {"one": noise(18 * MIB, 1) + SHARED, "two": SHARED + noise(3 * MIB, 2) + SHARED, "three": b""}


def session_of(repository: Repository, cache: Path, writers: int = 1) -> Session:
    return Session(
        repository,
        cache_folder=cache,
        memory=writers * 64 * MIB,
        level=1,
        on_damage=lambda error: pytest.fail(str(error)),
        on_trouble=pytest.fail,
        writers=writers,
    )


def commit(session: Session, stored: dict[str, StoredStream], written: list[Written]) -> None:
    streams = [(StreamSpec(name, "raw"), stored[name]) for name in STREAMS]
    session.commit(
        backup="shop", source="bytes", parent=None, consistency="one", inspection={}, streams=streams, written=written
    )


def store(session: Session, barrier: threading.Barrier, name: str) -> tuple[StoredStream, Written]:
    with session.writer() as writer:
        barrier.wait()
        return writer.store(BytesStream(STREAMS[name]), lambda done: None), writer.finish()


def test_threads_write_the_streams_of_one_session_at_once(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache")
    barrier = threading.Barrier(len(STREAMS))
    with (
        session_of(lab.open(), lab.cache, writers=len(STREAMS)) as session,
        ThreadPoolExecutor(len(STREAMS)) as pool,
    ):
        results = dict(zip(STREAMS, pool.map(lambda name: store(session, barrier, name), STREAMS), strict=True))
        commit(session, {name: one for name, (one, _) in results.items()}, [one for _, one in results.values()])
    assert lab.restored() == STREAMS
    assert lab.check(read_data=True).findings == ()
    (entry,) = list_snapshots(lab.open())
    there = [info.size for prefix in ("sessions/", "packs/", "index/") for info in lab.sink.list(prefix)]
    assert entry.catalogue.stored == sum(there)


def store_elsewhere(folder: Path, key: bytes, cache: Path, data: bytes) -> tuple[StoredStream, Written]:
    """Runs in a separate process, which opens the repository itself."""
    repository = Repository.open(FolderSink(folder), Access.from_key_file(key, "the test's key"))
    with session_of(repository, cache) as session, session.writer() as writer:
        return writer.store(BytesStream(data), lambda done: None), writer.finish()


def test_processes_write_streams_that_another_process_commits(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path / "repository")
    lab = Lab(tmp_path / "cache", sink)
    key = lab.owner.to_key_file()
    with (
        session_of(lab.open(), lab.cache) as session,
        ProcessPoolExecutor(2, get_context("spawn")) as pool,
    ):
        asked = {
            name: pool.submit(store_elsewhere, tmp_path / "repository", key, tmp_path / f"cache of {name}", data)
            for name, data in STREAMS.items()
        }
        results = {name: future.result() for name, future in asked.items()}
        commit(session, {name: one for name, (one, _) in results.items()}, [one for _, one in results.values()])
    assert lab.restored() == STREAMS
    assert lab.check(read_data=True).findings == ()
    assert lab.backup(STREAMS).packs == 0, "the next night finds what the processes stored"


def test_writers_share_the_memory_of_their_session(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache")
    with session_of(lab.open(), lab.cache, writers=2) as session, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(session.writer())
        assert session._budget.packs * 2 * 17 * MIB < 128 * MIB


class OrderedSink(MemorySink):
    """Records the order of reads and questions, and holds every read of an index object until several are pending."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.together = threading.Barrier(2)

    def capabilities(self) -> frozenset[Capability]:
        self.log.append("capabilities")
        return super().capabilities()

    def preflight(self) -> None:
        self.log.append("preflight")
        super().preflight()

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.log.append(f"get {key}")
        if key.startswith("index/") and not self.together.broken:
            self.together.wait(60)
        return super().get(key, start=start, length=length)


def test_the_repository_is_synchronized_in_parallel_before_the_databases_view_opens(tmp_path: Path) -> None:
    sink = OrderedSink()
    lab = Lab(tmp_path / "cache", sink)
    for seed in range(4):
        lab.backup({"d": noise(MIB, seed)})
    assert len(list(sink.list("index/"))) == 4
    sink.log.clear()

    class Watched(BytesSource):
        def dump(self):  # type: ignore[no-untyped-def]
            sink.log.append("view")
            return super().dump()

    lab.backup(Watched({"d": noise(MIB, 2)}), cache=tmp_path / "another host")
    assert not sink.together.broken, "the reads came one after the other"
    at = sink.log.index("view")
    assert sum(call.startswith("get index/") for call in sink.log[:at]) == 4
    assert any(call.startswith("get packs/") for call in sink.log[:at]), "the index is warm"
    assert {"capabilities", "preflight"} <= set(sink.log[:at]), "what may fail is asked before the dump"
    assert [call for call in sink.log[at:] if not call.startswith("get packs/")] == ["view"]


class HangingSink(MemorySink):
    """Hangs in every call of one kind until released."""

    def __init__(self, call: str = "") -> None:
        super().__init__()
        self.call = call
        self.hangs = threading.Event()
        self.let_go = threading.Event()
        self.heard = True

    def _hang(self, call: str) -> None:
        if self.call and call.startswith(self.call):
            self.hangs.set()
            self.heard = self.let_go.wait(60)

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        self._hang(f"put {key}")
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._hang(f"get {key}")
        return super().get(key, start=start, length=length)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._hang(f"list {prefix}")
        return super().list(prefix)

    def capabilities(self) -> frozenset[Capability]:
        self._hang("capabilities")
        return super().capabilities()

    def preflight(self) -> None:
        self._hang("preflight")
        super().preflight()


def stop_when_it_hangs(sink: HangingSink) -> None:
    token = sink.stop = StopToken()

    def stop() -> None:
        sink.hangs.wait(600)
        token.stop()

    threading.Thread(target=stop, daemon=True).start()


CALLS = [
    "capabilities", "preflight", "list tombstones/", "list index/", "list packs/", "list sessions/", "list snapshots/",
    "get index/", "get sessions/", "get packs/", "get snapshots/", "put sessions/", "put index/", "put snapshots/",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_stop_ends_a_backup_that_hangs_in_any_call(tmp_path: Path, call: str) -> None:
    sink = HangingSink()
    lab = Lab(tmp_path / "cache", sink)
    lab.backup({"d": noise(MIB, 1)})
    repository = lab.open()
    sink.call = call
    stop_when_it_hangs(sink)
    try:
        with pytest.raises(Interrupted) as caught:
            lab.backup({"d": noise(MIB, 1) + noise(MIB, 2)}, cache=tmp_path / "another", by=repository)
        assert sink.heard, "the call was waited for"
    finally:
        sink.let_go.set()
    assert ("may exist" in str(caught.value.details)) == (call == "put snapshots/")


@pytest.mark.parametrize("size", [MIB, 80 * MIB])
def test_a_stop_ends_a_backup_whose_sink_hangs(tmp_path: Path, size: int) -> None:
    sink = HangingSink("put packs/")
    lab = Lab(tmp_path / "cache", sink)
    token = sink.stop = StopToken()

    def stop() -> None:
        sink.hangs.wait(600)
        token.stop()

    threading.Thread(target=stop, daemon=True).start()
    try:
        with pytest.raises(Interrupted):
            lab.backup({"d": noise(size)})
    finally:
        sink.let_go.set()
    sink.stop = Sink.stop
    assert list_snapshots(Repository.open(sink, PASSPHRASE)) == []


class Hangs(BytesStream):
    """Gives no data, and is woken by the test alone."""

    reading = threading.Event()
    woken = threading.Event()

    def readinto(self, buffer: memoryview, /) -> int:
        self.reading.set()
        self.woken.wait(600)
        return 0


def test_a_stop_ends_a_backup_whose_source_hangs_and_ignores_its_end(tmp_path: Path) -> None:
    sink = MemorySink()
    lab = Lab(tmp_path / "cache", sink)
    token = sink.stop = StopToken()

    def stop() -> None:
        Hangs.reading.wait(600)
        token.stop()

    threading.Thread(target=stop, daemon=True).start()
    source = BytesSource({"d": b""}, opener=Hangs)
    try:
        with pytest.raises(Interrupted):
            lab.backup(source)
    finally:
        Hangs.woken.set()  # or its thread would outlive the test
    assert [stream.aborts for stream in source.opened if isinstance(stream, Hangs)] == [1]


class Wide(MemorySink):
    """A sink for which its user may open many connections, and that counts the requests that are under way at once."""

    def __init__(self, connections: int) -> None:
        super().__init__(MemorySettings())
        self._connections = connections
        self._changed = threading.Condition()
        self._under_way = 0
        #: Requests wait until so many are under way.
        self.awaited = 0
        self.most = 0

    @property
    def connections(self) -> int:
        return self._connections

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        with self._changed:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.most >= self.awaited, 60)
        try:
            return super().get(key, start=start, length=length)
        finally:
            with self._changed:
                self._under_way -= 1


@pytest.mark.parametrize(("memory", "connections", "threads"), [(64, 1, 1), (64, 16, 5), (1024, 16, 16)])
def test_a_session_makes_as_many_requests_at_once_as_connections_and_memory_allow(
    tmp_path: Path, memory: int, connections: int, threads: int
) -> None:
    sink = Wide(connections)
    lab = Lab(tmp_path / "cache", sink)
    for number in range(17):
        lab.backup({"d": b"%d" % number})
    repository = lab.open()
    sink.most, sink.awaited = 0, threads
    session = Session(
        repository,
        cache_folder=tmp_path / "new host",
        memory=memory * MIB,
        level=1,
        on_damage=lambda error: pytest.fail(str(error)),
        on_trouble=pytest.fail,
    )
    with session:
        assert sink.most == threads
