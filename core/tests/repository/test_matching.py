"""Which records of new chunks are those of the past: any of both make runs that give the new bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.repository.known.window import PastRecords
from penstock.repository.write.matching import match

#: A record is its number, so many times: few, so that they are repeated.
_RECORDS = st.lists(st.integers(1, 12), max_size=60)


def _length(record: int) -> int:
    return 10 * record


def _bytes(records: list[int]) -> bytes:
    return b"".join(bytes([record]) * _length(record) for record in records)


def _matched(
    new: list[int], past: list[int], gone: frozenset[int] = frozenset(), edges: tuple[int, int] = (-1, -1)
) -> list[tuple[int, int]]:
    starts = np.cumsum([0, *map(_length, past)])[:-1].astype(np.int64)
    kept = [at for at in range(len(past)) if at not in gone]
    return match(
        np.array(new, dtype=np.uint64),
        np.array(list(map(_length, new)), dtype=np.uint16),
        PastRecords(np.array(past, dtype=np.uint64)[kept], starts[kept]),
        edges,
    )


@pytest.mark.slow
@given(new=_RECORDS, past=_RECORDS, gone=st.frozensets(st.integers(0, 59)))
def test_runs_give_the_new_bytes(new: list[int], past: list[int], gone: frozenset[int]) -> None:
    stream, whole = _bytes(past), _bytes(new)
    lost = [False] * len(stream)
    at = 0
    for number, record in enumerate(past):
        lost[at : at + _length(record)] = [number in gone] * _length(record)
        at += _length(record)
    at = 0
    before = -2
    for start, size in _matched(new, past, gone):
        assert size > 0
        if start >= 0:
            assert stream[start : start + size] == whole[at : at + size]
            assert not any(lost[start : start + size])
        assert start < 0 or start != before, "two runs that adjoin are one"
        assert (start, before) != (-1, -1)
        before = start + size if start >= 0 else -1
        at += size
    assert at == len(whole)


@given(past=st.lists(st.integers(5, 12), min_size=1, max_size=60), data=st.data())
def test_one_changed_record_makes_three_runs_at_most(past: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(past) - 1))
    new = [*past[:at], 20, *past[at + 1 :]]
    place, end = len(_bytes(past[:at])), len(_bytes(past))
    rest = place + _length(past[at])
    expected = [(0, place)] * (place > 0) + [(-1, _length(20))] + [(rest, end - rest)] * (rest < end)
    assert _matched(new, past) == expected


def test_the_same_records_are_one_run() -> None:
    past = list(range(1, 13)) * 9
    assert _matched(past, past) == [(0, len(_bytes(past)))]
    assert _matched([], past) == _matched([], []) == []
    assert _matched([1, 2], []) == [(-1, 30)]


def test_few_known_bytes_are_stored_again_unless_they_adjoin_what_is_known() -> None:
    past = [1, 2, 3, 4, 12, 4]
    end = len(_bytes(past))
    assert _matched([1, 20, 12, 21, 4], past) == [(-1, 210), (100, 120), (-1, 250)]
    assert _matched([1, 20, 12, 21, 4], past, edges=(0, end)) == [
        (0, 10),
        (-1, 200),
        (100, 120),
        (-1, 210),
        (end - 40, 40),
    ]
