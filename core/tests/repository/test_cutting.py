"""A stream that goes on like its past is compared with it, and gets the chunks that cutting all of it would give."""

import random
from itertools import accumulate, pairwise

import numpy as np
import pytest
from core.tests.format.damage import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.ids import ChunkNamer
from penstock.format.pack import MAX_SEGMENTS
from penstock.repository.extents import Extents
from penstock.repository.known.frames import NO_CUT, Frame
from penstock.repository.known.window import Window
from penstock.repository.write.cutting import ChunkCutter

KEY = bytes(range(32))
#: A cut is in most rows that are longer than the minimum, and often another one in the same row.
PARAMETERS = ChunkerParameters(1024, 1024, 65535, 3)
CHANGES = ["changed", "new", "gone", "again", "longer"]
#: Chunks of a frame.
MANY = 50

Cut = tuple[bytes, int, int]


def chunker(separator: bytes = b"\n") -> Chunker:
    return Chunker(PARAMETERS, 7, separator)


def cut_of(data: bytes, separator: bytes = b"\n") -> list[Cut]:
    """Id, length and lag of the chunks of a whole stream."""
    cuts = list(chunker(separator).each(memoryview(data), last=True))
    cuts[-1:] = [(length, NO_CUT) for length, _ in cuts[-1:]]
    starts = accumulate((length for length, _ in cuts), initial=0)
    namer = ChunkNamer(KEY)
    return [
        (namer.id(memoryview(data)[start : start + length]), length, lag)
        for start, (length, lag) in zip(starts, cuts, strict=False)
    ]


def past_of(cuts: list[Cut], bad: frozenset[int] = frozenset()) -> Window:
    """A past stream of these chunks, each in one piece in the row of its number; those in `bad` may not be used."""
    frames = []
    for first in range(0, len(cuts), MANY):
        some = cuts[first : first + MANY]
        ids, lengths, lags = (list(column) for column in zip(*some, strict=True))
        sizes = np.array(lengths, dtype=np.int64)
        rows = np.arange(first, first + len(some), dtype=np.int64) * MAX_SEGMENTS
        frames.append(
            Frame(
                chunks=ids,
                chunk_lengths=sizes,
                lags=np.array(lags, dtype=np.uint16),
                counts=np.zeros_like(sizes),
                hashes=np.zeros(0, dtype=np.uint64),
                record_lengths=np.zeros(0, dtype=np.uint16),
                extents=Extents(rows, np.zeros_like(sizes), sizes),
            )
        )
    return Window(iter(frames), lambda row: 0 if row in bad else -1)


def cut_beside(
    past: Window | None, data: bytes, sizes: list[int], separator: bytes = b"\n"
) -> tuple[list[Cut], list[int]]:
    """The chunks of a stream that comes in batches of these sizes, and their numbers in the past."""
    cutter = ChunkCutter(chunker(separator), ChunkNamer(KEY), past)
    found: list[Cut] = []
    numbers: list[int] = []
    ends = [end for end in accumulate(sizes) if end < len(data)]
    for start, end in pairwise([0, *ends, len(data)]):
        chunks = cutter.cut(memoryview(data)[start - cutter.rest : end], last=end == len(data))
        assert chunks.starts == list(accumulate(chunks.lengths, initial=chunks.starts[0]))
        found += zip(chunks.ids, chunks.lengths, chunks.lags, strict=True)
        numbers += chunks.numbers
    return found, numbers


def table_of(seed: int, count: int, longest: int) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(chance.randrange(1, longest)).replace(b"\n", b".") + b"\n" for _ in range(count)]


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(100))
@given(
    st.integers(0, 10**6),
    st.sampled_from([20, 200, 1000, 3000]),
    st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from(["changed", "new", "gone", "again", "longer"])), max_size=12
    ),
    st.lists(st.integers(0, 60_000), max_size=8),
    st.sets(st.integers(0, 60), max_size=4),
)
def test_chunks_are_those_of_the_whole_stream_whatever_is_known_of_its_past(
    seed: int, longest: int, changes: list[tuple[int, str]], sizes: list[int], bad: set[int]
) -> None:
    table = table_of(seed, 100 if longest > 20 else 3000, longest)
    before = cut_of(b"".join(table))
    others = iter(table_of(seed + 1, len(changes), longest))
    for place, kind in sorted(changes, reverse=True):
        other = next(others)
        table[place : place + 1] = {
            "changed": [other],
            "new": [*table[place : place + 1], other],
            "gone": [],
            "again": table[place : place + 20] + table[place : place + 1],
            "longer": [*table[place : place + 1], *table[:50]],
        }[kind]
    data = b"".join(table)

    found, numbers = cut_beside(past_of(before, frozenset(bad)), data, sizes)
    assert found == cut_of(data)
    for (chunk, _, _), number in zip(found, numbers, strict=True):
        if number >= 0:
            assert before[number][0] == chunk
            assert number not in bad


def test_chunks_found_again_behind_another_cut_are_cut_until_they_are_as_in_the_past() -> None:
    """With long rows, a chunk is often found again whose cut is elsewhere in its last row: that may move the next."""
    table = table_of(1, 8000, 1000)
    before = cut_of(b"".join(table))
    table[5::8] = table_of(2, len(table[5::8]), 1000)
    data = b"".join(table)
    expected = cut_of(data)

    found, numbers = cut_beside(past_of(before), data, [300_000] * 12)
    assert found == expected
    starts = list(accumulate((length for _, length, _ in expected), initial=0))
    moved = 0
    for at, number in enumerate(numbers[:-1]):
        if number >= 0 and before[number][2] != expected[at][2]:
            chunk, length, _ = before[number + 1]
            there = ChunkNamer(KEY).id(memoryview(data)[starts[at + 1] : starts[at + 1] + length])
            moved += there == chunk and expected[at + 1][0] != chunk
    assert moved > 0, "nowhere did the bytes that followed make another chunk than in the past"


@pytest.mark.slow
@pytest.mark.parametrize(("separator", "place", "new"), [(b"", 0, b"x"), (b"\n", 0, b"x"), (b"\n", 500, b"\n")])
def test_a_chunk_that_ends_at_its_cut_is_not_believed_if_other_bytes_follow(
    separator: bytes, place: int, new: bytes
) -> None:
    """The byte behind a cut has made it one; and a row that ends soon behind a cut would have been the chunk's end."""
    data = b"".join(table_of(4, 400, 3000) if place else table_of(4, 20_000, 30))
    before = cut_of(data, separator)
    ends = list(accumulate(length for _, length, _ in before))
    moved = 0
    at_cut = [end for end, (_, _, lag) in zip(ends, before, strict=True) if not lag and end + 2000 < len(data)]
    assert len(at_cut) > 3
    for end in at_cut[:80]:
        changed = data[: end + place] + new + data[end + place :]
        expected = cut_of(changed, separator)
        assert cut_beside(past_of(before), changed, [end, 1], separator)[0] == expected
        assert cut_beside(past_of(before), changed, [], separator)[0] == expected
        moved += expected[ends.index(end)] != before[ends.index(end)]
    assert moved > 0, "nowhere did the bytes that follow make another chunk"


def test_a_stream_that_goes_on_as_it_did_is_found_without_cutting() -> None:
    data = b"".join(table_of(3, 500, 300))
    before = cut_of(data)

    assert cut_beside(past_of(before), data, [70_000]) == (before, list(range(len(before))))
    assert cut_beside(None, data, [70_000]) == (before, [-1] * len(before))
