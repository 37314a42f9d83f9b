"""How far and how fast: the pace of what is shown, and of what it shows."""

import time
from dataclasses import dataclass

from penstock.api.events import Event
from penstock.cli.output.units import amount

__all__ = ["Pace", "Phase"]

#: An estimate of the remaining time that rests on less than this says nothing (seconds).
_WARM_UP = 3.0
#: Things that a pace knows at once: of more than these, the oldest are forgotten.
_KNOWN = 1000


class Pace:
    """Says when the next of many things is due."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def due(self, what: str) -> bool:
        """Whether the last one of `what` was long enough ago; if so, this is the last one."""
        return self._due(what, float("-inf"))

    def due_again(self, what: str) -> bool:
        """As `due`, but the first time only starts the clock: what is over at once never is."""
        return self._due(what, time.monotonic())

    def _due(self, what: str, first: float) -> bool:
        now = time.monotonic()
        last = self._last.setdefault(what, first)
        if len(self._last) > _KNOWN:
            del self._last[next(iter(self._last))]
        if now - last < self._seconds:
            return False
        self._last[what] = now
        return True


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a run, which began at `began` (monotonic seconds). Its events count from there."""

    name: str
    began: float

    def amounts(self, event: Event) -> str:
        """`4.2 MiB`, or `4.2 MiB of about 48.0 MiB`."""
        total = _total(event)
        return amount(event.done) + (f" of about {amount(total)}" if total is not None else "")

    def rate(self, event: Event, now: float) -> str:
        """`1.0 MiB/s`, over the whole phase."""
        seconds = now - self.began
        return f"{amount(event.done / seconds if seconds > 0 else 0.0)}/s"

    def share(self, event: Event) -> float | None:
        """From 0 to 1; None where it is not known."""
        total = _total(event)
        return event.done / total if total else None

    def left(self, event: Event, now: float) -> float | None:
        """The remaining seconds; None where there is nothing to go by yet."""
        total, seconds = _total(event), now - self.began
        if total is None or not event.done or seconds <= _WARM_UP:
            return None
        return (total - event.done) * seconds / event.done


def _total(event: Event) -> int | None:
    """The estimate, unless it has turned out too small."""
    return event.total if event.total is not None and event.total >= event.done else None
