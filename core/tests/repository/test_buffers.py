"""Opened segments while a stream is put together: bounded, not fetched twice while they are kept, and given back."""

import gc
import random
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from core.tests.repository.lab import KIB, MIB, Lab, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api import NEVER, DamagedObject
from penstock.repository.budget import SEGMENT
from penstock.repository.pool import Workers
from penstock.repository.read.ahead import Held
from penstock.repository.read.budget import ReadBudget
from penstock.repository.read.content import each_row
from penstock.repository.read.reader import SnapshotReader
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


def size_of_coming(held: Held, sizes: Sequence[int]) -> int:
    """What those that were asked for count as: never less than they will take."""
    assert held._asked.keys() == held._coming.keys()
    for number, size in held._asked.items():
        assert sizes[number] <= size
        assert size == SEGMENT or size < 2 * max(sizes[number], 64 * KIB)
    return sum(held._asked.values())


class Fetcher:
    """Opens segments as a reader does, and counts how often each was asked for."""

    def __init__(self, workers: Workers, buffers: Buffers, sizes: Sequence[int], limit: int) -> None:
        self.workers = workers
        self.buffers = buffers
        self.sizes = sizes
        self.limit = limit
        self.held = Held(lambda _, future: workers.result(future), buffers, limit)
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
        return sum(len(one.buffer) for one in self.held._there.values()) + size_of_coming(self.held, self.sizes)

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


@pytest.mark.slow
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


def test_a_segment_that_was_there_before_counts_as_what_it_takes() -> None:
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, Buffers(0), [60 * KIB, 500 * KIB, *[60 * KIB] * 98], 6 * SEGMENT)
        assert {fetcher.held.known(number) for number in range(100)} == {None}
        fetcher.read([(number,) for number in range(100)], ahead=2)
        fetcher.held.forget()
        assert [fetcher.held.known(number) for number in (0, 1, 2, 99)] == [64 * KIB, 512 * KIB, 64 * KIB, 64 * KIB]
        assert fetcher.held.has_room(range(50), ahead=50)
        fetcher.want(range(50))
        fetcher.want(range(40, 100))
        assert not fetcher.held.has_room(range(100, 110), ahead=200)
        # All of them at once, and none was pushed out.
        for number in range(100):
            fetcher.held.use(number)
        assert fetcher.asked == [*range(100), *range(100)]
        fetcher.held.end()


def test_no_more_sizes_are_kept_than_segments_could_be_there() -> None:
    with Workers(1, "penstock-test", NEVER) as workers:
        fetcher = Fetcher(workers, Buffers(0), [KIB] * 100, SEGMENT)
        fetcher.read([(number,) for number in range(100)], ahead=2)
        fetcher.held.forget()
        sizes = [fetcher.held.known(number) for number in range(100)]
        assert sizes == [None] * 68 + [64 * KIB] * 32
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


@pytest.mark.slow
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
        blocks = [bytes(block) for block in reader.blocks(reader.stream("d"))]
        assert b"".join(blocks) == b"".join(table)
        assert reader.segments_read == len(needed) == len(set(needed))
    # As long as they can be, though all segments together would not have room if each were a large one.
    assert len(needed) > ReadBudget.of(64 * MIB, lab.sink.connections).opened // SEGMENT
    assert len(blocks) <= 2 + len(b"".join(table)) // MIB


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


# streams that are left half-way, and several at once


class Streams:
    """Streams that are read by turns out of one `Held`; what they ask for comes when the test says so."""

    def __init__(self, sizes: Sequence[int], limit: int) -> None:
        self.buffers = Buffers(64 * SEGMENT)
        self.sizes = sizes
        self.limit = limit * SEGMENT
        self.held = Held(lambda _, future: future.result(), self.buffers, self.limit)
        self.windows: dict[int, deque[tuple[int, ...]]] = {}
        self.asked: list[int] = []
        self.futures: list[Future[Segment]] = []

    def content(self, number: int) -> bytes:
        return bytes([number]) * self.sizes[number]

    def ask(self, stream: int, numbers: tuple[int, ...], ahead: int = 100) -> None:
        """Want these for a portion of the stream, if there is room for them or it is the next one."""
        window = self.windows.setdefault(stream, deque())
        if window and not self.held.has_room(numbers, ahead):
            return
        missing = self.held.want(numbers)
        kept = self.held._there.keys() | self.held._coming.keys()
        assert missing == [number for number in numbers if number not in kept], "asked for twice, or not at all"
        window.append(numbers)
        for number in missing:
            self.asked.append(number)
            self.futures.append(Future())
            self.held.add(number, self.futures[-1])

    def begin(self, number: int) -> Future[Segment] | None:
        """The call for it begins, if it was made and has not ended: from now on it cannot be cancelled."""
        future = self.held._coming.get(number)
        if future is None or future.done():
            return None
        if not future.running():
            future.set_running_or_notify_cancel()
        return future

    def come(self, number: int, error: Exception | None = None) -> None:
        """The call for it ends, if it was made and has not ended."""
        future = self.begin(number)
        if future is not None and error is not None:
            future.set_exception(error)
        elif future is not None:
            future.set_result(self.buffers.filled(self.content(number)))

    def use(self, stream: int) -> None:
        """Use the next portion of the stream, and read no further if that fails."""
        window = self.windows.get(stream)
        if not window:
            return
        try:
            for number in window[0]:
                self.come(number)
                assert self.held.use(number).data == self.content(number)
        except OSError:
            self.leave(stream)
        else:
            self.held.used(window.popleft())

    def leave(self, stream: int) -> None:
        """Read the stream no further."""
        self.held.leave(self.windows.pop(stream, ()))

    def look(self) -> None:
        """See that all is as it should be after a step."""
        held = self.held
        held.has_room((), 0)
        windows = [window for window in self.windows.values() if window]
        wanted = Counter(number for window in windows for numbers in window for number in numbers)
        assert held._waiting == wanted
        assert held._there.keys() | held._coming.keys() >= wanted.keys()
        assert held._idle.keys() == held._there.keys() - wanted.keys()
        # Nothing is under way that it does not know of, and what nobody waits for only as it cannot be cancelled.
        under_way = {id(future) for future in self.futures if not future.done()}
        assert under_way == {id(future) for future in held._coming.values() if not future.done()}
        unwanted = held._coming.keys() - wanted.keys()
        assert held._unwanted == unwanted
        assert all(held._coming[number].running() for number in unwanted)
        size = sum(len(one.buffer) for one in held._there.values()) + size_of_coming(held, self.sizes)
        assert held._wanted_size + held._idle_size == size
        assert held._idle_size == sum(len(one.buffer) for one in held._idle.values())
        next_ones = sum(len(window[0]) for window in windows)
        beyond = 0 if len(windows) <= 1 and not unwanted else (next_ones + len(unwanted)) * SEGMENT
        assert size <= self.limit + beyond


three = st.integers(0, 2)
a_number = st.integers(0, 7)
numbers_of = st.lists(a_number, min_size=1, max_size=3, unique=True).map(tuple)
steps_of = st.lists(
    st.one_of(
        st.tuples(st.just(Streams.ask), three, numbers_of, st.integers(1, 4)),
        st.tuples(st.just(Streams.use), three),
        st.tuples(st.just(Streams.leave), three),
        st.tuples(st.just(Streams.begin), a_number),
        st.tuples(st.just(Streams.come), a_number),
        st.tuples(st.just(Streams.come), a_number, st.just(OSError("no"))),
    ),
    max_size=60,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(steps_of, st.lists(st.sampled_from([1, 300, SEGMENT]), min_size=8, max_size=8), st.integers(3, 10))
def test_streams_that_are_left_half_way_leave_nothing_behind(
    steps: list[tuple[Any, ...]], sizes: list[int], limit: int
) -> None:
    streams = Streams(sizes, limit)
    for step, *how in steps:
        step(streams, *how)
        streams.look()
    for stream in list(streams.windows):
        streams.leave(stream)
    streams.look()
    for number in range(8):
        streams.come(number)
    streams.look()
    assert streams.held._waiting == {}
    assert streams.held._coming == {}
    kept = sum(len(segment.buffer) for segment in streams.held._there.values())
    before = streams.buffers._size
    streams.held.end()
    assert streams.buffers._size == before + kept, "something was not given back, or twice"


def test_of_a_stream_that_is_left_nothing_is_fetched_that_was_not_begun() -> None:
    streams = Streams([SEGMENT] * 4, 4)
    for number in range(4):
        streams.ask(0, (number,))
    streams.use(0)
    streams.begin(1)
    streams.leave(0)
    streams.look()
    assert [future.cancelled() for future in streams.futures] == [False, False, True, True]
    # What is under way still counts, and is not asked for again. It is kept when it comes.
    assert not streams.held.has_room((2,), 1)
    assert streams.held.has_room((1,), 1)
    streams.ask(1, (1, 2))
    streams.look()
    assert streams.asked == [0, 1, 2, 3, 2]
    streams.leave(1)
    streams.come(1)
    streams.look()
    assert sorted(streams.held._idle) == [0, 1]
    streams.ask(2, (0, 1))
    streams.use(2)
    assert streams.asked == [0, 1, 2, 3, 2]


def test_what_failed_for_a_stream_that_was_left_is_asked_for_again() -> None:
    streams = Streams([SEGMENT] * 4, 4)
    streams.ask(0, (0,))
    streams.begin(0)
    streams.leave(0)
    streams.look()
    streams.come(0, OSError("no"))
    streams.ask(1, (0,))
    streams.use(1)
    streams.look()
    assert streams.asked == [0, 0]


def test_a_segment_stays_wanted_by_the_stream_that_goes_on() -> None:
    streams = Streams([SEGMENT] * 4, 3)
    streams.ask(0, (0, 1))
    streams.ask(1, (1, 2))
    streams.leave(0)
    streams.look()
    assert [future.cancelled() for future in streams.futures] == [True, False, False]
    streams.use(1)
    assert streams.asked == [0, 1, 2]


def test_nothing_is_kept_that_is_to_be_read_again() -> None:
    streams = Streams([SEGMENT] * 4, 4)
    for stream in range(2):
        streams.ask(stream, (stream,))
    streams.use(0)
    streams.come(1)
    streams.held.forget()
    streams.look()
    assert streams.buffers._size == SEGMENT
    streams.use(1)
    streams.ask(2, (0, 1))
    assert streams.asked == [0, 1, 0]


def test_at_the_end_all_is_given_back_whoever_reads_still() -> None:
    streams = Streams([SEGMENT] * 4, 4)
    for number in range(4):
        streams.ask(number % 2, (number,))
    streams.use(0)
    streams.come(1)
    assert streams.held.use(1).data == streams.content(1)
    streams.held.end()
    assert streams.buffers._size == 2 * SEGMENT
    assert [future.cancelled() for future in streams.futures] == [False, False, True, True]
    for call in (streams.held.want, streams.held.used):
        with pytest.raises(RuntimeError, match="closed"):
            call((1,))
    streams.leave(1)


#: What three streams have in common, all of it or a part.
SHARED = noise(12 * MIB, 1)


@pytest.fixture
def reader(lab: Lab) -> Iterator[SnapshotReader]:
    lab.backup({"a": SHARED, "b": SHARED[::-1][: 2 * MIB] + SHARED, "c": SHARED[5 * MIB :]})
    with SnapshotReader(find_snapshot(lab.open(), "latest"), 64 * MIB) as reader:
        yield reader


def read(reader: SnapshotReader, name: str) -> bytes:
    return b"".join(map(bytes, reader.blocks(reader.stream(name))))


def needed_by(reader: SnapshotReader, *names: str) -> set[int | None]:
    return {one.segment for name in names for one in reader._content.extents(reader.stream(name))}


@pytest.mark.slow
def test_streams_that_share_segments_read_them_once_and_again_in_the_next_pass(reader: SnapshotReader) -> None:
    every = needed_by(reader, "a", "b", "c")
    assert len(needed_by(reader, "a") & needed_by(reader, "b") & needed_by(reader, "c")) > 2
    for times in (1, 2):
        assert read(reader, "a") == SHARED
        assert read(reader, "c") == SHARED[5 * MIB :]
        assert read(reader, "b")[2 * MIB :] == SHARED
        assert reader.segments_read == times * len(every)
        assert reader._held._waiting == {}
        assert reader._held._coming == {}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["closed", "dropped", "in a cycle, collected by another thread"])
def test_a_stream_that_is_left_half_way_keeps_nothing(reader: SnapshotReader, way: str) -> None:
    blocks = reader.blocks(reader.stream("a"))
    for _ in range(3):
        next(blocks)
    assert len(reader._held._waiting) > 1
    if way == "closed":
        blocks.close()  # type: ignore[attr-defined]
    elif way == "in a cycle, collected by another thread":
        cycle: list[object] = [blocks]
        cycle.append(cycle)
        del cycle
    del blocks
    if way == "in a cycle, collected by another thread":
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join()
    assert read(reader, "b")[2 * MIB :] == SHARED
    assert reader._held._waiting == {}


@pytest.mark.slow
def test_streams_are_read_by_turns(reader: SnapshotReader) -> None:
    names = ["a", "b", "c"]
    found = dict.fromkeys(names, b"")
    each = {name: reader.blocks(reader.stream(name)) for name in names}
    while each:
        for name in list(each):
            block = next(each[name], None)
            if block is None:
                del each[name]
            else:
                found[name] += block
    assert (found["a"], found["b"][2 * MIB :], found["c"]) == (SHARED, SHARED, SHARED[5 * MIB :])
    assert reader.segments_read == len(needed_by(reader, *names))
    assert reader._held._waiting == {}


@pytest.mark.slow
def test_a_stream_that_breaks_off_keeps_nothing_and_the_others_are_read(lab: Lab, reader: SnapshotReader) -> None:
    segments = sorted(number for number in needed_by(reader, "a") - needed_by(reader, "c") if number is not None)
    damaged = reader._content.table.find(segments[-1])
    place = reader._sealed._places(damaged.pack)
    lab.flip(lab.at.pack_key(damaged.pack), place.find(damaged).offset + 100)  # type: ignore[union-attr]
    for name in ("a", "b"):
        with pytest.raises(DamagedObject, match="not the bytes that the snapshot pins"):
            read(reader, name)
    assert read(reader, "c") == SHARED[5 * MIB :]
    assert reader._held._waiting == {}
    assert reader._held._coming == {}


@pytest.mark.slow
def test_no_stream_is_read_on_after_its_reader_was_closed(reader: SnapshotReader) -> None:
    blocks = reader.blocks(reader.stream("a"))
    next(blocks)
    under_way = list(reader._held._coming.values())
    reader.__exit__(None, None, None)
    assert all(future.done() for future in under_way)
    assert not reader._held._there
    assert not reader._held._coming
    with pytest.raises(RuntimeError, match="closed"):
        next(blocks)
