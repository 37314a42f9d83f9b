"""Signals that end a command in good order: they stop its token, whatever the main thread is doing."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn, Self

from penstock.api.stopping import StopToken

__all__ = ["Signals"]

#: After the first signal the command cleans up; a further one cuts that short, but not at once (seconds).
_PATIENCE_SECONDS = 10.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """During the block, SIGINT, SIGTERM and SIGHUP stop `stop` and raise `KeyboardInterrupt` in the main thread.

    `KeyboardInterrupt`, since no plugin takes it for an error. A main thread that hangs in native code runs no handler;
    so a second thread, which the system tells of the signal, stops the token too, and calls `after` (which may take
    long).
    Where the block is not in the main thread, signals are left alone.
    """

    def __init__(self, stop: StopToken, after: Callable[[], object]) -> None:
        self.name = ""  # of the first signal
        self._stop = stop
        self._after = after
        self._first = 0.0
        self._before: dict[int, Any] = {}
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._fd_before = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _ENDING:
            # nohup, and shells for jobs in the background, ask for some to be ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        told, tell = self._sockets = socket.socketpair()
        tell.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(told,), name="penstock-signals", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._sockets is None:
            return
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        with suppress(OSError):
            self._sockets[1].close()  # which ends the thread, unless a signal came

    def _watch(self, told: socket.socket) -> None:
        with told:
            while number := told.recv(1):
                if number[0] in self._before:
                    self._note(number[0])
                    break
            else:
                return
        self._after()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        now = time.monotonic()
        if self._first and now - self._first <= _PATIENCE_SECONDS:
            return
        self._first = now
        try:
            self._note(number)
        finally:
            _interrupt(number)

    def _note(self, number: int) -> None:
        self.name = self.name or _shown(number)
        self._stop.stop()


def _shown(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def _interrupt(number: int) -> NoReturn:
    raise KeyboardInterrupt(_shown(number))
