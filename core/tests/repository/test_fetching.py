"""Small objects are fetched whole, and never more of them than their kind may have."""

import traceback

import pytest

from penstock.format.encoding import Malformed
from penstock.repository import layout
from penstock.repository.fetching import fetch
from penstock.testing import MemorySink


def test_an_object_of_the_largest_size_is_fetched() -> None:
    sink, limit = MemorySink(), layout.limit_of(layout.CONFIG)
    sink.put(layout.CONFIG, bytes(limit))
    assert fetch(sink, layout.CONFIG) == bytes(limit)


def test_an_error_about_a_larger_one_keeps_none_of_its_bytes() -> None:
    sink, limit = MemorySink(), layout.limit_of(layout.CONFIG)
    sink.put(layout.CONFIG, bytes(limit + 1))
    with pytest.raises(Malformed, match="larger than any") as caught:
        fetch(sink, layout.CONFIG)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    kept = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, bytes)]
    assert [value for value in kept if len(value) > limit] == []
