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
from penstock.format.recipe import (
    EXTENTS_A_BLOCK,
    Block,
    Columns,
    Extent,
    decode_block,
    decode_columns,
    encode_block,
    range_of,
)

#: No place in a stream or a segment is beyond it.
FAR = 2**61
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 32767, EXTENTS_A_BLOCK])
def test_a_block_has_up_to_32768_extents(count: int) -> None:
    chance = random.Random(count)
    extents = [
        Extent(chance.randrange(500) if number % 3 else None, chance.randrange(2000), 1) for number in range(count)
    ]

    assert EXTENTS_A_BLOCK == 32768
    assert read(encode_block(0, extents)).extents == tuple(extents)


@pytest.mark.slow
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
        Extent(0, FAR, 1),
        Extent(None, FAR, 1),
        Extent(0, 1, FAR),
        Extent(None, 1, FAR),
        Extent(0, 0, FAR + 1),
        Extent(0, 2**62, 2**62),
        Extent(None, 2**80, 1),
    ],
)
def test_an_impossible_extent_is_not_written(extent: Extent) -> None:
    for extents in ([extent], [*EXTENTS, extent], [extent, *EXTENTS]):
        with pytest.raises(ValueError, match="impossible extent"):
            encode_block(0, extents)


@pytest.mark.parametrize(
    ("start", "base", "extent"),
    [
        (-1, 0, Extent(0, 0, 1)),
        (0, 2**63, Extent(None, 0, 1)),
        (0, -1, Extent(None, 0, 1)),
        (0, 0, Extent(2**62, 0, 1)),
    ],
)
def test_numbers_of_more_than_63_bits_are_not_written(start: int, base: int, extent: Extent) -> None:
    with pytest.raises(ValueError, match="63 bits"):
        encode_block(start, [extent], base)


@pytest.mark.parametrize(
    ("start", "extents"),
    [
        (FAR, [Extent(0, 0, 1)]),
        (FAR - 1, [Extent(None, 0, 1), Extent(0, 0, 1)]),
        (0, [Extent(0, 0, FAR), Extent(0, 0, 1)]),
        (1, [Extent(0, 0, FAR)]),
        (2**63, [Extent(0, 0, 1)]),
        (0, [Extent(number, 0, FAR) for number in range(4)]),
    ],
)
def test_a_block_that_reaches_too_far_is_not_written(start: int, extents: list[Extent]) -> None:
    with pytest.raises(ValueError, match="too far"):
        encode_block(start, extents)


@pytest.mark.parametrize(
    ("start", "extents"),
    [
        (0, [Extent(2**62 - 1, 0, FAR)]),
        (0, [Extent(None, 0, FAR)]),
        (FAR - 1, [Extent(2**62 - 1, FAR - 1, 1)]),
        (FAR - 2, [Extent(None, FAR - 1, 1), Extent(None, 0, 1)]),
        (7, [Extent(2**62 - 1, 1, FAR - 9), Extent(None, FAR - 1, 1), Extent(2**62 - 1, FAR - 1, 1)]),
        (0, [Extent(number % 2, FAR - 1 if number % 3 else 0, 1) for number in range(1000)]),
        (0, [Extent(2**62 - 1 if number % 2 else 0, 0, 1) for number in range(1000)]),
    ],
)
def test_the_largest_numbers_fit(start: int, extents: list[Extent]) -> None:
    assert read(encode_block(start, extents, 2**63 - 1)) == Block(
        start, sum(one.length for one in extents), 2**63 - 1, tuple(extents)
    )


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
    "a place too far": block(2, 0, 2 * FAR),
    "a place in the base too far": block(3, 2 * FAR),
    "a place in the base too far from the beginning": block(3, 0, begin=FAR),
    "a place in the base beyond 63 bits": block(3, 2**63 - 2, begin=2**63 - 1),
    "a second place in the base beyond 63 bits": block(3, 3, 2 * FAR - 2, 2**63 - 2, size=2, count=2),
    "an end too far": block(2 * FAR, 0, 2, size=FAR),
    "an end in the base too far": block(2 * FAR + 1, 2, size=FAR),
    "a length too far": block(2 * FAR + 2, 0, 0, size=FAR + 1),
    "a length of 62 bits": block(2**63 - 2, 0, 0, size=2**62 - 1),
    "a second place beyond 63 bits": block(2, 2, 0, 0, 2 * FAR - 2, 2**63 - 2, size=2, count=2),
    "places that come back after 64 bits": block(*[2] * 9, *[0] * 9, *[2**63 - 2] * 9, size=9, count=9),
    "a segment beyond 63 bits": block(2, 2, 2, 2**63 - 2, 2**63 - 2, 2**63 - 2, 0, 0, 0, size=3, count=3),
    "segments that come back after 64 bits": block(*[2] * 9, *[2**63 - 2] * 4, 8, *[0] * 4, *[0] * 9, size=9, count=9),
    "lengths that come back after 64 bits": block(*[2 * FAR] * 8, 2, *[0, *[2] * 8], *[0] * 9, size=1, count=9),
    "lengths of more than 63 bits": block(*[2 * FAR] * 4, 0, 2, 2, 2, *[0] * 4, size=2**63 - 1, count=4),
    "lengths of more than a stream": block(2 * FAR, 2, 0, 2, 0, 0, size=FAR + 1, count=2),
    "a start too far": block(2, 0, 0, start=FAR),
    "a start of 63 bits": block(2, 0, 0, start=2**63 - 1),
    "an end of the block too far": block(2 * FAR, 0, 0, size=FAR, start=1),
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


# --- In arrays, against one number after the other


def numbers_in(data: bytes) -> list[int]:
    """Varints as the page says: at most 63 bits, each in its shortest form."""
    found: list[int] = []
    at = 0
    while at < len(data):
        end = at
        while data[end] >= 128:  # an IndexError where it is cut
            end += 1
        value = sum((byte & 127) << 7 * place for place, byte in enumerate(data[at : end + 1]))
        if value >= 2**63 or len(spelled(value)) != end + 1 - at:
            raise ValueError("not a varint")
        found.append(value)
        at = end + 1
    return found


def spelled(value: int) -> bytes:
    """A varint of any size."""
    data = bytearray()
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes((*data, value))


def signed(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2


def decoded(data: bytes) -> Block:
    """One extent after the other, with numbers of any size; raises `ValueError` or `IndexError`."""
    numbers = numbers_in(data)
    start, size, base, at = numbers[:4]
    count = numbers[4]
    rest = iter(numbers[5:])
    if not 1 <= count <= EXTENTS_A_BLOCK or len(numbers) < 5 + count:
        raise ValueError("an impossible number of extents")
    words = [next(rest) for _ in range(count)]
    own = [place for place, word in enumerate(words) if word % 2 == 0]
    if len(numbers) != 5 + 2 * count + len(own):
        raise ValueError("other columns")
    segments, places, jumps = (
        [signed(next(rest)) for _ in range(many)] for many in (*[len(own)] * 2, count - len(own))
    )
    extents: list[Extent] = []
    ends: dict[int, int] = {}
    segment = 0
    for word in words:
        length = word // 2
        if word % 2:
            begin = at + jumps.pop(0)
            at = begin + length
            extents.append(Extent(None, begin, length))
        else:
            segment += segments.pop(0)
            begin = ends.get(segment, 0) + places.pop(0)
            ends[segment] = begin + length
            extents.append(Extent(segment, begin, length))
        if not (length >= 1 and 0 <= segment < 2**63 and begin >= 0 and begin + length <= FAR):
            raise ValueError("an impossible extent")
    if sum(one.length for one in extents) != size or start + size > FAR:
        raise ValueError("another size")
    return Block(start, size, base, tuple(extents))


def compared(data: bytes) -> Block | None:
    """What `decode_columns` and `decoded` both make of it; None if both refuse it."""
    try:
        expected = decoded(data)
    except (ValueError, IndexError):
        with pytest.raises(Malformed):
            decode_columns(data)
        return None
    found = decode_columns(data)
    assert (found.start, found.size, found.base) == (expected.start, expected.size, expected.base)
    assert found.segments.tolist() == [-1 if one.segment is None else one.segment for one in expected.extents]
    assert found.starts.tolist() == [one.start for one in expected.extents]
    assert found.lengths.tolist() == [one.length for one in expected.extents]
    return expected


#: Of every size, many near the limits.
ANY = (
    st.integers(0, 9)
    | st.integers(0, 2**63 - 1)
    | st.builds(lambda power, more: min(max(0, 2**power + more), 2**63 - 1), st.integers(59, 63), st.integers(-9, 9))
)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Blocks whose columns match, of numbers that need not make sense; many of the sizes are right."""
    small = st.integers(0, 9)
    numbers = draw(st.sampled_from([small, small | ANY, ANY]))
    words = draw(st.lists(numbers, min_size=1, max_size=12))
    own = sum(word % 2 == 0 for word in words)
    columns = draw(st.lists(numbers, min_size=len(words) + own, max_size=len(words) + own))
    size = sum(word // 2 for word in words)
    # A sum of which only 64 bits are kept may not pass for the right one.
    size = draw(st.sampled_from([min(size, 2**63 - 1), size % 2**63]))
    start, base, begin = draw(st.tuples(numbers, ANY, numbers))
    return encode_varints((start, size, base, begin, len(words), *words, *columns))


@pytest.mark.slow
@EFFORT
@given(blocks())
@example(block(*[2 * FAR] * 8, 2, *[0, *[2] * 8], *[0] * 9, size=1, count=9))
def test_arrays_are_what_one_number_after_the_other_gives(data: bytes) -> None:
    compared(data)


@pytest.mark.slow
@EFFORT
@given(NUMBERS, SOME, NUMBERS)
def test_arrays_are_what_was_written(start: int, extents: list[Extent], base: int) -> None:
    found = compared(encode_block(start, extents, base))

    assert found == Block(start, sum(one.length for one in extents), base, tuple(extents))


@EFFORT
@given(st.integers(0, 3), st.lists(st.tuples(st.none() | st.integers(0, 3), st.integers(0, 20), st.integers(1, 5))))
def test_arrays_of_few_segments_that_alternate(start: int, some: list[tuple[int | None, int, int]]) -> None:
    extents = [Extent(0, 0, 1), *(Extent(*one) for one in some)]

    found = compared(encode_block(start, extents))
    assert found is not None
    assert found.extents == tuple(extents)


@pytest.mark.slow
@EFFORT
@given(st.binary(max_size=60) | st.lists(ANY, max_size=30).map(encode_varints) | damaged(encode_block(7, EXTENTS, 3)))
@example(b"")
def test_arrays_of_any_bytes_are_what_one_number_after_the_other_gives(data: bytes) -> None:
    compared(data)


@pytest.mark.slow
def test_arrays_of_a_full_block() -> None:
    chance = random.Random(6)
    extents = [
        Extent(chance.choice([None, 0, 5, 2**40, 2**40 + 1]), chance.randrange(2**60), chance.randrange(1, 2**40))
        for _ in range(EXTENTS_A_BLOCK)
    ]

    assert compared(encode_block(2**59, extents, 3)) is not None
    data = encode_block(2**59, extents, 3)
    one, other = decode_columns(data), decode_columns(memoryview(data))
    assert isinstance(one, Columns)
    assert [one.starts.tobytes(), one.lengths.tobytes()] == [other.starts.tobytes(), other.lengths.tobytes()]


#: The varints of a block that is understood, each of which is spelled wrongly in turn.
SPELLED = [spelled(value) for value in (7, 3, 300, 0, 2, 2, 4, 0, 2, 0, 0)]
WRONG = {
    "a zero in two bytes": b"\x80\0",
    "one in three bytes": b"\x81\x80\0",
    "one in nine bytes": b"\x81" + b"\x80" * 7 + b"\0",
    "one in ten bytes": b"\x81" + b"\x80" * 8 + b"\0",
    "64 bits": b"\x80" * 9 + b"\1",
    "70 bits": b"\xff" * 9 + b"\x7f",
    "71 bits": b"\xff" * 10 + b"\1",
    "300 bytes": b"\xff" * 299 + b"\1",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_varint_that_is_spelled_wrongly_is_refused_wherever_it_is(wrong: bytes) -> None:
    assert compared(b"".join(SPELLED)) is not None
    for number in range(len(SPELLED)):
        with pytest.raises(Malformed, match="varint"):
            decode_columns(b"".join((*SPELLED[:number], wrong, *SPELLED[number + 1 :])))


@EFFORT
@given(st.lists(ANY, min_size=5, max_size=20), st.integers(1, 400))
def test_a_varint_that_is_cut_is_refused(values: list[int], more: int) -> None:
    data = encode_varints(values)
    with pytest.raises(Malformed, match="truncated varint"):
        decode_columns(data + b"\xff" * more)
    with pytest.raises(Malformed, match="truncated varint"):
        decode_columns(data[:-1] + bytes([data[-1] | 128]))


@EFFORT
@given(st.lists(ANY, min_size=1, max_size=20), st.integers(0, 19), st.integers(1, 12))
def test_a_varint_that_is_not_the_shortest_is_refused(values: list[int], place: int, more: int) -> None:
    place %= len(values)
    one = spelled(values[place])
    longer = one[:-1] + bytes([one[-1] | 128]) + b"\x80" * (more - 1) + b"\0"
    data = encode_varints(values[:place]) + longer + encode_varints(values[place + 1 :])
    with pytest.raises(Malformed, match="varint"):
        decode_columns(data)


@EFFORT
@given(st.lists(ANY, min_size=1, max_size=20), st.integers(0, 19), st.integers(2**63, 2**80))
def test_a_varint_of_more_than_63_bits_is_refused(values: list[int], place: int, large: int) -> None:
    place %= len(values)
    data = encode_varints(values[:place]) + spelled(large) + encode_varints(values[place:])
    with pytest.raises(Malformed, match="varint too large"):
        decode_columns(data)
