"""How many requests reading makes at once, and that nobody waits for another's."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, Lab, noise

from penstock.api import ObjectInfo, StopToken, UsageError
from penstock.repository.budget import PACK_CAPACITY, SEGMENT
from penstock.repository.pool import Workers
from penstock.repository.read.budget import RANGE, ReadBudget
from penstock.repository.read.content import each_row
from penstock.repository.read.listing import find_packs, read_all
from penstock.repository.read.once import Once
from penstock.repository.read.ranges import Ranges
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.snapshots import find_snapshot
from penstock.repository.temporary import PackSizes
from penstock.testing import FaultySink, MemorySink


@pytest.mark.parametrize("memory", [64, 65, 96, 128, 200, 1024, 4096])
@pytest.mark.parametrize("connections", [1, 4, 16, 64])
def test_the_budget_is_kept(memory: int, connections: int) -> None:
    budget = ReadBudget.of(memory * MIB, connections)
    assert 1 <= budget.requests <= connections
    assert 1 <= budget.packs <= connections
    # As many bytes of buffers as are asked for ahead wait for their next use; each request opens a segment.
    buffers = budget.opened + budget.ahead * SEGMENT + 2 * budget.requests * SEGMENT
    assert budget.opened >= (budget.ahead + 1) * SEGMENT
    # An eighth is for what says where segments are.
    assert budget.ranges * RANGE + buffers <= memory * MIB * 7 / 8
    assert budget.packs * (PACK_CAPACITY + 3 * SEGMENT) <= memory * MIB


def test_more_connections_and_more_memory_make_more_requests() -> None:
    assert ReadBudget.of(1024 * MIB, 16).requests == 16
    assert ReadBudget.of(64 * MIB, 16).requests < 16
    assert ReadBudget.of(1024 * MIB, 2).requests == ReadBudget.of(1024 * MIB, 2).packs == 2


def test_less_than_the_smallest_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 64 MiB"):
        ReadBudget.of(63 * MIB, 4)


class MeetingSink(MemorySink):
    """Answers requests for packs only when as many wait as `party` says; `most` counts those under way at once."""

    connections = 4

    def __init__(self) -> None:
        super().__init__()
        self.party: threading.Barrier | None = None
        self._counting = threading.Lock()
        self._now = 0
        self.most = 0

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if "/packs/" in key and self.party is not None:
                self.party.wait(60)
            return super().get(key, start=start, length=length)
        finally:
            with self._counting:
                self._now -= 1


@pytest.mark.slow
def test_ends_of_several_packs_are_read_at_once(tmp_path: Path) -> None:
    sink = MeetingSink()
    lab = Lab(tmp_path, sink)
    parts = [noise(2 * MIB, seed) for seed in range(4)]
    for end in range(1, 5):
        lab.backup({"d": b"".join(parts[:end])})
    entry = find_snapshot(lab.open(), "latest")
    assert len({row.pack for row in each_row(entry) if row.used}) == 4
    with SnapshotReader(entry) as reader:
        # Two of the four: whoever holds a lock over a request would keep the other one out.
        sink.party = threading.Barrier(2)
        blocks = reader.blocks(reader.stream("d"))
        content = bytes(next(blocks))
        sink.party.abort()
        sink.party = None
        assert content == b"".join(parts)[: len(content)]


@pytest.mark.slow
def test_no_more_requests_are_made_at_once_than_the_sink_wants(tmp_path: Path) -> None:
    sink = MeetingSink()
    lab = Lab(tmp_path, sink)
    lab.backup({"d": noise(20 * MIB)})
    sink.most = 0
    assert lab.restored() == {"d": noise(20 * MIB)}
    lab.check()
    assert 1 <= sink.most <= sink.connections


def test_a_range_is_fetched_without_a_lock() -> None:
    ranges: Ranges

    class AskingSink(MemorySink):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            if key == "a":
                with ThreadPoolExecutor(1) as pool:
                    assert pool.submit(ranges.read, "b", 50, 60, 60).result(30) == bytes(range(50, 60))
            return super().get(key, start=start, length=length)

    sink = AskingSink()
    for key in ("a", "b"):
        sink.put(key, bytes(range(100)))
    ranges = Ranges(sink, 8)
    assert ranges.read("a", 0, 10, 20) == bytes(range(10))


def test_a_value_is_made_once_for_all_who_ask() -> None:
    gate = threading.Event()
    made: list[int] = []

    def make(key: int) -> str:
        made.append(key)
        assert gate.wait(60)
        return str(key)

    once = Once(make, kept=2)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(once, key) for key in (1, 2) * 4]
        while len(made) < 2:
            gate.wait(0.01)
        gate.set()
        assert [one.result(60) for one in asked] == ["1", "2"] * 4
    assert sorted(made) == [1, 2]
    assert (once(3), once(2), once(1)) == ("3", "2", "1")
    assert sorted(made) == [1, 1, 2, 3]


def test_a_value_that_could_not_be_made_is_tried_again() -> None:
    answers = iter([OSError("no"), None])

    def make(key: str) -> str:
        error = next(answers)
        if error is not None:
            raise error
        return key

    once = Once(make, kept=2)
    with pytest.raises(OSError, match="no"):
        once("a")
    assert once("a") == "a"


def test_large_objects_are_read_one_at_a_time_and_small_ones_side_by_side() -> None:
    sizes = [1, 1, 1, 1, 500, 2, 700, 3, 4]
    under_way: list[int] = []
    most: dict[int, int] = {}
    lock = threading.Lock()

    def read(info: ObjectInfo) -> int:
        with lock:
            under_way.append(info.size)
            for size in under_way:
                most[size] = max(most.get(size, 0), len(under_way))
        pause.wait(0.05)
        with lock:
            under_way.remove(info.size)
        return info.size

    pause = threading.Event()
    with Workers(4, "test", StopToken()) as workers:
        objects = (ObjectInfo(str(number), size) for number, size in enumerate(sizes))
        assert list(read_all(workers, read, objects, most=100)) == sizes
    assert most[500] == most[700] == 1


@pytest.mark.parametrize("there", [0, 3, 40])
@pytest.mark.parametrize("wanted", [2, 30])
def test_packs_are_found_or_known_to_be_gone(lab: Lab, there: int, wanted: int) -> None:
    domain = lab.open(sink=FaultySink(lab.sink)).domain
    packs = [number.to_bytes(16, "big") for number in range(50)]
    for number, pack in enumerate(packs[:there]):
        lab.sink.put(domain.at.pack_key(pack), bytes(number))
    with Workers(4, "test", StopToken()) as workers:
        found = PackSizes()
        found.add(packs[:wanted])
        find_packs(workers, domain, found)
    assert {pack: found.size(pack) for pack in packs if found.size(pack) is not None} == {
        pack: number for number, pack in enumerate(packs[: min(there, wanted)])
    }
    assert list(found) == packs[:wanted]
    assert list(found.missing()) == packs[there:wanted]


def test_a_listing_that_takes_more_requests_than_asking_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.repository.read.listing._PAGE", 2)
    sink = FaultySink(lab.sink)
    domain = lab.open(sink=sink).domain
    packs = [number.to_bytes(16, "big") for number in range(200)]
    for pack in packs:
        lab.sink.put(domain.at.pack_key(pack), b"x")
    with Workers(4, "test", StopToken()) as workers:
        found = PackSizes()
        found.add(packs[:6])
        find_packs(workers, domain, found)
    assert ([found.size(pack) for pack in packs[:6]], list(found.missing())) == ([1] * 6, [])
    assert sum(method == "stat" for method, _ in sink.calls) <= 6
