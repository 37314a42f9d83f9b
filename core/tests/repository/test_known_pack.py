"""Packs as a writer knows them: assembled chunks are found where all of their pieces are, and nowhere else."""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from core.tests.repository.lab import Lab, noise
from core.tests.repository.packing import packing
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.assembled import MAX_PACKS, Assembled
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.format.pack import MAX_SEGMENTS, SegmentId
from penstock.repository.budget import PACK_CHUNKS
from penstock.repository.extents import Extents
from penstock.repository.known.known_pack import KnownPack, Lender

OWN, OTHER = b"o" * 16, b"x" * 16
Piece = tuple[int, int, int]


def name(number: int) -> bytes:
    return number.to_bytes(CHUNK_ID_BYTES, "big")


def lender(pack: bytes, sizes: list[int]) -> Lender:
    return Lender(pack, b"p" * 32, frozenset(), b"w" * 16, len(sizes), np.array(sizes, dtype=np.int64))


def listing(lengths: Sequence[int], pieces: Sequence[Piece]) -> KnownPack:
    """A pack with one segment of two chunks, which lists assembled chunks from number 10 on."""
    known = KnownPack(OWN, [])
    known.begin_segment(SegmentId(OWN, 0), 0)
    known.add_chunks([name(0), name(1)], [60, 40])
    ids = b"".join(name(10 + number) for number in range(len(lengths)))
    known.assembled = Assembled.of(array("H", lengths), ids, [(OTHER, b"p" * 32)], pieces)
    return known


def found(known: KnownPack, chunk: bytes, count: int = 1) -> list[tuple[bytes, int, int, int]]:
    first = known.chunks[chunk]
    return [
        (origin.pack, *segment[1:], start, length)
        for origin, segment, start, length in known.extents(first, first + count)
    ]


ONE = (0, 10, 20)
TWO = (MAX_SEGMENTS + 1, 5, 30)


def test_chunks_are_found_in_the_pieces_of_all_packs_that_lend_them() -> None:
    known = listing([30, 20], [ONE, TWO])
    assert name(10) not in known.chunks
    known.lend([lender(OWN, [100]), lender(OTHER, [1, 35])])

    assert found(known, name(10)) == [(OWN, 0, 10, 20), (OTHER, 1, 5, 10)]
    assert found(known, name(11)) == [(OTHER, 1, 15, 20)]
    assert found(known, name(10), 2) == [(OWN, 0, 10, 20), (OTHER, 1, 5, 30)]
    assert found(known, name(1)) == [(OWN, 0, 60, 40)]
    # As a run that goes on from the last chunk of the pack to the first of the list.
    assert found(known, name(1), 2) == [(OWN, 0, 60, 40), (OWN, 0, 10, 20), (OTHER, 1, 5, 10)]


@pytest.mark.parametrize(
    "other",
    [None, lender(OTHER, []), lender(OTHER, [100]), lender(OTHER, [100, 34])],
    ids=["gone", "empty", "fewer", "shorter"],
)
def test_a_chunk_is_not_found_if_one_of_its_pieces_is_not_there(other: Lender | None) -> None:
    known = listing([20, 25, 5], [ONE, TWO])
    known.lend([lender(OWN, [100]), other])

    assert found(known, name(10)) == [(OWN, 0, 10, 20)]
    assert known.chunks.keys() == {name(0), name(1), name(10)}


def test_what_the_pack_has_in_one_piece_is_not_put_together() -> None:
    known = listing([20], [ONE])
    known.assembled = Assembled.of(array("H", [20]), name(1), [], [ONE])
    known.lend([lender(OWN, [100])])

    assert found(known, name(1)) == [(OWN, 0, 60, 40)]


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(1, 60)), min_size=1, max_size=30), st.data()
)
def test_chunks_are_what_their_pieces_make(pieces: list[Piece], data: st.DataObject) -> None:
    texts = {number: noise(100, number) for number in range(4)}
    plain = b"".join(texts[number][start : start + length] for number, start, length in pieces)
    pieces = [(number, start, len(texts[number][start : start + length])) for number, start, length in pieces]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(plain)), max_size=8)) | {len(plain)})
    lengths = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
    sizes = data.draw(st.lists(st.integers(0, 100), min_size=4, max_size=4))
    known = listing(lengths, pieces)
    known.lend([lender(OWN, sizes), None])

    start = 0
    for number, length in enumerate(lengths):
        whole = plain[start : start + length]
        if name(10 + number) in known.chunks:
            runs = found(known, name(10 + number))
            assert all(at + size <= sizes[segment] for _, segment, at, size in runs)
            assert b"".join(texts[segment][at : at + size] for _, segment, at, size in runs) == whole
        elif sizes == [100] * 4:
            pytest.fail("a chunk was not found")
        start += length


# what a packer lists


def pieces_of(*pieces: Piece) -> Extents:
    columns = np.array(pieces, dtype=np.int64).reshape(-1, 3)
    return Extents(columns[:, 0], columns[:, 1], columns[:, 2])


def test_a_pack_lists_chunks_with_the_pins_of_the_packs_that_have_pieces(tmp_path: Path) -> None:
    with packing(Lab(tmp_path)) as made:
        made.add_loose(b"a piece")
        made.origins = [(OTHER, b"p" * 32), (b"y" * 16, b"q" * 32), (made.packer.known.pack, b"")]
        made.packer.add_assembled([name(1)], [30], pieces_of((5, 0, 25), (2 * MAX_SEGMENTS, 2, 5)))
        made.packer.add_assembled([name(2)], [7], pieces_of((MAX_SEGMENTS + 3, 1, 7)))
    (end,) = made.ends()
    listed = end.chunks().assembled
    assert (list(listed.lengths), listed.ids) == ([30, 7], name(1) + name(2))
    assert listed.packs == ((OTHER, b"p" * 32), (b"y" * 16, b"q" * 32))
    columns = (column.tolist() for column in listed.pieces())
    assert list(zip(*columns, strict=True)) == [(1, 5, 0, 25), (0, 0, 2, 5), (2, 3, 1, 7)]


def test_an_empty_pack_lists_nothing(tmp_path: Path) -> None:
    with packing(Lab(tmp_path)) as made:
        made.packer.add_assembled([name(1)], [30], pieces_of((5, 0, 30)))
    assert made.landed == []


@pytest.mark.slow
def test_a_pack_ends_before_its_list_gets_too_long(tmp_path: Path) -> None:
    with packing(Lab(tmp_path)) as made:
        made.origins = [(OTHER, b"p" * 32)]
        for at in range(0, 3 * PACK_CHUNKS, 1000):
            made.add_loose(b"a piece")
            made.packer.add_assembled([name(at + n) for n in range(1000)], [4] * 1000, pieces_of(*[(0, 0, 1)] * 4000))
    ends = made.ends()
    assert len(ends) == 6  # 17 times 4,000 pieces each
    assert sum(len(end.chunks().assembled.lengths) for end in ends) == len(range(0, 3 * PACK_CHUNKS, 1000)) * 1000


@pytest.mark.slow
def test_a_pack_lists_no_more_packs_than_a_reader_takes(tmp_path: Path) -> None:
    with packing(Lab(tmp_path)) as made:
        made.add_loose(b"a piece")
        made.origins = [(number.to_bytes(16, "big"), bytes(32)) for number in range(2 * MAX_PACKS)]
        for row in range(2 * MAX_PACKS):
            made.packer.add_assembled([name(row)], [9], pieces_of((row * MAX_SEGMENTS, 0, 9)))
    (end,) = made.ends()
    assert len(end.chunks().assembled.packs) == MAX_PACKS - 1
