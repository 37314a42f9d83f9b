"""Progress on a terminal: a line with a bar for each run, gone at the end."""

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment

from penstock.api.events import Event, EventKind
from penstock.cli.output.pace import Pace, Phase
from penstock.cli.output.progress import Progress, what
from penstock.cli.output.units import count, duration, printable, wrapped

__all__ = ["TerminalProgress", "line"]

_RETRY_SECONDS = 10.0
_SHOW_CURSOR = "\x1b[?25h"
_LONGEST_BAR, _SHORTEST_BAR, _SHORTEST_LABEL, _SHORTEST_PHASE = 30, 8, 12, 6


@dataclass(slots=True)
class _Shown:
    label: str
    phase: Phase
    event: Event


@dataclass(slots=True)
class _Lines:
    """What is shown: rendered anew for the width that the terminal has at the moment."""

    shown: dict[str, _Shown] = field(default_factory=dict)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        for number, one in enumerate(list(self.shown.values())):
            if number:
                yield Segment.line()
            yield Segment(line(one.label, one.phase, one.event, time.monotonic(), options.max_width))


class TerminalProgress(Progress):
    """A line for each run: its phase, a bar that begins at 0 with each phase, amounts, rate and estimate."""

    def __init__(self, *, notes: bool) -> None:
        """`notes` prints the messages of events, which stay."""
        super().__init__()
        self._notes = notes
        self._retries = Pace(_RETRY_SECONDS)
        self._lines = _Lines()
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live = Live(
            self._lines,
            console=self._console,
            transient=True,
            refresh_per_second=5,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        with suppress(OSError, ValueError):  # the terminal is gone
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError, ValueError):
            self._live.stop()

    def _take(self, event: Event) -> None:
        of = what(event)
        match event.kind:
            case EventKind.COMPLETED | EventKind.FAILED:
                self._lines.shown.pop(of, None)
            case EventKind.STARTED | EventKind.PHASE:
                label = f"{of}: {printable(event.phase)}" if event.phase else of
                self._lines.shown[of] = _Shown(label, Phase(event.phase, time.monotonic()), event)
            case EventKind.PROGRESS:
                shown = self._lines.shown.setdefault(of, _Shown(of, Phase(event.phase, time.monotonic()), event))
                shown.event = event
                name = " ".join(printable(part) for part in (event.phase, event.stream) if part)
                shown.label = f"{of}: {name}" if name else of
            case EventKind.RETRY:
                if self._notes and self._retries.due(of):
                    self.say(f"{of}: tried again: {printable(event.message)}")
            case _:
                if self._notes and event.message:
                    self.say(f"{of}: {printable(event.message)}")

    def say(self, text: str) -> None:
        """Print it above the bars."""
        width = self._console.width
        with suppress(OSError, ValueError):
            for one in text.split("\n"):
                self._console.print("\n".join(wrapped(one, width)), soft_wrap=True)

    def abandon(self) -> None:
        """Show the cursor again, on a line of its own."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"\n{_SHOW_CURSOR}")


def line(label: str, phase: Phase, event: Event, now: float, width: int) -> str:
    """One run in `width` cells.

    What does not fit is left out: the bar gives way to amounts and rate, these to the label, which is cut in the end;
    percentage and remaining time stay longest. Where there is nothing to count, or no more, it is the time so far that
    moves.
    """
    share, left = phase.share(event), phase.left(event, now)
    kept = [] if share is None else [f"{int(100 * share):3} %"]
    if share == 1 or (share is None and not event.done):
        kept.append(f"{duration(max(now - phase.began, 0.0))} so far")
    elif left is not None:
        kept.append(f"{duration(left)} left")
    optional = []
    if event.done:
        optional += [phase.amounts(event), phase.rate(event, now)]
    if event.retries:
        optional.append(count(event.retries, "retry", "retries"))

    room = width - cell_len("  ".join(kept)) - (2 if kept else 0)
    label = _cut(label, max(room, 0))
    room -= cell_len(label)
    shown = []
    for part in optional:
        if cell_len(part) + 2 > room:
            break
        shown.append(part)
        room -= cell_len(part) + 2
    parts = [label, *kept, *shown]
    bar = min(room - 2, _LONGEST_BAR)
    if share is not None and bar >= _SHORTEST_BAR:
        filled = int(bar * share)
        parts.insert(1, "━" * filled + "╌" * (bar - filled))
    return "  ".join(part for part in parts if part)


def _cut(label: str, room: int) -> str:
    if cell_len(label) <= room:
        return label
    of, _, phase = label.rpartition(": ")
    if of and cell_len(of) + _SHORTEST_PHASE > room:
        # What it is doing says more than what it is about.
        return _cut(phase, room)
    return set_cell_size(label, room - 1).rstrip() + "…" if room >= _SHORTEST_LABEL else ""
