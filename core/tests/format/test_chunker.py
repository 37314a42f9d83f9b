"""Chunks: cuts depend only on the bytes of the stream, and a length always fits into two bytes."""

import random
from array import array
from typing import Any

import pytest
from core.tests.format.damage import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.encoding import Malformed

#: FastCDC's own pieces, neither split nor joined.
SMALL = ChunkerParameters(64, 256, 1024, 1, 0, 0)


@st.composite
def parameters(draw: st.DrawFn) -> ChunkerParameters:
    average = draw(st.integers(256, 5000))
    minimum = draw(st.integers(64, average))
    maximum = draw(st.integers(max(average, 1024), 65535))
    below = draw(st.just(0) | st.integers(1, 5000))
    above = draw(st.just(0) | st.integers(max(below, 1), 6000))
    return ChunkerParameters(minimum, average, maximum, draw(st.integers(0, 3)), above, below)


def sample(seed: int, length: int) -> bytes:
    """Random bytes with repeated stretches and zeroes, as in dumps."""
    chance = random.Random(seed)
    data = bytearray()
    while len(data) < length:
        kind = chance.randrange(4)
        size = chance.randrange(1, 9000)
        if kind == 0:
            data += bytes(size)
        elif kind == 1:
            data += (b"%d\tsome row\n" % chance.randrange(50)) * (size // 12)
        else:
            data += chance.randbytes(size)
    return bytes(data[:length])


def cut_in_buffers(chunker: Chunker, data: bytes, sizes: list[int]) -> list[int]:
    """Cut like a writer: the rest of one cut comes in front of the next buffer."""
    lengths: list[int] = []
    start = end = 0
    for size in sizes:
        end = min(len(data), end + size)
        found = chunker.cut(memoryview(data)[start:end], last=False)
        lengths += found
        start += sum(found)
        assert end - start <= chunker.longest_rest, "no more is left than was said"
    return lengths + chunker.cut(memoryview(data)[start:], last=True)


@settings(EFFORT, max_examples=examples(100))
@given(parameters(), st.integers(1, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 60_000))
def test_chunks_are_the_whole_buffer_and_within_bounds(
    chosen: ChunkerParameters, seed: int, content: int, length: int
) -> None:
    lengths = Chunker(chosen, seed | 1).cut(memoryview(sample(content, length)), last=True)

    assert sum(lengths) == length
    assert all(0 < one <= chosen.maximum for one in lengths)
    if not chosen.split_above:  # a piece that is split may end in a short one
        assert all(one >= chosen.minimum // 2 * 2 for one in lengths[:-1])
    array("H", lengths)


@settings(EFFORT, max_examples=examples(100))
@given(
    parameters(),
    st.integers(0, 10**6),
    st.integers(0, 60_000),
    st.lists(st.integers(0, 30_000) | st.integers(0, 200), max_size=20),
)
def test_cuts_do_not_depend_on_how_the_stream_is_divided(
    chosen: ChunkerParameters, content: int, length: int, sizes: list[int]
) -> None:
    data = sample(content, length)

    whole = Chunker(chosen, 77).cut(memoryview(data), last=True)
    assert cut_in_buffers(Chunker(chosen, 77), data, sizes) == whole


def test_cutting_byte_by_byte_gives_the_same_cuts() -> None:
    data = sample(3, 6000)

    whole = Chunker(SMALL, 5).cut(memoryview(data), last=True)
    assert cut_in_buffers(Chunker(SMALL, 5), data, [1] * 6000) == whole


@pytest.mark.parametrize("length", [0, 1, 63, 64, 1023, 1024, 1025, 2048, 4096])
def test_bytes_without_a_cut_make_chunks_of_the_maximum(length: int) -> None:
    lengths = Chunker(SMALL, 5).cut(memoryview(bytes(length)), last=True)

    assert lengths == [1024] * (length // 1024) + ([length % 1024] if length % 1024 else [])
    assert cut_in_buffers(Chunker(SMALL, 5), bytes(length), [1024] * 5) == lengths


def test_a_chunk_of_the_largest_maximum_fits_into_two_bytes() -> None:
    largest = ChunkerParameters(128, 512, 65535, 0, 0)

    assert Chunker(largest, 5).cut(memoryview(bytes(200_000)), last=True)[0] == 65535


def test_another_seed_cuts_elsewhere() -> None:
    data = memoryview(sample(1, 60_000))

    assert Chunker(SMALL, 1).cut(data, last=True) != Chunker(SMALL, 3).cut(data, last=True)


def test_cuts_realign_after_an_insertion() -> None:
    data = random.Random(9).randbytes(100_000)
    before = Chunker(ChunkerParameters(), 5).cut(memoryview(data), last=True)
    after = Chunker(ChunkerParameters(), 5).cut(memoryview(data[:50_000] + b"a new row" + data[50_000:]), last=True)

    same = 0
    while before[-1 - same] == after[-1 - same]:
        same += 1
    assert sum(before[-same:]) > 45_000


def rows(number: int) -> bytes:
    """A table as filled by pgbench: rows differ little, and most windows are the same in all of them."""
    return b"".join(b"%d\t%d\t0\t%s\n" % (row, row // 9000, b" " * 84) for row in range(number))


def new_bytes(before: bytes, after: bytes, seed: int, chosen: ChunkerParameters) -> tuple[int, int]:
    """The number of chunks in `before`, and the bytes of `after` in chunks that `before` does not have."""
    known: set[bytes] = set()
    sizes = []
    for data in (before, after):
        found, start = set(), 0
        for length in Chunker(chosen, seed).cut(memoryview(data), last=True):
            found.add(data[start : start + length])
            start += length
        sizes.append(sum(map(len, found - known)))
        known = known or found
    return len(known), sizes[1]


def test_no_seed_cuts_every_row_of_a_table_or_fails_to_realign() -> None:
    table = rows(20_000)
    lines = table.splitlines(keepends=True)
    for row in range(500, 20_000, 1000):
        lines[row] = b"" if row % 3 else lines[row].replace(b"\t0\t", b"\t4321\t")
    changed = b"".join(lines)

    chance = random.Random(4)
    seeds = [chance.getrandbits(63) | 1 for _ in range(60)]

    def worst(chosen: ChunkerParameters) -> tuple[int, int]:
        chunks, costs = zip(*(new_bytes(table, changed, seed, chosen) for seed in seeds), strict=True)
        return max(chunks), sorted(costs)[-2]

    most, dearest = worst(ChunkerParameters(split_above=4096))
    assert most < len(table) / 400
    # Twenty changes, each in chunks of a few KiB. If cuts moved after each change, half of the table would be new.
    assert dearest < len(table) / 10
    # FastCDC alone has seeds that are worse in both respects; joining alone fixes the first.
    most_alone, dearest_alone = worst(ChunkerParameters(128, 512, 32768, 0, 0, 0))
    assert most_alone > 1.5 * most
    assert dearest_alone > 1.5 * dearest
    assert worst(ChunkerParameters())[0] <= most


IMPOSSIBLE: list[dict[str, int]] = [
    {"maximum": 65536},
    {"maximum": 2**32},
    {"maximum": 1023, "average": 512},
    {"minimum": 63},
    {"minimum": 0},
    {"minimum": -1},
    {"minimum": 513},
    {"average": 255},
    {"average": 32769},
    {"normalization": 4},
    {"normalization": -1},
    {"split_above": -1},
    {"split_above": 65536},
    {"joined_below": -1},
    {"joined_below": 65536},
    {"split_above": 255, "joined_below": 256},
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_impossible_parameters_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        ChunkerParameters(**change)
    with pytest.raises(Malformed):
        ChunkerParameters.from_json({**ChunkerParameters().to_json(), **change})


@pytest.mark.parametrize("name", ["split_above", "joined_below"])
def test_what_is_off_is_left_out(name: str) -> None:
    content = ChunkerParameters().to_json()
    with pytest.raises(Malformed, match="left out"):
        ChunkerParameters.from_json({**content, name: 0})

    del content[name]
    assert getattr(ChunkerParameters.from_json(content), name) == 0


@pytest.mark.parametrize("limit", [65535, 1024])
def test_the_limits_of_the_maximum_are_allowed(limit: int) -> None:
    assert ChunkerParameters(64, 256, limit).maximum == limit


@EFFORT
@given(parameters())
def test_parameters_round_trip(chosen: ChunkerParameters) -> None:
    assert ChunkerParameters.from_json(chosen.to_json()) == chosen


@EFFORT
@given(
    st.one_of(
        st.none(),
        st.integers(),
        st.lists(st.integers()),
        st.fixed_dictionaries(
            {"algorithm": st.sampled_from(["fastcdc-2020", "fastcdc-2016", None])},
            optional={
                name: st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=3))
                for name in ("minimum", "average", "maximum", "normalization", "split_above", "joined_below")
            },
        ),
    )
)
def test_any_json_as_parameters_is_refused_or_accepted_completely(value: Any) -> None:
    try:
        chosen = ChunkerParameters.from_json(value)
    except Malformed:
        return
    assert chosen.to_json() == value
