"""Recipes: extents of any shape round-trip, and nothing else is accepted as a block of a recipe."""

import contextlib
import random

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged
from core.tests.format.examples import EXTENTS
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.format.encoding import Malformed, encode_varints
from penstock.format.recipe import EXTENTS_A_BLOCK, Block, Extent, decode_block, encode_block, range_of

NUMBERS = st.integers(0, 5) | st.integers(0, 2**31)
LENGTHS = st.integers(1, 3) | st.integers(1, 2**31)
SOME = st.lists(st.builds(Extent, st.none() | NUMBERS, NUMBERS, LENGTHS), min_size=1, max_size=40)


def read(block: bytes) -> Block:
    """What both programs understand."""
    found = decode_block(block)
    start, size, extents = independent_reader.block_of(block)
    assert (start, size) == (found.start, found.size)
    assert [(one.segment, one.start, one.length) for one in extents] == list(found.extents)
    assert all(one.stream == found.base for one in extents if one.segment is None)
    return found


@EFFORT
@given(NUMBERS, SOME, NUMBERS)
def test_blocks_round_trip(start: int, extents: list[Extent], base: int) -> None:
    block = encode_block(start, extents, base)

    assert read(block) == Block(start, sum(one.length for one in extents), base, tuple(extents))
    assert decode_block(memoryview(block)) == decode_block(block)
    assert range_of(block) == range_of(memoryview(block)) == (start, sum(one.length for one in extents))


def test_a_block_is_laid_out_as_the_page_says() -> None:
    lengths = [2 * 2, 2 * 1, 2 * 50 + 1, 2 * 4, 2 * 1 + 1, 2**41]
    # To 0, to the one before, and zigzagged: 5, -1, 1, 0.
    segments = [10, 1, 2, 0]
    # The first of a segment to 0, others to the end of the one before: 3, 9, 0 - 5, 4 - 4.
    places = [6, 18, 9, 0]
    # To `from`, and to the end of the one before: 0, 90 - 150.
    jumps = [0, 119]
    size = 2 + 1 + 50 + 4 + 1 + 2**40

    assert encode_block(7, EXTENTS, 3) == encode_varints([7, size, 3, 100, 6, *lengths, *segments, *places, *jumps])
    assert read(encode_block(7, EXTENTS, 3)).extents == tuple(EXTENTS)


@EFFORT
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=60))
def test_what_goes_on_where_it_ended_costs_three_bytes_an_extent(steps: list[tuple[int, int]]) -> None:
    ends: dict[int, int] = {}
    extents = []
    for segment, length in steps:
        extents.append(Extent(segment, ends.get(segment, 0), length))
        ends[segment] = ends.get(segment, 0) + length

    block = encode_block(0, extents)
    assert read(block).extents == tuple(extents)
    assert len(block) <= 4 + 2 + 3 * len(extents) + 2


def test_a_night_without_changes_costs_a_few_bytes() -> None:
    assert len(encode_block(0, [Extent(None, 0, 2**40)])) < 20


@pytest.mark.parametrize("count", [1, 32767, EXTENTS_A_BLOCK])
def test_a_block_has_up_to_32768_extents(count: int) -> None:
    chance = random.Random(count)
    extents = [
        Extent(chance.randrange(500) if number % 3 else None, chance.randrange(2000), 1) for number in range(count)
    ]

    assert EXTENTS_A_BLOCK == 32768
    assert read(encode_block(0, extents)).extents == tuple(extents)


@pytest.mark.parametrize("count", [0, EXTENTS_A_BLOCK + 1, 2 * EXTENTS_A_BLOCK])
def test_a_block_without_extents_or_with_too_many_is_not_written(count: int) -> None:
    with pytest.raises(ValueError, match="number of extents"):
        encode_block(0, [Extent(0, number, 1) for number in range(count)])


@pytest.mark.parametrize(
    "extent",
    [
        Extent(0, 0, 0),
        Extent(None, 0, 0),
        Extent(0, 0, -1),
        Extent(None, 9, -1),
        Extent(0, -1, 2),
        Extent(None, -1, 2),
        Extent(-1, 0, 1),
    ],
)
def test_an_impossible_extent_is_not_written(extent: Extent) -> None:
    for extents in ([extent], [*EXTENTS, extent], [extent, *EXTENTS]):
        with pytest.raises(ValueError, match="impossible extent"):
            encode_block(0, extents)


@pytest.mark.parametrize(
    ("start", "base", "extent"),
    [
        (2**63, 0, Extent(0, 0, 1)),
        (-1, 0, Extent(0, 0, 1)),
        (0, 2**63, Extent(None, 0, 1)),
        (0, -1, Extent(None, 0, 1)),
        (0, 0, Extent(2**62, 0, 1)),
        (0, 0, Extent(0, 2**62, 1)),
        (0, 0, Extent(0, 0, 2**62)),
        (0, 0, Extent(None, 2**63, 1)),
    ],
)
def test_numbers_of_more_than_63_bits_are_not_written(start: int, base: int, extent: Extent) -> None:
    with pytest.raises(ValueError, match="63 bits"):
        encode_block(start, [extent], base)


def test_the_largest_numbers_fit() -> None:
    extents = [Extent(2**62 - 1, 2**62 - 1, 2**62 - 1), Extent(None, 2**62 - 1, 1)]

    assert read(encode_block(2**62, extents, 2**63 - 1)).extents == tuple(extents)


def block(*columns: int, start: int = 0, size: int = 1, base: int = 0, begin: int = 0, count: int = 1) -> bytes:
    return encode_varints((start, size, base, begin, count, *columns))


ONE = block(2, 0, 0)
BROKEN = {
    "nothing": b"",
    "too few numbers": encode_varints([0, 1, 0, 0]),
    "no extents": block(size=0, count=0),
    "no extents, but columns": block(2, 0, 0, count=0),
    "more extents than a block may have": block(*[2] * 32769, *[0] * 65538, size=32769, count=32769),
    "extents without end": block(2, 0, 0, count=2**62),
    "a column less": block(2, 0),
    "no columns": block(),
    "a column more": block(2, 0, 0, 0),
    "columns for a base that is not used": block(2, 0, 0, 5),
    "a column of a base that is missing": block(3),
    "columns of a segment for a base": block(3, 0, 0),
    "an extent more than stated": block(2, 2, 0, 0, 0, 0, size=2),
    "an extent less than stated": block(2, 0, 0, count=2),
    "an extent without bytes": block(0, 0, 0, size=0),
    "an extent of the base without bytes": block(1, 0, size=0),
    "one of two without bytes": block(2, 0, 0, 0, 0, 0, count=2),
    "a segment below zero": block(2, 1, 0),
    "a second segment below zero": block(2, 2, 2, 3, 0, 0, size=2, count=2),
    "a place below zero": block(2, 0, 1),
    "a second place below zero": block(2, 2, 0, 0, 2, 5, size=2, count=2),
    "a place in the base below zero": block(3, 1),
    "a second place in the base below zero": block(3, 3, 0, 3, size=2, count=2),
    "another size": block(2, 0, 0, size=2),
    "a size of nothing": block(2, 0, 0, size=0),
    "a number in a longer spelling": b"\x80\0" + ONE[1:],
    "a number of 64 bits": b"\xff" * 9 + b"\1" + ONE[1:],
    "a varint that is cut": ONE + b"\x80",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
@pytest.mark.timeout(60)
def test_a_broken_block_is_refused(data: bytes) -> None:
    assert read(ONE).extents == (Extent(0, 0, 1),)
    with pytest.raises(Malformed):
        decode_block(data)
    with pytest.raises(independent_reader.BROKEN):
        independent_reader.block_of(data)


def test_a_block_is_refused_at_every_shorter_length() -> None:
    data = encode_block(7, EXTENTS, 3)
    for length in range(len(data)):
        with pytest.raises(Malformed):
            decode_block(data[:length])
        with pytest.raises(independent_reader.BROKEN):
            independent_reader.block_of(data[:length])


@EFFORT
@given(st.binary(max_size=40) | st.lists(st.integers(0, 6), max_size=30).map(encode_varints))
@example(b"")
def test_any_bytes_are_refused_by_both_programs_or_by_none(data: bytes) -> None:
    try:
        found = read(data)
    except Malformed:
        with pytest.raises(independent_reader.BROKEN):
            independent_reader.block_of(data)
        return
    assert all(one.start >= 0 and one.length > 0 for one in found.extents)
    assert all(one.segment is None or one.segment >= 0 for one in found.extents)
    assert sum(one.length for one in found.extents) == found.size


@EFFORT
@given(damaged(encode_block(7, EXTENTS, 3)))
def test_damage_is_refused_or_gives_extents(data: bytes) -> None:
    # The seal around it detects every change; here damage only must do no harm.
    with contextlib.suppress(Malformed):
        assert all(one.length > 0 for one in read(data).extents)


@pytest.mark.parametrize("block", [b"", b"\x05", b"\x85\x80", b"\x05\x80", b"\x80" * 40, b"\x80\x00\x01"])
def test_a_block_without_a_range_is_refused(block: bytes) -> None:
    with pytest.raises(Malformed):
        range_of(block)
