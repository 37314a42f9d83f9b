"""Time in which nobody waits between two attempts: tests of retries say what they mean, on a busy machine too."""

import time

import pytest

from penstock.api import StopToken, retry

__all__ = ["Clock", "clock"]


class Clock:
    """What `penstock.api.retry` takes for the time: a sleep moves it on, and is over at once."""

    def __init__(self) -> None:
        self.slept = 0.0

    def monotonic(self) -> float:
        """Seconds since some moment, with all the sleep in them."""
        return time.monotonic() + self.slept

    def time(self) -> float:
        """Seconds since the epoch, with all the sleep in them."""
        return time.time() + self.slept

    def sleep(self, seconds: float) -> None:
        """Be that much later."""
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which deadlines and the waits between attempts go in this test."""
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    monkeypatch.setattr(StopToken, "wait", lambda _, seconds: clock.sleep(seconds))
    return clock
