"""Pieces of chunks in packs: beside whole chunks, with few entries in the directory, in small segments."""

import random

import pytest
from core.tests.repository.lab import KIB, MIB, Lab, noise
from core.tests.repository.packing import packing

from penstock.format.ids import chunk_ids
from penstock.repository.budget import PACK_CHUNKS, SEGMENT

#: Bytes that one entry stands for at most, where nobody looks for the chunks.
LOOSE = 60 * KIB


@pytest.mark.parametrize("seed", range(6))
def test_chunks_and_pieces_of_chunks_are_where_the_packer_says(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    whole: list[bytes] = []
    with packing(lab) as made:
        for _ in range(60):
            if chance.random() < 0.6:
                made.add_loose(
                    chance.randbytes(chance.choice([0, 1, 50, 3000, LOOSE - 1, LOOSE, LOOSE + 1, 300 * KIB]))
                )
            else:
                lengths = [chance.randint(1, 20_000) for _ in range(chance.randint(1, 60))]
                data = chance.randbytes(sum(lengths))
                made.add(data, lengths)
                whole += chunk_ids(made.key, memoryview(data), lengths)
            made.packer.passed(chance.choice([0, MIB, 8 * MIB]), chance.choice([0, 100]))
    segments = made.segments()
    for (_, segment, start, length), data in made.stored:
        assert segments[segment][start : start + length] == data
    # Nothing else is in them, and whole chunks are found by anybody.
    assert sum(map(len, segments.values())) == sum(len(data) for _, data in made.stored)
    assert set(whole) <= {chunk for known in made.closed for chunk in known.chunks}


def test_pieces_that_follow_one_another_have_one_entry_for_many_bytes(lab: Lab) -> None:
    with packing(lab) as made:
        for number in range(3000):
            made.add_loose(noise(100, number))
    ((pack,), (summary,)) = (made.closed, made.landed)
    assert summary.chunks == len(pack.chunks) == -(-300_000 // LOOSE)
    made.places()


def test_a_whole_chunk_between_pieces_ends_their_entry(lab: Lab) -> None:
    with packing(lab) as made:
        made.add_loose(b"a" * 10)
        made.add_loose(b"b" * 10)
        made.add(b"c" * 30, [30])
        made.add_loose(b"d" * 10)
        made.packer.passed(0)
        made.add_loose(b"e" * 5)
    (known,) = made.closed
    assert list(known.chunks) == chunk_ids(
        made.key, memoryview(b"a" * 10 + b"b" * 10 + b"c" * 30 + b"d" * 10 + b"e" * 5), [20, 30, 15]
    )
    (segment,) = made.segments().values()
    assert segment == b"a" * 10 + b"b" * 10 + b"c" * 30 + b"d" * 10 + b"e" * 5


def test_a_piece_is_divided_where_a_segment_is_full(lab: Lab) -> None:
    data = noise(2 * SEGMENT + 1000)
    with packing(lab) as made:
        made.add_loose(data)
    assert [len(segment) for segment in made.segments().values()] == [SEGMENT, SEGMENT, 1000]
    assert b"".join(made.segments().values()) == data


@pytest.mark.parametrize(("beside", "most"), [(0, 512), (40, 512), (100, 243), (10_000, 64)])
def test_segments_of_scattered_data_are_small_and_smaller_the_more_there_are(lab: Lab, beside: int, most: int) -> None:
    with packing(lab) as made:
        for number in range(300):
            made.add(noise(10 * KIB, number), [10 * KIB])
            made.packer.passed(2 * MIB, beside)
    *sizes, last = (place.plain_length for place in made.places())
    assert len(sizes) >= 3
    assert {most * KIB <= size < (most + 11) * KIB for size in sizes} == {True}
    assert last < (most + 11) * KIB


def test_segments_of_new_data_are_large_however_many_nights_there_were(lab: Lab) -> None:
    with packing(lab) as made:
        for number in range(3):
            for piece in range(64):
                made.add(noise(32 * KIB, 64 * number + piece), [32 * KIB])
            made.packer.passed(2 * MIB, 10_000)
    assert [place.plain_length for place in made.places()] == [SEGMENT] * 3


@pytest.mark.slow
def test_a_pack_has_no_more_entries_than_its_readers_take(lab: Lab) -> None:
    """Even where each chunk is as short as may be, and a piece of another follows it."""
    shortest = lab.domain.made.chunker.minimum
    with packing(lab) as made:
        for number in range(20_000):
            made.add_loose(b"%d" % number)
            made.add((b"%d" % number * shortest)[:shortest], [shortest])
    assert len(made.landed) > 1
    assert max(summary.chunks for summary in made.landed) <= PACK_CHUNKS
    made.places()
