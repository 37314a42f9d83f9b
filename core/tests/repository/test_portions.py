"""A stream is put together in portions: of few segments, in order, and not too small."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from core.tests.repository.lab import KIB
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.repository.budget import SEGMENT
from penstock.repository.extents import Extents
from penstock.repository.read.ahead import Coming
from penstock.repository.read.portions import Portion, portions

#: Bytes and extents of a portion that has more than one extent.
BYTES, EXTENTS = 1024 * KIB, 4096
Some = Sequence[tuple[int, int, int]]


def cut(extents: Some) -> Extents:
    columns = np.array(extents, dtype=np.int64).reshape(-1, 3)
    return Extents(columns[:, 0], columns[:, 1], columns[:, 2])


def made(cuts: Sequence[Some], most: int) -> list[Portion]:
    return list(portions(map(cut, cuts), most * SEGMENT, lambda _: None))


def extents_of(portion: Portion) -> list[tuple[int, int, int]]:
    return list(zip(portion.segments, portion.starts, portion.ends, strict=True))


def ends(extents: Some) -> list[tuple[int, int, int]]:
    return [(segment, start, start + length) for segment, start, length in extents]


an_extent = st.tuples(
    st.integers(0, 9), st.integers(0, 1 << 21), st.one_of(st.integers(1, 300), st.integers(1, 400 * KIB))
)
some_cuts = st.lists(st.lists(an_extent, max_size=60), max_size=4)


@pytest.mark.slow
@given(some_cuts, st.integers(1, 12))
def test_all_extents_come_in_order_in_portions_of_few_segments(cuts: list[Some], most: int) -> None:
    found = made(cuts, most)
    assert [extent for portion in found for extent in extents_of(portion)] == [
        one for each in cuts for one in ends(each)
    ]
    for portion in found:
        assert extents_of(portion)
        assert portion.size == sum(end - start for _, start, end in extents_of(portion))
        # Each segment once, in the order in which they are needed.
        assert portion.needs == tuple(dict.fromkeys(segment for segment, _, _ in extents_of(portion)))
        assert len(portion.needs) <= most
        if len(extents_of(portion)) > 1:
            assert portion.size <= BYTES
            assert len(extents_of(portion)) <= EXTENTS


@pytest.mark.slow
@given(st.lists(an_extent, min_size=1, max_size=200))
def test_a_portion_ends_where_the_next_extent_does_not_fit(extents: Some) -> None:
    for portion, following in pairwise(made([extents], 10)):
        (_, start, end), *_ = extents_of(following)
        assert portion.size + end - start > BYTES


@pytest.mark.slow
@given(st.lists(an_extent, min_size=1, max_size=200), st.integers(1, 12))
def test_a_portion_ends_only_where_the_next_extent_is_too_much(extents: Some, most: int) -> None:
    for portion, following in pairwise(made([extents], most)):
        (segment, start, end), *_ = extents_of(following)
        needs_more = segment not in portion.needs and len(portion.needs) == most
        assert needs_more or portion.size + end - start > BYTES


@settings(max_examples=30)
@given(st.integers(1, 5000), st.integers(1, 40))
def test_very_small_extents_come_by_the_thousand(count: int, length: int) -> None:
    found = made([[(number % 3, number, length) for number in range(count)]], 3)
    assert [len(extents_of(portion)) for portion in found[:-1]] == [EXTENTS] * (len(found) - 1)


@pytest.mark.parametrize("most", [1, 2, 3, 6])
def test_a_portion_of_too_many_segments_is_divided(most: int) -> None:
    found = made([[(number, 0, 100) for number in range(100)]], most)
    assert [segment for portion in found for segment in portion.needs] == list(range(100))
    assert {len(portion.needs) for portion in found[:-1]} == {most}


@pytest.mark.slow
@given(st.lists(an_extent, max_size=60), st.integers(1, 40), st.lists(st.integers(1, 40) | st.none(), min_size=10))
def test_a_portion_has_as_many_segments_as_have_room(extents: Some, room: int, sizes: list[int | None]) -> None:
    def cost(segments: Iterable[int]) -> int:
        return sum(SEGMENT if (size := sizes[segment]) is None else size for segment in segments)

    found = list(portions(iter([cut(extents)]), room, sizes.__getitem__))
    for portion in found:
        assert len(portion.needs) == 1 or cost(portion.needs) <= room
    for portion, following in pairwise(found):
        (segment, start, end), *_ = extents_of(following)
        more = {*portion.needs, segment}
        needs_more = cost(more) > room and segment not in portion.needs
        assert needs_more or portion.size + end - start > BYTES
        guesses = SEGMENT * sum(sizes[one] is None for one in more)
        assert portion.guessed == (needs_more and guesses > room // 2)
    assert not found or not found[-1].guessed


def test_a_portion_that_ends_for_want_of_room_is_guessed_where_most_of_it_is_a_guess() -> None:
    extents = [(0, 0, 100), (1, 0, 100), (2, 0, 100)]
    known = SEGMENT
    some: list[tuple[list[int | None], bool]] = [
        ([known, known, known], False),
        ([known, None, known], False),
        ([known, known, None], False),
        ([None, known, None], True),
        ([None, None, known], True),
    ]
    for sizes, guessed in some:
        (portion, *_) = portions(iter([cut(extents)]), 2 * SEGMENT, sizes.__getitem__)
        assert portion.guessed == guessed, sizes
    (portion,) = portions(iter([cut(extents)]), 3 * SEGMENT, [None, None, None].__getitem__)
    assert not portion.guessed, "it is as long as it can be"


def test_no_portion_is_looked_for_behind_one_that_was_guessed_before_its_segments_are_there() -> None:
    sizes: dict[int, int] = {}
    scattered = [(number % 40, 100 * number, 100) for number in range(4000)]
    coming = Coming(portions(iter([cut(scattered)]), 10 * SEGMENT, sizes.get))
    coming.look()
    assert not coming.needs_more(waiting=True)
    assert not coming.needs_more(waiting=False), "it was not taken yet"
    needs = [coming.take().needs]
    assert not coming.needs_more(waiting=True)
    while coming.needs_more(waiting=False):
        sizes |= dict.fromkeys(needs[-1], 64 * KIB)
        coming.look()
        needs += [coming.take().needs] if coming.following else []
    assert list(map(len, needs)) == [10, 10, 10, 10, 40]


def test_a_large_extent_is_a_portion_of_its_own() -> None:
    found = made([[(1, 0, 10), (2, 5, BYTES + 1), (1, 10, 10), (3, 0, 10)]], 8)
    assert [extents_of(portion) for portion in found] == [
        [(1, 0, 10)],
        [(2, 5, BYTES + 6)],
        [(1, 10, 20), (3, 0, 10)],
    ]


def test_a_portion_may_be_full_to_the_byte() -> None:
    halves = [(1, 0, BYTES // 2), (2, 0, BYTES // 2)]
    assert [portion.size for portion in made([[*halves, (1, 0, 1)]], 8)] == [BYTES, 1]
    assert [portion.size for portion in made([[*halves[:1], (2, 0, BYTES // 2 + 1)]], 8)] == [
        BYTES // 2,
        BYTES // 2 + 1,
    ]


def test_nothing_makes_no_portion() -> None:
    assert made([], 4) == []
    assert made([[], [], []], 4) == []


SEGMENTS = [bytes([number]) * 50 + bytes(range(200)) for number in range(4)]
inside = st.tuples(st.integers(0, 3), st.integers(0, 249), st.integers(1, 250)).map(
    lambda one: (one[0], one[1], min(one[2], 250 - one[1]))
)


@pytest.mark.slow
@given(st.lists(inside, min_size=1, max_size=40), st.integers(1, 4))
def test_a_portion_is_made_of_its_pieces_in_order(extents: Some, most: int) -> None:
    expected = b"".join(SEGMENTS[segment][start : start + length] for segment, start, length in extents)
    found = made([extents], most)
    # It needs no more than it says.
    blocks = [portion.of({number: memoryview(SEGMENTS[number]) for number in portion.needs}) for portion in found]
    assert [len(block) for block in blocks] == [portion.size for portion in found]
    assert b"".join(blocks) == expected


def test_one_piece_is_given_as_it_is() -> None:
    (portion,) = made([[(7, 20, 100)]], 4)
    segment = bytearray(SEGMENTS[0])
    block = portion.of({7: memoryview(segment)})
    assert bytes(block) == SEGMENTS[0][20:120]
    segment[20:120] = bytes(100)
    assert block == bytes(100), "it was copied"


@pytest.mark.parametrize(
    "extents", [[(0, 200, 60)], [(0, 250, 1)], [(0, 300, 5)], [(1, 0, 10), (0, 249, 2), (1, 5, 5)]]
)
def test_a_segment_that_is_too_short_makes_fewer_bytes_than_a_portion_says(extents: Some) -> None:
    (portion,) = made([extents], 4)
    block = portion.of({number: memoryview(SEGMENTS[number]) for number in portion.needs})
    assert len(block) < portion.size == sum(length for _, _, length in extents)
