"""Chunks: cuts depend only on the bytes of the stream, and a length always fits into two bytes."""

import random
from array import array
from itertools import accumulate
from typing import Any

import pytest
from core.tests.format.damage import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.encoding import Malformed

SMALL = ChunkerParameters(64, 256, 1024, 1)
SEPARATORS = st.sampled_from([b"", b"\n", b"row\n", b"\x00", b"\x00" * 100, b"a separator that is nowhere" * 5])


@st.composite
def parameters(draw: st.DrawFn) -> ChunkerParameters:
    average = draw(st.integers(256, 5000))
    minimum = draw(st.integers(64, average))
    maximum = draw(st.integers(max(average, 1024), 65535))
    return ChunkerParameters(minimum, average, maximum, draw(st.integers(0, 3)))


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


def cut_in_buffers(chunker: Chunker, data: bytes, sizes: list[int], longest_rest: int) -> list[int]:
    """Cut like a writer: the rest of one cut comes in front of the next buffer."""
    lengths: list[int] = []
    start = end = 0
    for size in sizes:
        end = min(len(data), end + size)
        found = chunker.cut(memoryview(data)[start - chunker.lag : end], last=False)
        lengths += found
        start += sum(found)
        assert end - start + chunker.lag <= longest_rest, "no more is left than was said"
    return lengths + chunker.cut(memoryview(data)[start - chunker.lag :], last=True)


@settings(EFFORT, max_examples=examples(100))
@given(parameters(), st.integers(1, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 60_000))
def test_chunks_are_the_whole_buffer_and_within_bounds(
    chosen: ChunkerParameters, seed: int, content: int, length: int
) -> None:
    lengths = Chunker(chosen, seed | 1).cut(memoryview(sample(content, length)), last=True)

    assert sum(lengths) == length
    assert all(0 < one <= chosen.maximum for one in lengths)
    assert all(one >= chosen.minimum // 2 * 2 for one in lengths[:-1])
    array("H", lengths)


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(100))
@given(
    parameters(),
    st.integers(0, 10**6),
    st.integers(0, 60_000),
    st.lists(st.integers(0, 30_000) | st.integers(0, 200), max_size=20),
    SEPARATORS,
)
def test_cuts_do_not_depend_on_how_the_stream_is_divided(
    chosen: ChunkerParameters, content: int, length: int, sizes: list[int], separator: bytes
) -> None:
    data = sample(content, length)

    whole = Chunker(chosen, 77, separator).cut(memoryview(data), last=True)
    assert cut_in_buffers(Chunker(chosen, 77, separator), data, sizes, chosen.longest_rest) == whole


@settings(EFFORT, max_examples=examples(100))
@given(parameters(), st.integers(0, 10**6), st.integers(0, 60_000), SEPARATORS)
def test_the_next_cuts_depend_on_the_bytes_that_follow_and_on_the_lag_alone(
    chosen: ChunkerParameters, content: int, length: int, separator: bytes
) -> None:
    """So a writer can go on behind any chunk that it knows, and finds what others find."""
    data = sample(content, length)
    cuts = list(Chunker(chosen, 77, separator).each(memoryview(data), last=True))

    ends = list(accumulate(length for length, _ in cuts))
    for number in range(0, len(cuts), max(1, len(cuts) // 8)):
        chunker = Chunker(chosen, 77, separator)
        chunker.lag = cuts[number][1]
        follows = bytes(chunker.lag) + data[ends[number] :]
        assert list(chunker.each(memoryview(follows), last=True)) == cuts[number + 1 :]


@pytest.mark.parametrize("separator", [b"", b"\n", b"row\n", b"not there"])
def test_cutting_byte_by_byte_gives_the_same_cuts(separator: bytes) -> None:
    data = sample(3, 6000)

    whole = Chunker(SMALL, 5, separator).cut(memoryview(data), last=True)
    assert cut_in_buffers(Chunker(SMALL, 5, separator), data, [1] * 6000, SMALL.longest_rest) == whole


@pytest.mark.parametrize("length", [0, 1, 63, 64, 1023, 1024, 1025, 2048, 4096])
def test_bytes_without_a_cut_make_chunks_of_the_maximum(length: int) -> None:
    lengths = Chunker(SMALL, 5).cut(memoryview(bytes(length)), last=True)

    assert lengths == [1024] * (length // 1024) + ([length % 1024] if length % 1024 else [])
    assert cut_in_buffers(Chunker(SMALL, 5), bytes(length), [1024] * 5, SMALL.longest_rest) == lengths


def test_a_chunk_of_the_largest_maximum_fits_into_two_bytes() -> None:
    largest = ChunkerParameters(128, 512, 65535, 0)

    assert Chunker(largest, 5).cut(memoryview(bytes(200_000)), last=True)[0] == 65535


@settings(EFFORT, max_examples=examples(100))
@given(parameters(), st.integers(0, 10**6), st.integers(0, 60_000), SEPARATORS.filter(len))
def test_a_chunk_ends_with_the_first_row_that_ends_at_its_cut_or_soon_after_it(
    chosen: ChunkerParameters, content: int, length: int, separator: bytes
) -> None:
    data = sample(content, length)
    cuts = accumulate(Chunker(chosen, 77).cut(memoryview(data), last=True))

    ends = [0]
    for cut in cuts:
        start = ends[-1]
        if cut <= start:
            continue
        furthest = min(cut + chosen.reach, start + 65535, length)
        rows = [at for at in range(cut, furthest + 1) if data[start:at].endswith(separator)]
        ends.append(rows[0] if rows and cut < length else cut)
    assert list(accumulate(Chunker(chosen, 77, separator).cut(memoryview(data), last=True))) == ends[1:]


def test_whoever_begins_anew_finds_the_cuts_of_the_others_soon() -> None:
    data = b"".join(
        b"%d\t%s\n" % (number, random.Random(number).randbytes(90).hex().encode()) for number in range(2000)
    )
    lengths = Chunker(ChunkerParameters(), 5, b"\n").cut(memoryview(data), last=True)
    ends = list(accumulate(lengths))

    for number in range(len(ends) // 2):
        anew = Chunker(ChunkerParameters(), 5, b"\n").cut(memoryview(data)[ends[number] :], last=True)
        assert list(accumulate(anew, initial=ends[number]))[-10:] == ends[-10:]


def test_a_longer_row_moves_no_cut_into_a_row() -> None:
    rows = [b"%d\t%s\n" % (number, random.Random(number).randbytes(90).hex().encode()) for number in range(2000)]
    chunker = Chunker(ChunkerParameters(), 5, b"\n")
    before = b"".join(rows)
    rows[1000] = b"1000\tanother, and longer, and longer, and longer, and longer\n" * 20
    after = b"".join(rows)

    for data in (before, after):
        ends = list(accumulate(chunker.cut(memoryview(data), last=True)))
        assert len(ends) > 50
        assert {data[end - 1 : end] for end in ends} == {b"\n"}


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


IMPOSSIBLE: list[dict[str, int]] = [
    {"maximum": 65536},
    {"maximum": 2**32},
    {"maximum": 1023, "average": 512, "minimum": 64},
    {"minimum": 63},
    {"minimum": 0},
    {"minimum": -1},
    {"minimum": 2049},
    {"minimum": 64, "average": 255},
    {"average": 1023},
    {"average": 32769, "maximum": 32768},
    {"normalization": 4},
    {"normalization": -1},
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_impossible_parameters_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        ChunkerParameters(**change)
    with pytest.raises(Malformed):
        ChunkerParameters.from_json({**ChunkerParameters().to_json(), **change})


@pytest.mark.parametrize("name", ["algorithm", "minimum", "average", "maximum", "normalization"])
def test_no_parameter_may_be_missing(name: str) -> None:
    content = ChunkerParameters().to_json()
    assert ChunkerParameters.from_json(content) == ChunkerParameters()

    del content[name]
    with pytest.raises(Malformed):
        ChunkerParameters.from_json(content)


@EFFORT
@given(parameters(), st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text(max_size=3)))
def test_unknown_fields_are_ignored(chosen: ChunkerParameters, unknown: dict[str, Any]) -> None:
    assert ChunkerParameters.from_json({**unknown, **chosen.to_json()}) == chosen


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
                for name in ("minimum", "average", "maximum", "normalization")
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
