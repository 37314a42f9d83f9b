"""Streams of one dump are written side by side, by threads and by processes, and committed together."""

import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from core.tests.repository.folder_sink import FolderSink
from core.tests.repository.forging import Hand, put_notice
from core.tests.repository.hanging_sink import HangingSink, stop_when_it_hangs
from core.tests.repository.lab import MIB, PASSPHRASE, BytesSource, BytesStream, Lab, noise

from penstock.api import Capability, Interrupted, Sink, StopToken, StreamSpec, WrongKey
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.repository import Access, Repository
from penstock.repository.read.content import each_row
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.repository.write.handing_over import HandedOver
from penstock.repository.write.session import Committed, Session
from penstock.repository.write.stream import StoredStream, Written
from penstock.testing import MemorySink
from penstock.testing.memory import MemorySettings

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

SHARED = noise(5 * MIB, 7)
STREAMS = {"one": noise(18 * MIB, 1) + SHARED, "two": SHARED + noise(3 * MIB, 2) + SHARED, "three": b""}


def session_of(repository: Repository, cache: Path, joins: HandedOver | None = None) -> Session:
    return Session(
        repository,
        "shop",
        cache_folder=cache,
        memory=len(STREAMS) * 64 * MIB,
        level=1,
        on_damage=lambda error: pytest.fail(str(error)),
        on_trouble=pytest.fail,
        joins=joins,
    )


def commit(session: Session, results: dict[str, tuple[StoredStream, Written]]) -> Committed:
    """Commit the streams in the order of `STREAMS`, whatever the order in which they were written."""
    streams = [(StreamSpec(name, "raw"), results[name][0]) for name in STREAMS]
    written = [one for _, one in results.values()]
    return session.commit(source="bytes", consistency="one", inspection={}, streams=streams, written=written)


def store(session: Session, barrier: threading.Barrier, name: str) -> tuple[StoredStream, Written]:
    with session.writer(among=len(STREAMS)) as writer:
        barrier.wait()
        number = list(STREAMS).index(name)
        stream = BytesStream(STREAMS[name])
        return writer.store(number, StreamSpec(name, "raw"), stream, lambda done: None), writer.finish()


def test_threads_write_the_streams_of_one_session_at_once(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache")
    barrier = threading.Barrier(len(STREAMS))
    with (
        session_of(lab.open(), lab.cache) as session,
        ThreadPoolExecutor(len(STREAMS)) as pool,
    ):
        results = dict(zip(STREAMS, pool.map(lambda name: store(session, barrier, name), STREAMS), strict=True))
        committed = commit(session, results)
    assert lab.restored() == STREAMS
    assert lab.check(read_data=True).findings == ()
    (entry,) = list_snapshots(lab.open())
    assert committed.head == entry.head
    at = lab.at
    kinds = (at.sessions, at.leases, at.packs, at.index, at.parts)
    there = [info.size for prefix in kinds for info in lab.sink.list(prefix)]
    assert entry.head.stored == sum(there)
    assert committed.stored == sum(there) + entry.object_size
    assert committed.packs == len(lab.keys(at.packs))


def test_writers_of_one_session_take_rows_of_the_segment_table_far_apart(tmp_path: Path) -> None:
    """They need not wait for one another, and a pack that two of them use has a row of each."""
    lab = Lab(tmp_path / "cache")
    lab.backup({"before": SHARED}, name="earlier")
    barrier = threading.Barrier(1)
    with session_of(lab.open(), lab.cache) as session:
        results = {name: store(session, barrier, name) for name in ("three", "two", "one")}
        commit(session, results)
    (entry,) = [one for one in list_snapshots(lab.open()) if one.head.backup == "shop"]
    rows = list(each_row(entry))
    assert len({row.number for row in rows}) == len(rows)
    assert {row.number >> 24 for row in rows} == {1, 2}, "the empty stream, which came first, needs none"
    twice = {row.pack for row in rows if sum(row.pack == one.pack for one in rows) == 2}
    assert twice & {row.pack for row in rows if row.number >> 24 == 1}
    assert lab.restored("latest:shop") == STREAMS
    assert lab.check(read_data=True).findings == ()


def store_elsewhere(
    folder: Path, key: bytes, cache: Path, joins: HandedOver, name: str
) -> tuple[StoredStream, Written]:
    """Runs in a separate process, which opens the repository itself."""
    repository = Repository.open(FolderSink(folder), Access.from_key_file(key, "the test's key"))
    with session_of(repository, cache, joins=joins) as session, session.writer() as writer:
        number, stream = list(STREAMS).index(name), BytesStream(STREAMS[name])
        return writer.store(number, StreamSpec(name, "raw"), stream, lambda done: None), writer.finish()


def test_processes_write_streams_that_another_process_commits(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path / "repository")
    lab = Lab(tmp_path / "cache", sink)
    key = lab.owner.to_key_file()
    with (
        session_of(lab.open(), lab.cache) as session,
        ProcessPoolExecutor(2, get_context("spawn")) as pool,
    ):
        asked = {
            name: pool.submit(
                store_elsewhere,
                tmp_path / "repository",
                key,
                tmp_path / f"cache of {name}",
                session.hand_over(),
                name,
            )
            for name in STREAMS
        }
        commit(session, {name: future.result() for name, future in asked.items()})
    assert lab.restored() == STREAMS
    assert lab.check(read_data=True).findings == ()
    (written,) = lab.keys(lab.at.sessions)
    assert lab.sessions() == (bytes.fromhex(written[-32:]),), "all of them wrote in one session"
    (entry,) = list_snapshots(lab.open())
    assert len({row.number >> 34 for row in each_row(entry)}) == 2, "and none waited for another's numbers"
    assert lab.backup(STREAMS).packs == 0, "the next night finds what the processes stored"


def test_what_is_handed_over_opens_with_the_same_key_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache")
    with session_of(lab.open(), lab.cache) as session:
        handed_over = session.hand_over()
    sealed = handed_over.sealed(lab.open().domain)
    assert HandedOver.opened(sealed, lab.open().domain) == handed_over
    other = lab.open(add_writer(lab.open(), "another", domain="main"))
    for changed, domain in ((sealed, other.domain), (sealed[:-1] + bytes([sealed[-1] ^ 1]), lab.open().domain)):
        with pytest.raises(WrongKey, match="not the one that began this backup"):
            HandedOver.opened(changed, domain)


@pytest.mark.parametrize("host", ["this host", "another"])
def test_the_next_night_is_compared_with_what_others_wrote_on_the_same_host(tmp_path: Path, host: str) -> None:
    lab = Lab(tmp_path / "cache")
    barrier = threading.Barrier(1)
    folder = lab.cache if host == "this host" else tmp_path / "another"
    with session_of(lab.open(), lab.cache) as session:
        results = {}
        for name in STREAMS:
            with session_of(lab.open(), folder, joins=session.hand_over()) as joined:
                results[name] = store(joined, barrier, name)
        first = commit(session, results).head
    changed = {**STREAMS, "one": STREAMS["one"][: 9 * MIB] + b"!" + STREAMS["one"][9 * MIB :]}
    result = lab.backup(changed)
    assert result.stored < MIB
    assert [base.snapshot for base in result.head.bases] == ([first.snapshot] if host == "this host" else [])
    assert lab.restored() == changed
    assert lab.check(read_data=True).findings == ()
    again = lab.backup(changed)
    assert again.packs == 0
    assert [base.snapshot for base in again.head.bases][:1] == [result.snapshot]


def test_what_is_handed_over_survives_a_pickle_and_does_not_show_the_data_key(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache")
    with session_of(lab.open(), lab.cache) as session:
        first, second = session.hand_over(), session.hand_over()
    assert pickle.loads(pickle.dumps(first)) == first
    assert (first.session, first.data_key) == (second.session, second.data_key)
    assert first.number != second.number, "each has rows of its own"
    for shown in (repr(first), str([first])):
        assert repr(first.data_key) not in shown
        assert first.data_key.hex() not in shown


def test_a_stream_that_was_written_twice_costs_next_to_nothing_and_is_stored_once(tmp_path: Path) -> None:
    """A worker's stream is tried again under the same view: what the first try stored is found."""
    lab = Lab(tmp_path / "cache")
    barrier = threading.Barrier(1)
    with session_of(lab.open(), lab.cache) as session:
        first = store(session, barrier, "one")
        again = store(session, barrier, "one")
        results = {name: store(session, barrier, name) for name in STREAMS}
        commit(session, results)
    # But for where this host remembers it.
    assert replace(again[0], remembered=None) == replace(first[0], remembered=None)
    assert first[1].stored > 22 * MIB
    assert again[1].stored < MIB
    assert results["one"][1].packs == 0
    assert lab.restored() == STREAMS
    assert lab.check(read_data=True).findings == ()


def test_writers_share_the_memory_of_their_session(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache")
    with session_of(lab.open(), lab.cache) as session, ExitStack() as stack:
        writers = [stack.enter_context(session.writer(among=2)) for _ in range(2)]
        assert sum(writer._budget.packs for writer in writers) * 17 * MIB < len(STREAMS) * 64 * MIB


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
        if "/index/" in key and not self.together.broken:
            self.together.wait(60)
        return super().get(key, start=start, length=length)


def test_the_repository_is_synchronized_in_parallel_before_the_databases_view_opens(tmp_path: Path) -> None:
    sink = OrderedSink()
    lab = Lab(tmp_path / "cache", sink)
    for seed in range(4):
        lab.backup({"d": noise(MIB, seed)})
    assert len(lab.keys(lab.at.index)) == 4
    sink.log.clear()

    class Watched(BytesSource):
        def dump(self):  # type: ignore[no-untyped-def]
            sink.log.append("view")
            return super().dump()

    lab.backup(Watched({"d": noise(MIB, 2)}), cache=tmp_path / "another host")
    assert not sink.together.broken, "the reads came one after the other"
    at = sink.log.index("view")
    assert sum(call.startswith(f"get {lab.at.index}") for call in sink.log[:at]) == 4
    assert any(call.startswith(f"get {lab.at.packs}") for call in sink.log[:at]), "the index is warm"
    assert {"capabilities", "preflight"} <= set(sink.log[:at]), "what may fail is asked before the dump"
    # But for sessions, which are read once more at the commit: what a snapshot will need is looked at, not remembered.
    used = (f"get {lab.at.packs}", f"get {lab.at.sessions}")
    assert [call for call in sink.log[at:] if not call.startswith(used)] == ["view"]
    assert [call for call in sink.log[at:] if call.startswith(used[1])], "read again at the commit"


CALLS = [
    "capabilities", "preflight",
    "list notices/", "list deletions/", "list tombstones/",
    "list index/", "list packs/", "list sessions/", "list snapshots/",
    "get notices/", "get deletions/", "get tombstones/", "get index/", "get sessions/", "get packs/", "get snapshots/",
    "put sessions/", "put packs/", "put index/", "put parts/", "put notices/", "put snapshots/",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_stop_ends_a_backup_that_hangs_in_any_call(tmp_path: Path, call: str) -> None:
    sink = HangingSink()
    lab = Lab(tmp_path / "cache", sink)
    lab.backup({"d": noise(MIB, 1)})
    (pack,) = lab.keys(lab.at.packs)
    # A damaged pack, which a backup tells of in a notice, and one object of each kind that it looks at.
    lab.flip(pack, -100)
    things: tuple[Notice | Tombstone | Deletion, ...] = (
        Notice("", {}, {}),
        Tombstone("", Things()),
        Deletion("", Action.FORGET, {}),
    )
    for thing in things:
        put_notice(lab.domain, thing, Hand.of(lab.owner))
    repository = lab.open()
    sink.call = call
    stop_when_it_hangs(sink)
    try:
        with pytest.raises(Interrupted) as caught:
            lab.backup({"d": noise(MIB, 1) + noise(MIB, 2)}, cache=tmp_path / "another", by=repository)
        assert sink.hangs.is_set()
    finally:
        sink.let_go.set()
    assert ("may exist" in str(caught.value.details)) == (call == "put snapshots/")


@pytest.mark.parametrize("size", [MIB, 80 * MIB])
def test_a_stop_ends_a_backup_whose_sink_hangs(tmp_path: Path, size: int) -> None:
    sink = HangingSink("put packs/")
    lab = Lab(tmp_path / "cache", sink)
    stop_when_it_hangs(sink)
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


@pytest.mark.parametrize(("memory", "connections", "threads"), [(64, 1, 1), (64, 16, 2), (1024, 16, 16)])
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
        "shop",
        cache_folder=tmp_path / "new host",
        memory=memory * MIB,
        level=1,
        on_damage=lambda error: pytest.fail(str(error)),
        on_trouble=pytest.fail,
    )
    with session:
        assert sink.most == threads


class PickySink(MemorySink):
    """Refuses to replace anything, and can say that it cannot tell."""

    def __init__(self, *, tells: bool) -> None:
        super().__init__()
        self.tells = tells
        self.replaced: list[str] = []
        self.asked: set[bool] = set()

    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities() if self.tells else frozenset()

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        self.asked.add(if_absent)
        if key in self.contents():
            self.replaced.append(key)
        super().put(key, data, if_absent=if_absent)


@pytest.mark.parametrize("tells", [True, False])
def test_no_put_replaces_an_object_and_each_says_so_where_the_sink_can_tell(tmp_path: Path, tells: bool) -> None:
    sink = PickySink(tells=tells)
    lab = Lab(tmp_path / "cache", sink)
    writer = add_writer(lab.repository, "host", domain="main")
    for seed in range(3):
        lab.backup({"d": noise(20 * MIB, seed)}, by=lab.open(writer))
    lab.flip(min(lab.keys(lab.at.packs)), MIB)
    sink.asked.clear()
    sink.replaced.clear()
    lab.check()
    assert lab.keys(lab.at.notices)
    lab.backup({"d": noise(20 * MIB, 0)}, by=lab.open(writer))
    revoke(lab.repository, writer.key)
    assert sink.replaced == []
    assert sink.asked == {tells}
