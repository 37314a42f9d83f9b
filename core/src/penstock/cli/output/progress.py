"""Progress: bars on a terminal, a line now and then elsewhere, or JSON lines; always on stderr."""

import json
import re
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from penstock.api.events import Event, EventKind
from penstock.cli.output.pace import Pace, Phase
from penstock.cli.output.units import duration, printable

__all__ = ["JsonProgress", "PlainProgress", "Progress", "SilentProgress", "what"]

_PLAIN_SECONDS = 10.0
_JSON_SECONDS = 1.0
_ID = re.compile(r"[0-9a-f]{32}")


class Progress(ABC):
    """Takes events from any thread and shows them, for the length of a `with` block.

    Warnings are not shown here, except as JSON: the output says them like all others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def take(self, event: Event) -> None:
        """Show `event`, or not, if one like it was shown a moment ago."""
        with self._lock:
            self._take(event)

    @abstractmethod
    def _take(self, event: Event) -> None: ...

    @abstractmethod
    def say(self, text: str) -> None:
        """Print lines in passing, without disturbing what is shown."""

    def abandon(self) -> None:
        """Leave the terminal usable: the process ends in the middle of the block."""
        return


class SilentProgress(Progress):
    """Shows nothing; what is said is said."""

    def _take(self, event: Event) -> None:
        del event

    def say(self, text: str) -> None:
        """Print it."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text + "\n")


class JsonProgress(Progress):
    """One line of JSON an event: `{"event": {…}}`; progress once a second at most, for each run and each stream."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._pace = Pace(_JSON_SECONDS)
        self._stream_pace = Pace(_JSON_SECONDS)

    def _take(self, event: Event) -> None:
        if event.kind is EventKind.PROGRESS:
            stream_is_due = self._stream_pace.due_again(f"{what(event)} {event.stream}")
            if not self._pace.due(what(event)) and not stream_is_due:
                return
        shown: dict[str, Any] = {
            "kind": event.kind.value,
            "operation": event.operation,
            "run": event.run,
            "time": event.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "subject": event.subject,
            "phase": event.phase,
            "stream": event.stream,
            "stream_done": event.stream_done,
            "done": event.done,
            "total": event.total,
            "retries": event.retries,
            # The command's own error tells why, without what an unexpected one might quote.
            "message": "" if event.kind is EventKind.FAILED else event.message,
            "figures": dict(event.figures),
        }
        self._write(json.dumps({"event": shown}))

    def say(self, text: str) -> None:
        """Print it as a note."""
        self._write(json.dumps({"note": text}))


class PlainProgress(Progress):
    """Lines for a log: what happens, the phases, and every ten seconds how far the phase is."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._pace = Pace(_PLAIN_SECONDS)
        self._retries = Pace(_PLAIN_SECONDS)
        self._began: dict[str, float] = {}
        self._phases: dict[str, Phase] = {}

    def _take(self, event: Event) -> None:
        of = what(event)
        now = time.monotonic()
        began = self._began.setdefault(of, now)
        if event.kind in (EventKind.STARTED, EventKind.PHASE):
            self._phases[of] = Phase(event.phase, now)
        match event.kind:
            case EventKind.PROGRESS:
                self._progress(of, event, now)
            case EventKind.PHASE:
                self._write(f"{of}: {printable(event.phase)}")
            case EventKind.FAILED:
                self._write(f"{of}: failed")  # why is for the command's own error to tell
            case EventKind.COMPLETED:
                self._write(f"{of}: completed in {duration(now - began)}")
            case EventKind.RETRY:
                if self._retries.due(of):
                    self._write(f"{of}: tried again: {printable(event.message)} ({_times(event.retries)} so far)")
            case kind:
                self._write(f"{of}: {printable(event.message or kind.value)}")

    def _progress(self, of: str, event: Event, now: float) -> None:
        phase = self._phases.setdefault(of, Phase(event.phase, now))
        if now - phase.began < _PLAIN_SECONDS or not self._pace.due(of):
            return
        parts = [phase.amounts(event)]
        if (left := phase.left(event, now)) is not None:
            parts.append(f"about {duration(left)} left")
        name = f"{of}: {printable(phase.name)}".rstrip(": ")
        self._write(f"{name}: {', '.join([parts[0], phase.rate(event, now), *parts[1:]])}")

    def say(self, text: str) -> None:
        """Print it."""
        self._write(text)


def what(event: Event) -> str:
    """What an event is about: the operation and its subject, ids in short."""
    subject = event.subject[:8] if _ID.fullmatch(event.subject) else printable(event.subject)
    return f"{event.operation} {subject}".rstrip()


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
