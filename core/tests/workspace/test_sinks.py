"""The decorators around sinks."""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from penstock.api import (
    NEVER,
    Capability,
    Interrupted,
    ObjectExists,
    ObjectMissing,
    Plugin,
    Sink,
    SinkUnreachable,
    StopToken,
)
from penstock.testing import Fail, FaultySink, MemorySink
from penstock.workspace.sinks.forwarding import ForwardingSink
from penstock.workspace.sinks.limiting import Bucket, LimitingSink
from penstock.workspace.sinks.metering import Figures, MeteringSink, since

MIB = 1 << 20


class Time(StopToken):
    """A clock whose waits take no time, for one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.check()
        self.waits.append(seconds)
        self.now += seconds


class Together:
    """A clock for threads that wait together: it goes on when all of them wait, to the earliest moment."""

    def __init__(self, threads: int) -> None:
        self.now = 0.0
        self._running = threads
        self._due: list[float] = []
        self._changed = threading.Condition()

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        with self._changed:
            due = self.now + seconds
            self._due.append(due)
            self._running -= 1
            self._go_on()
            while self.now < due:
                assert self._changed.wait(60)

    def leave(self) -> None:
        with self._changed:
            self._running -= 1
            self._go_on()

    def _go_on(self) -> None:
        if not self._running and self._due:
            self.now = min(self._due)
            self._running = sum(due <= self.now for due in self._due)
            self._due = [due for due in self._due if due > self.now]
            self._changed.notify_all()


class TogetherStop(StopToken):
    """Waits by such a clock."""

    def __init__(self, clock: Together) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, seconds: float) -> None:
        self._clock.wait(seconds)


def run_together(clock: Together, *works: Callable[[], None]) -> None:
    def run(work: Callable[[], None]) -> None:
        work()
        clock.leave()

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def stopped_by(sink: Sink, stop: StopToken) -> Sink:
    sink.stop = stop
    return sink


def test_the_base_forwards_everything_that_a_sink_has() -> None:
    contract = {
        name
        for base in (Sink, Plugin)
        for name, value in vars(base).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    } | {"stop", "report"}
    own = {name for name in vars(ForwardingSink) if not name.startswith("_")}
    assert contract - own == set()


def test_the_base_stands_in_for_the_sink() -> None:
    inner = MemorySink()
    sink = ForwardingSink(inner)
    assert (sink.name, sink.schemes, sink.location) == (inner.name, inner.schemes, inner.location)
    assert sink.capabilities() == inner.capabilities() == frozenset({Capability.CONDITIONAL_PUT})
    stop = StopToken()
    sink.stop = stop
    assert inner.stop is stop
    sink.put("a", b"1")
    assert (sink.get("a"), sink.stat("a").size, [info.key for info in sink.list()]) == (b"1", 1, ["a"])
    sink.delete_many(["a"])
    assert inner.contents() == {}


def test_a_bucket_gives_its_rate_on_average_and_a_second_at_once() -> None:
    time = Time()
    bucket = Bucket(1000, time)
    for _ in range(10):
        bucket.take(500, time)
    assert time.now == pytest.approx(105)
    time.now += 60
    bucket.take(1000, time)  # saved up
    assert time.now == pytest.approx(165)
    bucket.take(1000, time)
    assert time.now == pytest.approx(166)


def test_a_late_wake_up_costs_nothing() -> None:
    time = Time()
    bucket = Bucket(1000, time)
    for _ in range(20):
        bucket.take(250, time)
        time.now += 0.1  # a busy machine
    assert time.now == pytest.approx(105, abs=0.2)


def test_an_object_of_many_seconds_is_waited_for_in_full() -> None:
    time = Time()
    sink = stopped_by(LimitingSink(MemorySink(), upload=MIB, clock=time), time)
    sink.put("a", bytes(16 * MIB))
    assert time.now == pytest.approx(116)
    assert max(time.waits) <= 1
    sink.get("a")
    assert time.now == pytest.approx(116)


def test_downloads_are_limited_by_what_came() -> None:
    time = Time()
    inner = MemorySink()
    inner.put("a", bytes(3 * MIB))
    sink = stopped_by(LimitingSink(inner, download=MIB, clock=time), time)
    assert len(sink.get("a", start=MIB, length=100 * MIB)) == 2 * MIB
    assert time.now == pytest.approx(102)


def test_all_threads_share_one_rate() -> None:
    clock = Together(4)
    bucket = Bucket(1000, clock)
    stop = TogetherStop(clock)
    run_together(clock, *[lambda: bucket.take(2500, stop)] * 4)
    assert clock.now == pytest.approx(10)


def test_a_small_object_overtakes_a_large_one() -> None:
    clock = Together(2)
    sink = stopped_by(LimitingSink(MemorySink(), upload=1000, clock=clock), TogetherStop(clock))
    ended: dict[str, float] = {}

    def put(key: str, size: int) -> None:
        sink.put(key, bytes(size))
        ended[key] = clock.now

    run_together(clock, lambda: put("large", 20_000), lambda: put("small", 500))
    assert ended["small"] <= 1.5
    assert ended["large"] == pytest.approx(20.5)


def test_a_stop_ends_the_wait_and_puts_nothing() -> None:
    stop = StopToken()
    inner = MemorySink()
    sink = stopped_by(LimitingSink(inner, upload=1), stop)
    failed: list[BaseException] = []

    def put() -> None:
        try:
            sink.put("a", bytes(10_000))
        except Interrupted as error:
            failed.append(error)

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    stop.stop()
    thread.join(60)
    assert len(failed) == 1
    assert inner.contents() == {}


def test_requests_bytes_and_seconds_are_counted_by_method() -> None:
    time = Time()
    sink = MeteringSink(Slow(time), time)
    sink.put("a", b"123")
    sink.put("b", memoryview(b"4567"))
    sink.get("a", start=1)
    sink.stat("a")
    for _ in sink.list():
        time.now += 100  # the caller's own time
    sink.delete("a")
    sink.delete_many(["b"])
    assert sink.figures == {
        "put": Figures(2, 0, 7, 2.0),
        "get": Figures(1, 0, 2, 1.0),
        "stat": Figures(1, 0, 0, 0.0),
        "list": Figures(1, 0, 0, 1.0),
        "delete": Figures(2, 0, 0, 0.0),
    }
    assert sink.figures["put"].to_json() == {"requests": 2, "errors": 0, "bytes": 7, "seconds": 2.0}


class Slow(MemorySink):
    """Each request takes a second."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time

    def put(self, *args: Any, **kwargs: Any) -> None:
        self._time.now += 1
        super().put(*args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> bytes:
        self._time.now += 1
        return super().get(*args, **kwargs)

    def list(self, prefix: str = "") -> Iterator[Any]:
        self._time.now += 1
        yield from super().list(prefix)


def test_failures_are_counted_and_answers_are_none() -> None:
    sink = MeteringSink(FaultySink(MemorySink(), Fail("put", nth=2), Fail("list", after=True)))
    sink.put("a", b"1")
    with pytest.raises(SinkUnreachable):
        sink.put("b", b"22")
    with pytest.raises(ObjectExists):
        sink.put("a", b"1", if_absent=True)
    with pytest.raises(ObjectMissing):
        sink.get("c")
    with pytest.raises(SinkUnreachable):
        list(sink.list())
    put, get, listed = (sink.figures[method] for method in ("put", "get", "list"))
    assert (put.requests, put.errors, put.bytes) == (3, 1, 1)
    assert (get.requests, get.errors) == (1, 0)
    assert (listed.requests, listed.errors) == (1, 1)


def test_the_figures_of_a_part_are_what_was_added() -> None:
    sink = MeteringSink(MemorySink())
    sink.put("a", b"123")
    before = sink.figures
    sink.put("b", b"4")
    added = since(before, sink.figures)
    assert set(added) == {"put"}
    assert (added["put"].requests, added["put"].bytes) == (1, 1)


def test_it_is_known_which_threads_wait_for_a_request() -> None:
    with hanging() as (inner, release):
        sink = MeteringSink(inner)
        thread = threading.Thread(target=sink.get, args=("a",), daemon=True)
        thread.start()
        assert inner.asked.wait(60)
        assert sink.requesting == (thread.ident,)
        release.set()
        thread.join(60)
        assert not sink.requesting


class Hanging(MemorySink):
    """Each `get` waits."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self.asked = threading.Event()
        self._release = release

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.asked.set()
        self._release.wait(60)
        return b""


@contextmanager
def hanging() -> Iterator[tuple[Hanging, threading.Event]]:
    release = threading.Event()
    try:
        yield Hanging(release), release
    finally:
        release.set()


def test_decorators_can_be_stacked() -> None:
    inner = MemorySink()
    sink = LimitingSink(MeteringSink(inner), upload=MIB)
    sink.put("a", b"1")
    assert inner.contents() == {"a": b"1"}
    assert sink.stop is NEVER
