"""Recipes: extents of any shape round-trip, in blocks, and nothing else is accepted as a recipe."""

import contextlib
import random
import struct
from itertools import islice, pairwise

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.format.codec import RAW, compress
from penstock.format.encoding import Malformed, encode_varints
from penstock.format.recipe import Extent, RecipeEncoder, decode_recipe

NUMBERS = st.integers(0, 5) | st.integers(0, 2**31)
EXTENTS = st.lists(st.builds(Extent, NUMBERS, NUMBERS, st.integers(1, 3) | st.integers(1, 2**31)), max_size=40)


def encode(extents: list[Extent]) -> bytes:
    encoder = RecipeEncoder()
    for extent in extents:
        encoder.add(*extent)
    return encoder.finish()


def joined(extents: list[Extent]) -> list[Extent]:
    """Join adjacent extents."""
    found: list[Extent] = []
    for one in extents:
        if found and found[-1].segment == one.segment and found[-1].first + found[-1].chunks == one.first:
            found[-1] = Extent(one.segment, found[-1].first, found[-1].chunks + one.chunks)
        else:
            found.append(one)
    return found


@EFFORT
@given(EXTENTS)
def test_extents_round_trip_joined(extents: list[Extent]) -> None:
    recipe = encode(extents)

    assert list(decode_recipe(recipe)) == joined(extents)
    assert list(independent_reader.extents(recipe)) == joined(extents)


@EFFORT
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=60))
def test_consecutive_chunks_form_one_extent(steps: list[tuple[int, int]]) -> None:
    ends: dict[int, int] = {}
    extents = []
    for segment, count in steps:
        extents.append(Extent(segment, ends.get(segment, 0), count))
        ends[segment] = ends.get(segment, 0) + count

    found = list(decode_recipe(encode(extents)))
    assert found == joined(extents)
    assert all(one.segment != other.segment for one, other in pairwise(found))


@pytest.mark.parametrize("count", [32767, 32768, 32769, 70_000])
def test_a_long_recipe_has_several_blocks(count: int) -> None:
    chance = random.Random(count)
    extents = [Extent(number % 2 + 2 * chance.randrange(500), chance.randrange(2000), 1) for number in range(count)]

    recipe = encode(extents)
    blocks, at = 0, 0
    while at < len(recipe):
        at += 4 + struct.unpack_from("<I", recipe, at)[0]
        blocks += 1
    assert blocks == -(-count // 32768)
    assert list(decode_recipe(recipe)) == list(independent_reader.extents(recipe)) == extents


def test_a_recipe_is_decoded_block_by_block() -> None:
    good = encode([Extent(0, 0, 1)])

    assert list(islice(decode_recipe(good + b"\xff\xff\xff\xff"), 1)) == [Extent(0, 0, 1)]
    with pytest.raises(Malformed):
        list(decode_recipe(good + b"\xff\xff\xff\xff"))


def test_a_stream_without_bytes_has_an_empty_recipe() -> None:
    assert encode([]) == b""
    assert list(decode_recipe(b"")) == []


@EFFORT
@given(st.lists(st.builds(Extent, st.just(2**62 - 1), st.just(2**62 - 1), st.just(2**62)), min_size=1, max_size=2))
def test_the_largest_numbers_fit(extents: list[Extent]) -> None:
    assert list(decode_recipe(encode(extents))) == joined(extents)


def block(*columns: bytes, lengths: list[int] | None = None) -> bytes:
    sizes = lengths or [len(column) for column in columns]
    plain = b"".join(encode_varints([size]) + column for size, column in zip(sizes, columns, strict=True))
    return struct.pack("<I", len(plain) + 1) + bytes((RAW,)) + plain


BOMB = compress(bytes(1 << 24), 3)
ONE, TWO = b"\2", b"\2\2"
BROKEN = {
    "columns of different lengths": block(ONE, ONE, TWO),
    "no chunks": block(ONE, ONE, b"\0"),
    "segment below zero": block(b"\1", ONE, ONE),
    "chunk below zero": block(ONE, b"\1", ONE),
    "fewer columns": block(ONE, ONE),
    "more columns": block(ONE, ONE, ONE, ONE),
    "last column cut": block(ONE, ONE, ONE, lengths=[1, 1, 2]),
    "last column much longer than there is": block(ONE, ONE, ONE, lengths=[1, 1, 2**62]),
    "first column longer than there is": block(ONE, ONE, ONE, lengths=[2**62, 1, 1]),
    "first column cut in a varint": block(b"\x80", ONE, ONE),
    "no columns": struct.pack("<I", 1) + bytes((RAW,)),
    "an empty block": struct.pack("<I", 0),
    "columns without extents": block(b"", b"", b""),
    "more extents than a block may have": block(*[b"\2" * 32769] * 3),
    "a length in a long spelling": struct.pack("<I", 8) + bytes((RAW,)) + b"\x81\0\2" + b"\1\2\1\2",
    "a length of 64 bits": struct.pack("<I", 12) + bytes((RAW,)) + b"\xff" * 9 + b"\1\2",
    "a block that is cut": block(ONE, ONE, ONE)[:-1],
    "a length of a block that is cut": block(ONE, ONE, ONE) + b"\0\0\0",
    "a huge block": b"\xff\xff\xff\xff" + block(ONE, ONE, ONE),
    "a bomb": struct.pack("<I", len(BOMB)) + BOMB,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_damaged_recipe_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        list(decode_recipe(data))


@EFFORT
@given(st.binary(max_size=40), st.binary(max_size=40))
@example(b"", b"")
def test_any_bytes_are_refused_or_decode_to_extents(data: bytes, plain: bytes) -> None:
    for recipe in (data, struct.pack("<I", len(plain) + 1) + bytes((RAW,)) + plain):
        try:
            found = list(decode_recipe(recipe))
        except Malformed:
            continue
        assert all(one.segment >= 0 and one.first >= 0 and one.chunks > 0 for one in found)


@EFFORT
@given(damaged(encode([Extent(number * 7 % 5, number, 1 + number % 3) for number in range(60)])))
def test_damage_is_refused_or_gives_extents(data: bytes) -> None:
    # The seal around it detects every change; here damage only must do no harm.
    with contextlib.suppress(Malformed):
        assert all(one.chunks > 0 for one in decode_recipe(data))
