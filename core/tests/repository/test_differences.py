"""What two streams do not have in common, counted by bytes of segments, in as much memory as one allows."""

from collections import Counter

import numpy as np
import pytest
from core.tests.format.damage import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.repository.extents import Extents
from penstock.repository.read import differences
from penstock.repository.read.differences import Difference

#: The place of a segment, the start and the length of a run of it.
Run = tuple[int, int, int]
RUNS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 20)), max_size=30)


def bytes_of(runs: list[Run]) -> Counter[tuple[int, int]]:
    return Counter((place, start + at) for place, start, length in runs for at in range(length))


def compared(before: list[Run], after: list[Run], together: int) -> Difference:
    steps = differences._Steps()
    for runs, step in ((before, -1), (after, 1)):
        for first in range(0, len(runs), together):
            places, starts, lengths = np.array(runs[first : first + together], dtype=np.int64).T
            steps.add(Extents(places, starts, lengths), step)
            assert steps._count <= differences._STEPS_KEPT + 2 * together
    found = steps.sums()
    steps.close()
    return found


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(200))
@given(RUNS, RUNS, st.integers(1, 8), st.sampled_from([1, 8, 1 << 18]), st.integers(1, 50))
def test_each_byte_counts_as_often_as_only_one_of_them_has_it(
    before: list[Run], after: list[Run], together: int, kept: int, page: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(differences, "_STEPS_KEPT", kept)
        patch.setattr(differences, "_PAGE", page)
        found = compared(before, after, together)
    old, new = bytes_of(before), bytes_of(after)
    assert found == ((new - old).total(), (old - new).total())


def test_what_both_have_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "_STEPS_KEPT", 64)
    steps = differences._Steps()
    for at in range(1000):
        place, start = np.array([at % 7]), np.array([10 * at])
        for step in (-1, 1):
            steps.add(Extents(place, start, np.array([5])), step)
    assert steps._tables is None
    assert steps.sums() == (0, 0)
