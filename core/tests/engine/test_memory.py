"""Buffers are the only large memory, and their number is decided before the first byte."""

import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from core.tests.engine.engine_process import start
from core.tests.repository.folder_sink import FolderSink
from core.tests.repository.lab import MIB, BytesSource, BytesStream, Lab, noise
from tests.soak import long, times

from penstock.format.pack import MAX_SEGMENTS, SegmentId
from penstock.repository.budget import BATCH, PACK_CAPACITY, SEGMENT, Budget
from penstock.repository.known.known_pack import KnownPack
from penstock.repository.snapshots import list_snapshots
from penstock.repository.write.table import TableBuilder
from penstock.testing import MemorySink

GIB = 1024 * MIB


def peak(verb: str, folder: Path, size: int, pace: int | None) -> int:
    """The peak resident memory, in bytes, of a backup, a restore or a copy of so much, with the default of buffers."""
    if verb == "backup":
        folder.mkdir()
        lab = Lab(folder / "cache", FolderSink(folder))
        (folder / "owner.key").write_bytes(lab.owner.to_key_file())
    with start(verb, folder, size, memory=128 * MIB, pace=pace) as process:
        out, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    return int(out.split()[-1]) * 1024


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of a repository with a backup of so many bytes; made once."""

    @cache
    def made(size: int) -> Path:
        folder = tmp_path_factory.mktemp("backed-up") / str(size)
        peak("backup", folder, size, pace=None)
        return folder

    return made


def assert_independent_of_size(small: int, large: int) -> None:
    """Within a tenth, but for what chance makes of how many buffers are full at once; and within the promise."""
    assert large < 1.1 * small + 8 * MIB
    assert large < 192 * MIB


@pytest.mark.parametrize(
    "size",
    [pytest.param(512 * MIB, marks=pytest.mark.slow), pytest.param(times(8) * GIB, marks=long(60))],
    ids=["short", "for long"],
)
def test_a_larger_backup_takes_no_more_memory(tmp_path: Path, size: int) -> None:
    # With more packs than buffers: from there on memory would grow with whatever is kept of each.
    small = peak("backup", tmp_path / "small", 256 * MIB, pace=0)
    large = peak("backup", tmp_path / "large", size, pace=0)
    assert_independent_of_size(small, large)


@pytest.mark.parametrize(
    "larger",
    [pytest.param(512 * MIB, marks=pytest.mark.slow), pytest.param(times(2) * GIB, marks=long(60))],
    ids=["short", "for long"],
)
def test_a_larger_restore_takes_no_more_memory(backed_up: Callable[[int], Path], larger: int) -> None:
    assert_independent_of_size(*(peak("restore", backed_up(size), size, pace=None) for size in (256 * MIB, larger)))


@pytest.mark.slow
def test_a_larger_copy_takes_no_more_memory(backed_up: Callable[[int], Path]) -> None:
    assert_independent_of_size(*(peak("copy", backed_up(size), size, pace=None) for size in (256 * MIB, 512 * MIB)))


def closed_pack(table: TableBuilder, number: int, chunks: int) -> None:
    """A pack that is numbered while it is written, and closed then."""
    name = number.to_bytes(16, "big")
    pack = KnownPack(name, (bytes(16),))
    pack.begin_segment(SegmentId(name, 0), 0)
    ids = [number.to_bytes(8, "big") + chunk.to_bytes(8, "big") for chunk in range(chunks)]
    pack.add_chunks(ids, [1000] * chunks)
    assert table.number(pack, SegmentId(name, 0)) == number * MAX_SEGMENTS
    table.use({number * MAX_SEGMENTS})
    pack.pin = bytes(32)


@pytest.mark.slow
def test_a_segment_table_keeps_no_chunks_of_packs_that_are_closed() -> None:
    table = TableBuilder(0)
    chunks = 5000
    tracemalloc.start()
    try:
        for number in range(40):
            closed_pack(table, number, chunks)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The last one stays until another is begun.
    assert held < 3 * chunks * 200
    assert [row.segments for row, _ in table.rows()] == [1] * 40


class StuckSink(MemorySink):
    """Takes no pack until `gate` is open, keeps none, and counts those under way."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self._counting = threading.Lock()
        self._under_way = 0
        self.most_under_way = 0

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        if "/packs/" not in key:
            super().put(key, data, if_absent=if_absent)
            return
        with self._counting:
            self._under_way += 1
            self.most_under_way = max(self.most_under_way, self._under_way)
        assert self.gate.wait(300)
        super().put(key, b"", if_absent=if_absent)
        with self._counting:
            self._under_way -= 1


@pytest.mark.slow
@pytest.mark.parametrize("memory", [64 * MIB, 128 * MIB])
def test_a_sink_that_is_stuck_stops_the_dump_before_more_was_read_than_memory_allows(
    tmp_path: Path, memory: int
) -> None:
    sink = StuckSink()
    lab = Lab(tmp_path, sink)
    source = BytesSource({"d": noise(memory + 32 * MIB)})
    backup = threading.Thread(target=lambda: lab.backup(source, memory=memory))
    backup.start()
    read, before = 0, -1
    # Until it stands still; a machine that is busy elsewhere does not make it do so this early.
    while read != before or read <= 2 * 16 * MIB:
        before = read
        time.sleep(2)
        read = sum(stream.done for stream in source.opened if isinstance(stream, BytesStream))
    sink.gate.set()
    backup.join()
    # A pack on its way up, another behind it, and a third being filled; but not the whole dump.
    assert 2 * 16 * MIB < read < memory
    assert sink.most_under_way == 2 or memory == 64 * MIB
    assert len(list_snapshots(lab.open())) == 1


@pytest.mark.parametrize("connections", [1, 2, 8, 64])
@pytest.mark.parametrize("memory", [64, 65, 96, 128, 200, 256, 512, 1024, 4096])
def test_the_budget_is_kept(memory: int, connections: int) -> None:
    budget = Budget.of(memory * MIB, connections)
    buffers = budget.batches * BATCH + budget.packs * PACK_CAPACITY + budget.sealing * 4 * SEGMENT
    assert buffers + budget.directory_chunks * 116 <= memory * MIB
    assert min(budget.batches, budget.packs, budget.sealing) >= 2
    assert 1 <= budget.uploads <= connections
    assert budget.uploads < budget.packs
    assert 1 <= budget.sealers <= budget.sealing


def test_a_sink_that_takes_more_gets_more_where_memory_allows_it() -> None:
    assert Budget.of(1024 * MIB, 16).uploads == 16
    assert Budget.of(1024 * MIB, 4).uploads == 4
    assert Budget.of(128 * MIB, 16).uploads == 2


def test_sealers_are_as_many_as_the_processors_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for allowed in (1, 3):
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda process, allowed=allowed: set(range(allowed)), raising=False
        )
        assert Budget.of(1024 * MIB, 4).sealers == allowed
