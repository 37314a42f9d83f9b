from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest

from penstock.api import ObjectLocked, Sink, SinkError
from penstock.testing import FaultySink, MemorySink
from penstock.testing.memory import MemorySettings
from penstock.testing.sink_conformance import EndLocks, NotApplicable, SinkConformance

_HERE = NotApplicable("the storage is the memory of this process")


class Later:
    """A clock that can be put on."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def end_locks(self, keys: Iterable[str]) -> None:
        self.by += timedelta(days=2)


@pytest.fixture
def later() -> Later:
    return Later()


class _WithLocks(SinkConformance):
    shared = _HERE
    many_objects = 1_100  # a listing has no pages

    @pytest.fixture
    def end_locks(self, later: Later) -> EndLocks:
        return later.end_locks


class TestMemorySink(_WithLocks):
    @pytest.fixture
    def sink(self) -> Sink:
        return MemorySink()

    @pytest.fixture
    def locking(self, later: Later) -> Sink:
        return MemorySink(MemorySettings(object_lock_days=1), clock=later.now)


class TestFaultySinkWithoutFaults(_WithLocks):
    @pytest.fixture
    def sink(self) -> Sink:
        return FaultySink(MemorySink())

    @pytest.fixture
    def locking(self, later: Later) -> Sink:
        return FaultySink(MemorySink(MemorySettings(object_lock_days=1), clock=later.now))


def test_contents_are_a_copy() -> None:
    sink = MemorySink()
    sink.put("a", b"1")
    sink.contents().clear()
    assert sink.contents() == {"a": b"1"}


def test_a_negative_range_is_refused() -> None:
    sink = MemorySink()
    sink.put("a", b"1")
    for start, length in ((-1, None), (0, -1)):
        with pytest.raises(SinkError, match="negative"):
            sink.get("a", start=start, length=length)


def test_a_hold_keeps_an_object_and_nobody_knows_until_when(later: Later) -> None:
    sink = MemorySink(clock=later.now)
    sink.put("a", b"x")
    sink.hold("a")
    calls: list[Callable[[], None]] = [lambda: sink.delete("a"), lambda: sink.put("a", b"y")]
    for call in calls:
        with pytest.raises(ObjectLocked, match="nobody knows") as caught:
            call()
        assert caught.value.until is None
        assert caught.value.hint
    assert sink.contents() == {"a": b"x"}
    sink.release("a")
    sink.delete("a")
    assert sink.contents() == {}


def test_locks_go_by_the_clock_that_was_given(later: Later) -> None:
    sink = MemorySink(MemorySettings(object_lock_days=7), clock=later.now)
    sink.put("a", b"x")
    later.by = timedelta(days=6)
    sink.put("b", b"x")
    with pytest.raises(ObjectLocked) as caught:
        sink.delete_many(["b", "a"])
    assert caught.value.key == "b"
    assert caught.value.locked == sink.locks()
    later.by = timedelta(days=7)
    with pytest.raises(ObjectLocked):
        sink.delete_many(["a", "b"])
    assert sink.contents() == {"b": b"x"}
