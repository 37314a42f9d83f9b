"""Extents in arrays do what one would do byte by byte."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.repository.extents import Extents, Laid, concatenated

#: Segment, start, length.
_Plain = list[tuple[int, int, int]]
_SOME = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 5)), max_size=12)


def _extents(plain: _Plain) -> Extents:
    columns = np.array(plain, dtype=np.int64).reshape(-1, 3)
    return Extents(columns[:, 0], columns[:, 1], columns[:, 2])


def _plain(extents: Extents) -> _Plain:
    return list(zip(*(column.tolist() for column in extents), strict=True))


def _bytes(plain: _Plain) -> list[tuple[int, int]]:
    """Each byte by its segment and place."""
    return [(segment, start + at) for segment, start, length in plain for at in range(length)]


@given(plain=_SOME)
def test_joined_extents_make_the_same_bytes_and_none_adjoin(plain: _Plain) -> None:
    joined = _plain(_extents(plain).joined())
    assert _bytes(joined) == _bytes(plain)
    assert all(one[0] != two[0] or one[1] + one[2] != two[1] for one, two in pairwise(joined))
    assert _extents(plain).size == len(_bytes(plain))


@pytest.mark.slow
@given(plain=_SOME, data=st.data())
def test_some_in_the_place_of_others(plain: _Plain, data: st.DataObject) -> None:
    where = data.draw(st.lists(st.booleans(), min_size=len(plain), max_size=len(plain)))
    some = [data.draw(_SOME.filter(bool)) for chosen in where if chosen]
    expected: _Plain = []
    rest = iter(some)
    for one, chosen in zip(plain, where, strict=True):
        expected += next(rest) if chosen else [one]
    flat = [one for each in some for one in each]
    counts = np.array(list(map(len, some)), dtype=np.int64)
    made = _extents(plain).with_in_place(np.array(where, dtype=np.bool_), _extents(flat), counts)
    assert _plain(made) == expected


@pytest.mark.slow
@given(plain=_SOME.filter(bool), start=st.integers(0, 2**60), data=st.data())
def test_any_run_is_cut_from_what_makes_the_stream(plain: _Plain, start: int, data: st.DataObject) -> None:
    whole = _bytes(plain)
    places = st.integers(0, len(whole) - 1)
    runs = [(first, data.draw(st.integers(first + 1, len(whole)))) for first in data.draw(st.lists(places, max_size=5))]
    columns = np.array(runs, dtype=np.int64).reshape(-1, 2) + start
    made, counts = Laid(start, _extents(plain)).cut(columns[:, 0], columns[:, 1])
    assert _bytes(_plain(made)) == [one for first, end in runs for one in whole[first:end]]
    assert int(counts.sum()) == len(made.segments)
    ends = np.cumsum(counts).tolist()
    pieces = [_plain(made)[end - count : end] for end, count in zip(ends, counts.tolist(), strict=True)]
    assert [_bytes(piece) for piece in pieces] == [whole[first:end] for first, end in runs]


@pytest.mark.slow
@given(each=st.lists(_SOME, min_size=1, max_size=4))
def test_one_behind_the_other(each: list[_Plain]) -> None:
    assert _plain(concatenated(map(_extents, each))) == [one for some in each for one in some]
