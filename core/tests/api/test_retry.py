"""Retries: what is tried again, how long the waits are, and that the deadline holds."""

import random
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from penstock.api import Deadline, ObjectMissing, SinkUnreachable, StopToken, drain, retry_after, retrying


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(StopToken, "wait", lambda _, seconds: clock.sleep(seconds))
    return clock


class Flaky:
    """Fails `times` times, then works."""

    def __init__(self, times: int, error: type[SinkUnreachable] | type[ObjectMissing] = SinkUnreachable) -> None:
        self.left = times
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error("packs/a", "no answer")
        return "done"


def test_a_retryable_error_is_tried_again(clock: Clock) -> None:
    flaky = Flaky(3)
    assert retrying(flaky, deadline=Deadline(300)) == "done"
    assert flaky.calls == 4
    assert len(clock.sleeps) == 3


def test_any_other_error_is_raised_at_once(clock: Clock) -> None:
    flaky = Flaky(3, ObjectMissing)
    with pytest.raises(ObjectMissing) as caught:
        retrying(flaky, deadline=Deadline(300))
    assert flaky.calls == 1
    assert not clock.sleeps
    assert not caught.value.details


def test_the_deadline_ends_it_with_the_last_error_and_the_number_of_attempts(clock: Clock) -> None:
    flaky = Flaky(10**6)
    begun = clock.now
    with pytest.raises(SinkUnreachable) as caught:
        retrying(flaky, deadline=Deadline(120))
    assert clock.now - begun <= 120
    assert caught.value.details == (f"given up after {flaky.calls} attempts, with a deadline of 120 seconds",)
    assert flaky.calls > 6


def test_an_attempt_that_the_deadline_cut_off_does_not_hide_why_the_others_failed(clock: Clock) -> None:
    deadline = Deadline(30)
    errors = [SinkUnreachable("a", "SlowDown"), SinkUnreachable("a", "did not answer in time")]

    def attempt() -> None:
        if len(errors) == 1:
            clock.now += deadline.remaining
        raise errors.pop(0) if len(errors) > 1 else errors[0]

    with pytest.raises(SinkUnreachable, match="SlowDown") as caught:
        retrying(attempt, deadline=deadline)
    assert caught.value.details == ("given up after 2 attempts, with a deadline of 30 seconds",)


def test_waits_are_spread_below_a_limit_that_doubles(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0
        limits.append(high)
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    retrying(Flaky(10), deadline=Deadline(1000))
    assert limits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20, 20]
    assert clock.sleeps == limits


def test_a_wait_is_as_long_as_the_server_asks(clock: Clock) -> None:
    assert retrying(Flaky(1), deadline=Deadline(60), asked=lambda _: 17.0) == "done"
    assert clock.sleeps == [17.0]


def test_a_wait_past_the_deadline_is_not_begun(clock: Clock) -> None:
    with pytest.raises(SinkUnreachable):
        retrying(Flaky(1), deadline=Deadline(60), asked=lambda _: 61.0)
    assert not clock.sleeps


def test_a_deadline_limits_the_timeouts_of_an_attempt(clock: Clock) -> None:
    deadline = Deadline(10)
    assert deadline.limit(60) == 10
    assert deadline.limit(3) == 3
    clock.sleep(9)
    assert deadline.remaining == 1
    assert deadline.limit(3) == 1
    clock.sleep(5)
    assert deadline.expired
    assert deadline.remaining == 0
    assert 0 < deadline.limit(3) < 0.01, "0 would mean no timeout at all"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), (" 120 ", 120.0), ("0", 0.0), (None, None), ("", None), ("soon", None), ("-1", None), ("٣", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    ahead = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert ahead is not None
    assert 95 < ahead <= 100
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


class Body:
    """Gives a block of two bytes after each wait in `waits` (seconds), or fails where it may not wait so long."""

    def __init__(self, clock: Clock, *waits: float) -> None:
        self.bounds: list[float] = []
        self._clock = clock
        self._waits = list(waits)

    def read(self) -> bytes:
        if not self._waits:
            return b""
        wait = self._waits.pop(0)
        self._clock.now += min(wait, self.bounds[-1])
        if wait > self.bounds[-1]:
            raise ConnectionError("silence")
        return b"ab"


def drained(body: Body, seconds: float, *, size: int | None = None) -> bytes:
    return drain(body.read, bound=body.bounds.append, timeout=4, deadline=Deadline(seconds), size=size)


def test_a_body_is_read_to_its_end(clock: Clock) -> None:
    body = Body(clock, 3, 3, 0)
    assert drained(body, 100) == b"ababab"
    assert body.bounds == [4, 4, 4, 4]


def test_the_last_wait_for_a_body_ends_with_the_deadline(clock: Clock) -> None:
    begun = clock.now
    with pytest.raises(ConnectionError):
        drained(Body(clock, 3, 3, 600), 7)
    assert clock.now == begun + 7


def test_a_body_that_trickles_past_the_deadline_is_given_up(clock: Clock) -> None:
    begun = clock.now
    with pytest.raises(TimeoutError, match="too slow: 6 bytes when the deadline came"):
        drained(Body(clock, 1, 1, 1, 1), 3)
    assert clock.now == begun + 3
    with pytest.raises(TimeoutError, match="too slow: 6 of 8 bytes when"):
        drained(Body(clock, 1, 1, 1, 1), 3, size=8)


def test_a_body_that_came_whole_with_the_deadline_is_taken_and_its_connection_left_alone(clock: Clock) -> None:
    body = Body(clock, 1, 1)
    assert drained(body, 2, size=4) == b"abab"
    assert body.bounds == [2, 1]
