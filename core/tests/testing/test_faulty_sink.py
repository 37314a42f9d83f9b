import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.api import Capability, ObjectMissing, SinkDenied, SinkFull, SinkUnreachable
from penstock.testing import Delay, Die, Died, Fail, FaultySink, FlipBit, MemorySink, Truncate


def test_the_nth_call_fails_and_does_nothing() -> None:
    inner = MemorySink()
    sink = FaultySink(inner, Fail("put", nth=2, error=SinkFull))
    sink.put("a", b"1")
    with pytest.raises(SinkFull) as caught:
        sink.put("b", b"2")
    assert caught.value.key == "b"
    sink.put("c", b"3")
    assert inner.contents() == {"a": b"1", "c": b"3"}


def test_a_lost_answer_fails_after_the_call_took_effect() -> None:
    inner = MemorySink()
    sink = FaultySink(inner, Fail("put", after=True), Fail("delete", after=True), Fail("list", after=True))
    with pytest.raises(SinkUnreachable):
        sink.put("a", b"1", if_absent=True)
    assert inner.contents() == {"a": b"1"}
    listing = sink.list()
    assert next(listing).key == "a"
    with pytest.raises(SinkUnreachable):
        next(listing)
    with pytest.raises(SinkUnreachable):
        sink.delete("a")
    assert inner.contents() == {}


def test_faults_are_counted_each_on_its_own_and_by_prefix() -> None:
    sink = FaultySink(MemorySink(), Fail("get", nth=2, times=2, prefix="packs/"), Fail("any", nth=1, prefix="index/"))
    for key in ("packs/a", "other", "index"):
        sink.put(key, b"1")
    outcomes: list[bytes | None] = []
    for key in ("packs/a", "other", "packs/a", "other", "packs/a", "packs/a"):
        try:
            outcomes.append(sink.get(key))
        except SinkUnreachable:
            outcomes.append(None)
    assert outcomes == [b"1", b"1", None, b"1", None, b"1"]
    with pytest.raises(SinkUnreachable):
        list(sink.list("index/"))
    assert list(sink.list("index/")) == []


def test_a_given_error_is_raised_as_it_is_for_ever() -> None:
    error = SinkDenied("x", "no")
    sink = FaultySink(MemorySink(), Fail("stat", times=None, error=error))
    for _ in range(3):
        with pytest.raises(SinkDenied) as caught:
            sink.stat("a")
        assert caught.value is error


def test_objects_are_truncated_and_bits_turned_on_the_way_in_or_out() -> None:
    inner = MemorySink()
    sink = FaultySink(inner, Truncate("put", keep=3), FlipBit("put", nth=2, bit=9), FlipBit("get", nth=2))
    sink.put("a", b"\0\0\0\0")
    sink.put("b", memoryview(b"\0\0\0\0"))
    assert inner.contents() == {"a": b"\0\0\0", "b": b"\0\2\0\0"}
    assert sink.get("a") == b"\0\0\0"
    assert sink.get("a") == b"\1\0\0"
    sink.put("empty", b"")
    sink.add(FlipBit("get", prefix="empty"))
    assert sink.get("empty") == b""


def test_a_call_is_delayed() -> None:
    sink = FaultySink(MemorySink(), Delay("put", seconds=0.05))
    start = time.monotonic()
    sink.put("a", b"1")
    assert time.monotonic() - start >= 0.05


def test_after_death_nothing_works_and_no_handler_of_errors_sees_it() -> None:
    inner = MemorySink()
    sink = FaultySink(inner, Die(after_puts=2))
    sink.put("a", b"1")
    sink.put("b", b"2")
    calls: list[Callable[[], object]] = [
        lambda: sink.put("c", b"3"),
        lambda: sink.delete("a"),
        lambda: list(sink.list()),
        lambda: sink.get("a"),
    ]
    for call in calls:
        with pytest.raises(Died):
            call()
    assert not issubclass(Died, Exception)
    assert inner.contents() == {"a": b"1", "b": b"2"}
    sink.heal()
    assert sink.get("a") == b"1"


def test_death_counts_from_when_it_was_added() -> None:
    sink = FaultySink(MemorySink())
    for number in range(5):
        sink.put(f"before/{number}", b"1")
    sink.add(Die(after_puts=1))
    sink.put("a", b"1")
    with pytest.raises(Died):
        sink.put("b", b"1")


@pytest.mark.parametrize("puts", [0, 1, 7])
def test_death_lets_exactly_as_many_puts_through_also_from_threads(puts: int) -> None:
    inner = MemorySink()
    sink = FaultySink(inner, Die(after_puts=puts))
    start = threading.Barrier(12)

    def put(number: int) -> bool:
        start.wait()
        try:
            sink.put(f"a/{number}", b"1")
        except Died:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(put, range(12))) == puts
    assert len(inner.contents()) == puts


def test_calls_are_recorded_and_abilities_are_those_of_the_inner_sink() -> None:
    sink = FaultySink(MemorySink())
    sink.put("a", b"1")
    sink.stat("a")
    with pytest.raises(ObjectMissing):
        sink.get("b")
    assert sink.calls == [("put", "a"), ("stat", "a"), ("get", "b")]
    assert sink.name == "memory"
    assert sink.location == "memory"
    assert sink.capabilities() == frozenset({Capability.CONDITIONAL_PUT})
