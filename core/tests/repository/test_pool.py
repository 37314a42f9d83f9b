import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from penstock.api import Interrupted, StopToken
from penstock.repository.pool import Workers


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Hanging calls wait for this; it opens at the end, so that no thread outlives the test."""
    gate = threading.Event()
    yield gate
    gate.set()


def stopping_soon(token: StopToken) -> None:
    threading.Timer(0.2, token.stop).start()


def test_results_come_in_the_order_of_their_items() -> None:
    with Workers(3, "test", StopToken()) as workers:
        assert list(workers.map(lambda number: number * number, range(100))) == [n * n for n in range(100)]


def test_no_more_threads_run_than_allowed_and_none_remain() -> None:
    running = set()
    with Workers(3, "test-few", StopToken()) as workers:
        list(workers.map(lambda _: running.add(threading.current_thread().name), range(200)))
    assert len(running) <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-few")]


def test_items_are_consumed_only_as_fast_as_they_are_processed() -> None:
    asked = []

    def items() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    with Workers(2, "test", StopToken()) as workers:
        results = workers.map(lambda number: number, items())
        assert next(results) == 0
        assert len(asked) <= 5
        assert sum(1 for _ in results) == 999


def test_an_error_is_raised_where_the_result_is_requested() -> None:
    with Workers(2, "test", StopToken()) as workers:
        future = workers.submit(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            workers.result(future)


class Large:
    """What a call has read before it fails."""


def failing(kept: list["weakref.ref[Large]"]) -> None:
    large = Large()
    kept.append(weakref.ref(large))
    raise ValueError("not what was written")


def by_call(workers: Workers, kept: list["weakref.ref[Large]"]) -> None:
    workers.call(failing, kept)


def by_map(workers: Workers, kept: list["weakref.ref[Large]"]) -> None:
    for _ in workers.map(failing, [kept]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("call", [by_call, by_map])
def test_what_a_failed_call_has_read_is_freed_with_its_error(
    call: Callable[[Workers, list["weakref.ref[Large]"]], None],
) -> None:
    kept: list[weakref.ref[Large]] = []
    gc.collect()
    gc.disable()
    try:
        with Workers(2, "test-pool", StopToken()) as workers:
            # Not with `pytest.raises`, which has a circle of its own.
            try:
                call(workers, kept)
            except ValueError:
                assert kept[0]() is not None, "its traceback keeps it"
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_stop_ends_the_wait_for_a_call_that_hangs(gate: threading.Event) -> None:
    token = StopToken()

    def wait() -> None:
        with Workers(1, "test", token) as workers:
            future = workers.submit(gate.wait)
            stopping_soon(token)
            workers.result(future)

    with pytest.raises(Interrupted):
        wait()


def test_a_stop_ends_the_wait_at_the_end_of_the_block(gate: threading.Event) -> None:
    token = StopToken()

    def leave() -> None:
        with Workers(1, "test", token) as workers:
            workers.submit(gate.wait)
            stopping_soon(token)

    with pytest.raises(Interrupted):
        leave()


def test_nothing_is_submitted_after_a_stop() -> None:
    token = StopToken()
    token.stop()
    with Workers(1, "test", token) as workers, pytest.raises(Interrupted):
        workers.submit(int)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted, ZeroDivisionError])
def test_a_block_left_with_an_error_starts_nothing_further(gate: threading.Event, error: type[BaseException]) -> None:
    """After an error it waits for calls that have begun; after an interruption not, or it would wait forever."""
    begun: list[int] = []
    later: list[Future[None]] = []
    first: list[Future[bool]] = []

    def fail() -> None:
        with Workers(1, "test", StopToken()) as workers:
            first.append(workers.submit(gate.wait))
            later.extend(workers.submit(begun.append, number) for number in range(10))
            if error is ZeroDivisionError:
                threading.Timer(0.2, gate.set).start()
            raise error("no")

    with pytest.raises(error):
        fail()
    assert all(future.cancelled() for future in later)
    assert first[0].done() is (error is ZeroDivisionError)
    gate.set()
    assert begun == []


def test_a_callback_runs_once_and_immediately_on_a_stopped_token() -> None:
    token = StopToken()
    calls: list[str] = []
    with token.on_stop(lambda: calls.append("during")):
        token.stop()
        token.stop()
    with token.on_stop(lambda: calls.append("after")):
        pass
    assert calls == ["during", "after"]


def test_waiting_on_a_token_ends_when_it_stops() -> None:
    token = StopToken()
    token.wait(0.01)
    stopping_soon(token)
    with pytest.raises(Interrupted):
        token.wait(600)
