"""Opened segments while a stream is put together: bounded, not fetched twice while they are kept, and given back."""

import random
from collections import deque
from collections.abc import Sequence

import pytest
from core.tests.repository.lab import KIB, MIB, Lab
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api import NEVER
from penstock.repository.budget import SEGMENT
from penstock.repository.pool import Workers
from penstock.repository.read.content import each_row
from penstock.repository.read.reader import SnapshotReader, _Held
from penstock.repository.read.segments import Buffers, Segment
from penstock.repository.snapshots import find_snapshot


@pytest.mark.parametrize(
    ("size", "buffer"),
    [(0, 64 * KIB), (1, 64 * KIB), (64 * KIB, 64 * KIB), (64 * KIB + 1, 128 * KIB), (SEGMENT - 1, SEGMENT)],
)
def test_a_buffer_is_the_next_power_of_two(size: int, buffer: int) -> None:
    data = random.Random(size).randbytes(size)
    segment = Buffers(SEGMENT).filled(data)
    assert segment.data == data
    assert len(segment.buffer) == buffer


def test_a_buffer_is_used_again_for_a_segment_of_its_size_alone() -> None:
    buffers = Buffers(SEGMENT)
    first = buffers.filled(b"1" * 100 * KIB)
    buffers.give_back(first)
    other = buffers.filled(b"2" * 200 * KIB)
    again = buffers.filled(b"3" * 90 * KIB)
    assert other.buffer is not first.buffer
    assert again.buffer is first.buffer
    assert other.data == b"2" * 200 * KIB
    assert again.data == b"3" * 90 * KIB, "and nothing is left of what was in it"
    assert buffers.filled(b"4" * 90 * KIB).buffer is not first.buffer, "it is in use"


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([1, 70 * KIB, 130 * KIB])), max_size=40), st.integers(0, 8))
def test_no_more_bytes_wait_than_may(steps: list[tuple[bool, int]], spare: int) -> None:
    buffers = Buffers(spare * 64 * KIB)
    out: deque[Segment] = deque()
    waiting: list[int] = []
    for back, size in steps:
        if back and out:
            segment = out.popleft()
            buffers.give_back(segment)
            if sum(waiting) + len(segment.buffer) <= spare * 64 * KIB:
                waiting.append(len(segment.buffer))
        else:
            known = {id(segment.buffer) for segment in out}
            out.append(buffers.filled(b"x" * size))
            assert id(out[-1].buffer) not in known, "two segments in one buffer"
            if len(out[-1].buffer) in waiting:
                waiting.remove(len(out[-1].buffer))
        assert buffers._size == sum(waiting) == sum(len(one) for free in buffers._free.values() for one in free)
        assert buffers._size <= spare * 64 * KIB


SIZES = [1, 64 * KIB, 65 * KIB, 300 * KIB, SEGMENT]


class Fetcher:
    """Opens segments as a reader does, and counts how often each was asked for."""

    def __init__(self, workers: Workers, buffers: Buffers, sizes: Sequence[int], limit: int) -> None:
        self.workers = workers
        self.buffers = buffers
        self.sizes = sizes
        self.limit = limit
        self.held = _Held(workers, buffers, limit)
        self.asked: list[int] = []

    def content(self, number: int) -> bytes:
        return bytes([number]) * self.sizes[number]

    def opened(self, number: int) -> Segment:
        return self.buffers.filled(self.content(number))

    def want(self, numbers: Sequence[int]) -> None:
        there = self.held._there.keys() | self.held._coming.keys()
        missing = self.held.want(numbers)
        assert missing == [number for number in numbers if number not in there], "asked for twice, or not at all"
        for number in missing:
            self.asked.append(number)
            self.held.add(number, self.workers.submit(self.opened, number))

    def size(self) -> int:
        """Bytes of buffers that are held, or may soon be."""
        return sum(len(one.buffer) for one in self.held._there.values()) + len(self.held._coming) * SEGMENT

    def read(self, portions: Sequence[tuple[int, ...]], ahead: int) -> None:
        """Use the portions one after the other, as many ahead as there is room for."""
        window: deque[tuple[int, ...]] = deque()
        coming = deque(portions)
        while coming or window:
            while coming and (not window or self.held.has_room(coming[0], ahead)):
                alone = not window
                self.want(coming[0])
                window.append(coming.popleft())
                assert len(self.held._coming) <= max(ahead, len(window[0]) if alone else 0)
                assert self.size() <= self.limit
            numbers = window.popleft()
            for number in numbers:
                assert self.held.use(number).data == self.content(number)
            assert self.size() <= self.limit
            self.held.used(numbers)
            assert self.size() <= self.limit


portions_of = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=3, unique=True).map(tuple), max_size=25)


@settings(max_examples=60, deadline=None)
@given(portions_of, st.lists(st.sampled_from(SIZES), min_size=8, max_size=8), st.integers(3, 10), st.integers(1, 4))
def test_what_is_held_stays_within_its_limit_and_is_asked_for_once_while_it_is_kept(
    portions: list[tuple[int, ...]], sizes: list[int], limit: int, ahead: int
) -> None:
    buffers = Buffers(64 * SEGMENT)
    with Workers(2, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, buffers, sizes, limit * SEGMENT)
        fetcher.read(portions, ahead)
        if limit >= 8:
            # All of them fit beside one another.
            assert sorted(fetcher.asked) == sorted(set(fetcher.asked))
        kept = [segment.buffer for segment in fetcher.held._there.values()]
        before = buffers._size
        fetcher.held.end()
    assert buffers._size == before + sum(map(len, kept)), "something was not given back, or twice"
    assert fetcher.held._waiting == {}
    assert fetcher.held._coming == {}


def test_those_that_were_used_last_are_kept() -> None:
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, Buffers(0), [SEGMENT] * 6, 3 * SEGMENT)
        fetcher.read([(0,), (1,), (2,), (0,), (3,), (0,), (2,), (1,)], ahead=1)
        assert fetcher.asked == [0, 1, 2, 3, 1]
        fetcher.held.end()


def test_a_segment_that_comes_later_in_the_window_is_not_pushed_out() -> None:
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, Buffers(0), [SEGMENT] * 6, 3 * SEGMENT)
        fetcher.read([(0,), (1,), (0,), (2,), (0,), (3,), (0,)], ahead=3)
        assert fetcher.asked == [0, 1, 2, 3]
        fetcher.held.end()


def test_small_segments_of_many_nights_are_kept_all_at_once() -> None:
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, Buffers(0), [60 * KIB] * 100, 8 * SEGMENT)
        fetcher.read([(number,) for _ in range(5) for number in range(100)], ahead=2)
        assert fetcher.asked == list(range(100))
        fetcher.held.end()


def test_a_segment_that_cannot_be_opened_fails_where_it_is_used_and_the_rest_is_given_back() -> None:
    buffers = Buffers(64 * SEGMENT)
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, buffers, [SEGMENT] * 6, 4 * SEGMENT)
        fetcher.want([0, 1])
        fetcher.held.want([2])
        fetcher.held.add(2, workers.submit(lambda: 1 // 0))  # type: ignore[arg-type, return-value]
        assert fetcher.held.use(0).data == fetcher.content(0)
        assert fetcher.held.use(1).data == fetcher.content(1)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                fetcher.held.use(2)
        fetcher.held.end()
    assert buffers._size == 2 * SEGMENT


def test_a_restore_fetches_each_segment_of_many_nights_once(lab: Lab) -> None:
    chance = random.Random(5)
    table = [b"%d\t%s\n" % (number, chance.randbytes(20).hex().encode()) for number in range(200_000)]
    lab.backup({"d": b"".join(table)})
    for night in range(12):
        for number in range(night, len(table), 1000):
            table[number] = b"%d\t%s\n" % (number, chance.randbytes(20).hex().encode())
        lab.backup({"d": b"".join(table)})
    entry = find_snapshot(lab.open(), "latest")
    needed = [(row.pack, ordinal) for row in each_row(entry) for ordinal in row.used]
    assert len({pack for pack, _ in needed}) == 13, "each night left something that is still needed"
    with SnapshotReader(entry, 64 * MIB) as reader:
        assert b"".join(map(bytes, reader.blocks(reader.stream("d")))) == b"".join(table)
        assert reader.segments_read == len(needed) == len(set(needed))


def test_no_more_is_asked_for_ahead_than_there_is_room_for() -> None:
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, Buffers(0), [SEGMENT] * 6, 3 * SEGMENT)
        fetcher.want((0, 1))
        assert fetcher.held.has_room((2,), ahead=6)
        assert not fetcher.held.has_room((2,), ahead=2), "two are under way"
        assert not fetcher.held.has_room((2, 3), ahead=6), "three have room"
        fetcher.want((2,))
        assert fetcher.held.has_room((1, 2), ahead=3), "they are there, or come anyway"
        assert not fetcher.held.has_room((3,), ahead=6)
        for number in (0, 1):
            fetcher.held.use(number)
        fetcher.held.used((0, 1))
        # Those are kept as long as nobody needs their room.
        assert fetcher.held.has_room((0, 1), ahead=1)
        assert fetcher.held.has_room((0, 3), ahead=2)
        fetcher.want((0, 3))
        assert sorted(fetcher.held._there) == [0]
        assert not fetcher.held.has_room((4,), ahead=6)
        fetcher.held.end()


@pytest.mark.parametrize("ahead", [1, 3, 6])
def test_the_window_stays_within_the_limit(ahead: int) -> None:
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, Buffers(0), [SEGMENT] * 8, 3 * SEGMENT)
        fetcher.read([(0, 1), (2,), (3,), (4, 5), (6,), (7,), (0, 7)], ahead)
        assert fetcher.asked == [0, 1, 2, 3, 4, 5, 6, 7, 0]
        fetcher.held.end()
