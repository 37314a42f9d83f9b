"""Reading ahead: few requests, every byte once, and no failure cached."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, Lab, noise

from penstock.api import SinkUnreachable
from penstock.repository.budget import SEGMENT
from penstock.repository.read.budget import RANGE
from penstock.repository.read.ranges import Ranges
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.snapshots import find_snapshot
from penstock.testing import MemorySink


class CountingSink(MemorySink):
    """Records its requests; `gate` holds answers back, `failing` turns them into errors."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int, int | None]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failing = False

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.asked.append((key, start, length))
        self.gate.wait()
        if self.failing:
            raise SinkUnreachable(key, "no answer")
        return super().get(key, start=start, length=length)


@pytest.fixture
def sink() -> Iterator[CountingSink]:
    sink = CountingSink()
    for name in "abcdefghij":
        sink.put(name, bytes(range(200)))
    yield sink
    sink.gate.set()


def test_neighbours_take_one_request(sink: CountingSink) -> None:
    ranges = Ranges(sink, 8)
    assert ranges.read("a", 10, 20, 50) == bytes(range(10, 20))
    assert ranges.read("a", 20, 50, 150) == bytes(range(20, 50))
    assert ranges.read("a", 50, 60, 60) == bytes(range(50, 60))
    assert sink.asked == [("a", 10, 40), ("a", 50, 10)]


def test_a_range_ends_where_another_begins(sink: CountingSink) -> None:
    ranges = Ranges(sink, 8)
    assert ranges.read("a", 30, 40, 60) == bytes(range(30, 40))
    assert ranges.read("a", 10, 20, 50) == bytes(range(10, 20))
    assert ranges.read("b", 10, 20, 50) == bytes(range(10, 20))
    assert ranges.read("a", 20, 30, 30) == bytes(range(20, 30))
    assert ranges.read("a", 40, 60, 60) == bytes(range(40, 60))
    assert sink.asked == [("a", 30, 30), ("a", 10, 20), ("b", 10, 40)]


def test_a_truncated_object_gives_a_short_read(sink: CountingSink) -> None:
    ranges = Ranges(sink, 8)
    assert ranges.read("a", 190, 210, 300) == bytes(range(190, 200))
    assert not len(ranges.read("a", 210, 300, 300))


def test_a_reader_waits_for_a_range_already_being_fetched(sink: CountingSink) -> None:
    ranges = Ranges(sink, 8)
    sink.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        parts = [pool.submit(ranges.read, "a", at, at + 10, 100) for at in (0, 10, 20, 30)]
        # The first to come asks, starting from its own place: so at most all four ask, and none twice.
        sink.gate.set()
        assert [bytes(part.result()) for part in parts] == [bytes(range(at, at + 10)) for at in (0, 10, 20, 30)]
    assert len(set(sink.asked)) == len(sink.asked)


def test_a_failure_is_not_kept(sink: CountingSink) -> None:
    ranges = Ranges(sink, 8)
    sink.failing = True
    with pytest.raises(SinkUnreachable):
        ranges.read("a", 0, 10, 100)
    sink.failing = False
    assert ranges.read("a", 0, 10, 100) == bytes(range(10))


def test_ranges_of_few_objects_are_kept(sink: CountingSink) -> None:
    ranges = Ranges(sink, 8)
    for name in "abcdefghij":
        ranges.read(name, 0, 10, 100)
    asked = len(sink.asked)
    ranges.read("j", 10, 20, 100)
    assert len(sink.asked) == asked
    ranges.read("a", 10, 20, 100)
    assert len(sink.asked) == asked + 1


@pytest.mark.slow
def test_a_restore_requests_segments_by_range(tmp_path: Path) -> None:
    sink = CountingSink()
    lab = Lab(tmp_path, sink)
    digits = noise(600_000).hex().encode()
    text = b"".join(b"%013d\t%s\n" % (number, digits[2 * number : 2 * number + 2]) for number in range(600_000))
    lab.backup({"d": text})
    entry = find_snapshot(lab.open(), "latest")
    sink.asked.clear()
    with SnapshotReader(entry) as reader:
        assert b"".join(bytes(block) for block in reader.blocks(reader.stream("d"))) == text
        segments = reader.segments_read
    asked = [(start, length) for key, start, length in sink.asked if key.startswith(lab.at.packs)]
    assert segments >= len(text) // SEGMENT
    assert segments > 4
    assert len(asked) < segments / 2
    assert all(length is not None and length <= RANGE for _, length in asked)


@pytest.mark.slow
def test_many_small_extents_come_in_large_blocks(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    old = noise(4 * MIB)
    lab.backup({"d": old})
    new = bytearray(old)
    for at in range(0, len(new), 40_000):
        new[at] ^= 1
    lab.backup({"d": bytes(new)})
    with SnapshotReader(find_snapshot(lab.open(), "latest")) as reader:
        blocks = [bytes(block) for block in reader.blocks(reader.stream("d"))]
    assert b"".join(blocks) == new
    # A block ends with an extent, and none of these is longer than what lies between two changes.
    assert len(blocks) <= len(new) / (MIB - 40_000) + 1
