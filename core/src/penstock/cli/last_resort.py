"""The last resort when a stop is not enough: something hangs that cannot be ended from inside this process.

Requests that hang are abandoned where that is possible. It is not where the main thread made the request and hangs in
native code, where it waits for a thread that made it, or where an SDK has threads that the interpreter waits for at its
end. Then the process is ended from here, but never while

- the main thread gets on with its clean-up, or waits for something else, such as a database that undoes a restore;
- children are alive, which are ended and reaped within bounds of their own.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from types import FrameType

from penstock.api.process.guardian import GUARDIAN

__all__ = ["LastResort"]

#: When it begins to look, after the stop (seconds).
_GRACE_SECONDS = 4.0
#: And how long children may take: the sum of the bounds within which they are ended (seconds).
_CHILDREN_SECONDS = 20.0
_TICK_SECONDS = 0.1
#: A main thread that waits and has not moved for so many looks hangs.
_LOOKS = 10
#: Modules in which a thread waits for another one.
_WAITING = {"threading", "queue", "concurrent.futures._base", "concurrent.futures.thread"}


class LastResort:
    """Watches how a stopped command ends. `report` says, once, that it had to be ended; and gives the exit code.

    `requesting` gives the idents of the threads that are in the middle of a request to a sink.
    """

    def __init__(self, requesting: Callable[[], Set[int]], report: Callable[[], int]) -> None:
        self._requesting = requesting
        self._report = report
        self._main = threading.main_thread().ident
        #: The exit code, once the command itself has reported how it ended.
        self.code: int | None = None

    def watch(self) -> None:
        """End the process if it hangs. To be called, by a thread of its own, when the command is stopped."""
        begun = time.monotonic()
        still: tuple[int, int] | None = None
        looks = 0
        while True:
            time.sleep(_TICK_SECONDS)
            place = self._place()
            looks = looks + 1 if place is not None and place == still else 0
            still = place
            seconds = time.monotonic() - begun
            if seconds < _GRACE_SECONDS or (seconds < _CHILDREN_SECONDS and any(_children())):
                continue
            if self.code is not None or looks >= _LOOKS:
                self._end()

    def _place(self) -> tuple[int, int] | None:
        """Where the main thread waits for a request, its own or another thread's; None where it does not."""
        if self._main is None:
            return None
        frame: FrameType | None = sys._current_frames().get(self._main)  # noqa: SLF001 - documented all the same
        if frame is None:
            return None
        requesting = self._requesting()
        if self._main in requesting or (requesting and frame.f_globals.get("__name__") in _WAITING):
            return id(frame), frame.f_lasti
        return None

    def _end(self) -> None:
        for child in _children():
            with suppress(OSError):
                # Those that were started as leaders of a group have children of their own in it.
                (os.killpg if os.getpgid(child) == child else os.kill)(child, signal.SIGKILL)
        code = self._report() if self.code is None else self.code
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _children() -> Iterator[int]:
    """The children of this process that are alive, but for the guardian, which ends when this process has ended."""
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text(encoding="ascii").split():
                if int(child) != GUARDIAN.pid and not _is_dead(child):
                    yield int(child)


def _is_dead(child: str) -> bool:
    try:
        state = Path("/proc", child, "stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return True
    return state in (b"Z", b"X")
