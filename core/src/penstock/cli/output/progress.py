"""Progress: a bar on a terminal, a line now and then elsewhere, or JSON lines; always on stderr."""

import json
import re
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from penstock.api.events import Event, EventKind
from penstock.cli.output.units import amount, duration, printable

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["JsonProgress", "PlainProgress", "Progress", "SilentProgress", "TerminalProgress"]

_PLAIN_SECONDS = 10.0
_JSON_SECONDS = 1.0
#: An estimate of the remaining time that rests on less than this says nothing (seconds).
_WARM_UP = 3.0
_ID = re.compile(r"[0-9a-f]{32}")


class Progress(ABC):
    """Takes events from any thread and shows them, for the length of a `with` block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def take(self, event: Event) -> None:
        """Show `event`, or not, if the last one was shown a moment ago."""
        with self._lock:
            self._take(event)

    @abstractmethod
    def _take(self, event: Event) -> None: ...

    @abstractmethod
    def say(self, text: str) -> None:
        """Print lines in passing, without disturbing what is shown."""


class SilentProgress(Progress):
    """Shows nothing; what is said is said."""

    def _take(self, event: Event) -> None:
        del event

    def say(self, text: str) -> None:
        """Print it."""
        _stderr_line(text)


class JsonProgress(Progress):
    """One line of JSON an event: `{"event": {…}}`; progress at most once a second for each thing that progresses."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._pace = _Pace(_JSON_SECONDS)

    def _take(self, event: Event) -> None:
        if event.kind is EventKind.PROGRESS and not event.message and not self._pace.due(_what(event)):
            return
        shown: dict[str, Any] = {
            "kind": event.kind.value,
            "operation": event.operation,
            "subject": event.subject,
            "stream": event.stream,
            "done": event.done,
            "total": event.total,
            # Of a failure the command's own error tells, without what an unexpected one might quote.
            "message": "" if event.kind is EventKind.FAILED else event.message,
            "figures": dict(event.figures),
        }
        self._write(json.dumps({"event": shown}))

    def say(self, text: str) -> None:
        """Print it as a note."""
        self._write(json.dumps({"note": text}))


class PlainProgress(Progress):
    """Lines for a log: the phases, and how far it is every ten seconds."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._pace = _Pace(_PLAIN_SECONDS)
        self._began: dict[str, float] = {}

    def _take(self, event: Event) -> None:
        what = _what(event)
        now = time.monotonic()
        if event.kind is EventKind.STARTED:
            self._began[what] = now
        began = self._began.setdefault(what, now)
        if event.kind is EventKind.PROGRESS and not event.message:
            if now - began < _PLAIN_SECONDS or not self._pace.due(what):
                return
            self._write(f"{what}: {_how_far(event, now - began)}")
        elif event.kind is EventKind.FAILED:
            self._write(f"{what}: failed")  # why is the command's own error to tell
        elif event.kind is EventKind.COMPLETED:
            self._write(f"{what}: completed in {duration(now - began)}")
        else:
            self._write(f"{what}: {printable(event.message or event.kind.value)}")

    def say(self, text: str) -> None:
        """Print it."""
        self._write(text)


class TerminalProgress(Progress):
    """A bar for each thing that progresses, with rate and estimate; gone at the end."""

    def __init__(self, *, notes: bool) -> None:
        """`notes` prints the messages of events, which stay."""
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._notes = notes
        self._began: dict[str, float] = {}

        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False, markup=False, emoji=False),
            transient=True,
            refresh_per_second=5,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def _take(self, event: Event) -> None:
        what = _what(event)
        if event.kind in (EventKind.COMPLETED, EventKind.FAILED):
            if (task := self._tasks.pop(what, None)) is not None:
                self._bars.remove_task(task)
            return
        if event.message and self._notes:
            self.say(f"{what}: {printable(event.message)}")
        if event.kind is EventKind.FINDING:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=event.total, figures="")
            self._began[what] = time.monotonic()
        label = f"{what}: {printable(event.stream)}" if event.stream else what
        # An estimate that turned out too small is none.
        total = event.total if event.total is not None and event.total >= event.done else None
        seconds = time.monotonic() - self._began[what]
        figures = _so_far(event, seconds) if event.done else ""
        self._bars.update(self._tasks[what], completed=event.done, total=total, description=label, figures=figures)

    def say(self, text: str) -> None:
        """Print it above the bars."""
        self._bars.console.print(text, soft_wrap=True)


class _Pace:
    """Says when the next of many events is due."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def due(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(what, float("-inf")) < self._seconds:
            return False
        self._last[what] = now
        return True


def _what(event: Event) -> str:
    subject = event.subject[:8] if _ID.fullmatch(event.subject) else printable(event.subject)
    return f"{event.operation} {subject}".rstrip()


def _so_far(event: Event, seconds: float) -> str:
    # An estimate that turned out too small is none.
    known = event.total is not None and event.total >= event.done
    rate = event.done / seconds if seconds > 0 else 0.0
    return amount(event.done) + (f" of about {amount(event.total)}" if known else "") + f", {amount(rate)}/s"


def _how_far(event: Event, seconds: float) -> str:
    text = _so_far(event, seconds)
    if event.total is not None and event.total >= event.done > 0 and seconds > _WARM_UP:
        text += f", about {duration((event.total - event.done) * seconds / event.done)} left"
    return text


def _stderr_line(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
