"""Chunks that no segment holds in one piece, as the ids of a pack list them."""

import struct
from array import array
from dataclasses import replace

import pytest
from core.tests.format.damage import EFFORT, damaged
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.assembled import MAX_EXTENTS, MAX_PACKS, Assembled
from penstock.format.encoding import Malformed
from penstock.format.recipe import EXTENTS_A_BLOCK, Extent, encode_block

A, B = (b"a" * 16, b"p" * 32), (b"b" * 16, b"q" * 32)


def made(lengths: list[int], packs: list[tuple[bytes, bytes]], pieces: list[tuple[int, int, int]]) -> Assembled:
    return Assembled.of(array("H", lengths), bytes(12 * len(lengths)), packs, pieces)


SOME = made([30, 20], [A, B], [(0, 5, 20), (2 * 4096 + 7, 0, 25), (4096, 1, 5)])


@st.composite
def lists(draw: st.DrawFn) -> Assembled:
    names, pins = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
    packs = list(draw(st.dictionaries(names, pins, max_size=4)).items())
    lengths = draw(st.lists(st.integers(1, 65535), min_size=1, max_size=20))
    ids = draw(st.binary(min_size=12 * len(lengths), max_size=12 * len(lengths)))
    cuts = sorted(draw(st.sets(st.integers(1, sum(lengths)), max_size=30)) | {sum(lengths)})
    pieces = [
        (draw(st.integers(0, 4096 * (1 + len(packs)) - 1)), draw(st.integers(0, 2**23)), end - start)
        for start, end in zip([0, *cuts], cuts, strict=False)
    ]
    return Assembled.of(array("H", lengths), ids, packs, pieces)


@pytest.mark.slow
@EFFORT
@given(lists())
def test_lists_round_trip(some: Assembled) -> None:
    assert Assembled.decode(memoryview(some.encode())) == some


def test_a_list_is_chunks_then_packs_then_blocks() -> None:
    block = encode_block(0, [Extent(0, 5, 20), Extent(8199, 0, 25), Extent(4096, 1, 5)])
    head = struct.pack("<IHH", 2, 30, 20) + bytes(24) + struct.pack("<I", 2) + A[0] + A[1] + B[0] + B[1]

    assert SOME.encode() == head + struct.pack("<I", len(block)) + block


def test_pieces_are_of_a_pack_and_a_segment_in_it() -> None:
    pieces = SOME.pieces()

    assert [column.tolist() for column in pieces] == [[0, 2, 1], [0, 7, 0], [5, 0, 1], [20, 25, 5]]


def test_no_chunks_take_no_bytes() -> None:
    assert Assembled().encode() == b""
    assert Assembled.decode(memoryview(b"")) == Assembled()
    assert len(Assembled().pieces().packs) == 0


def test_many_pieces_are_several_blocks() -> None:
    pieces = [(number % 2, 3 * number, 1) for number in range(EXTENTS_A_BLOCK + 5)]
    some = made([65535 // 2] * 1 + [EXTENTS_A_BLOCK + 5 - 65535 // 2], [], pieces)

    assert len(some.blocks) == 2
    assert Assembled.decode(memoryview(some.encode())) == some
    assert some.pieces().starts.tolist() == [start for _, start, _ in pieces]


WRONG = {
    "no chunks": replace(SOME, lengths=array("H"), ids=b""),
    "a chunk of nothing": replace(SOME, lengths=array("H", [30, 20, 0]), ids=bytes(36)),
    "fewer ids": replace(SOME, ids=bytes(23)),
    "more ids": replace(SOME, ids=bytes(36)),
    "a pack twice": replace(SOME, packs=(A, A)),
    "a pack twice with another pin": replace(SOME, packs=(A, (A[0], B[1]))),
    "too many packs": replace(SOME, packs=tuple((b"%016d" % number, bytes(32)) for number in range(MAX_PACKS))),
    "a pack that is not listed": replace(SOME, packs=(A,)),
    "no blocks": replace(SOME, blocks=()),
    "a block twice": replace(SOME, blocks=SOME.blocks * 2),
    "a block that begins later": replace(SOME, blocks=(encode_block(1, [Extent(0, 0, 50)]),)),
    "a block of a base": replace(SOME, blocks=(encode_block(0, [Extent(None, 0, 50)]),)),
    "a block of another stream": replace(SOME, blocks=(encode_block(0, [Extent(0, 0, 50)], base=1),)),
    "pieces of another size": replace(SOME, blocks=(encode_block(0, [Extent(0, 0, 49)]),)),
    "too many pieces": replace(
        SOME,
        lengths=array("H", [EXTENTS_A_BLOCK] * 9),
        ids=bytes(12 * 9),
        blocks=tuple(
            encode_block(number * EXTENTS_A_BLOCK, [Extent(0, 0, 1)] * EXTENTS_A_BLOCK)
            for number in range(MAX_EXTENTS // EXTENTS_A_BLOCK + 1)
        ),
    ),
}


@pytest.mark.parametrize("some", WRONG.values(), ids=WRONG)
def test_an_impossible_list_is_neither_read_nor_written(some: Assembled) -> None:
    with pytest.raises(Malformed):
        some.pieces()
    if some.lengths:
        with pytest.raises(Malformed):
            Assembled.decode(memoryview(some.encode()))


@pytest.mark.parametrize(
    ("lengths", "packs", "pieces"),
    [
        ([10], [], [(0, 0, 9)]),
        ([10], [], [(4096, 0, 10)]),
        ([10], [A, A], [(0, 0, 10)]),
        ([10], [], [(0, -1, 10)]),
        ([10], [], []),
    ],
)
def test_an_impossible_list_is_not_made(
    lengths: list[int], packs: list[tuple[bytes, bytes]], pieces: list[tuple[int, int, int]]
) -> None:
    with pytest.raises(ValueError, match=r"assembled|extent"):
        made(lengths, packs, pieces)


@EFFORT
@given(damaged(SOME.encode()) | st.binary(max_size=120))
def test_any_bytes_are_refused_or_a_list(plain: bytes) -> None:
    try:
        found = Assembled.decode(memoryview(plain))
    except Malformed:
        return
    assert found.encode() == plain


def test_a_block_of_impossible_size_is_not_read() -> None:
    head = SOME.encode()[: -len(SOME.blocks[0]) - 4]
    with pytest.raises(Malformed, match="impossible block"):
        Assembled.decode(memoryview(head + struct.pack("<I", 2**20) + bytes(2**20)))
