"""From whatever a command raises to what is printed and the exit code; and signals that end it in good order."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from penstock.api.errors import Interrupted, PenstockError
from penstock.cli.output.console import CLOSED_PIPE, Output, ReaderGone

__all__ = ["guarded"]

#: After the first signal children are ended; a further one cuts that short, but not at once (seconds).
_PATIENCE = 10.0


def guarded(output: Output, work: Callable[[], None]) -> int:
    """Do `work`, show how it ended, and return the exit code. Nothing but `SystemExit` gets out."""
    try:
        with _signals_raise(), _log_as_warnings(output):
            try:
                work()
                output.finish()
            except KeyboardInterrupt as signalled:
                raise Interrupted(
                    f"interrupted by {signalled.args[0] if signalled.args else 'Ctrl-C'}",
                    hint="An interrupted backup leaves no snapshot; the next run uses what it had uploaded.",
                ) from None
    except PenstockError as error:
        return _report(output, error)
    except ReaderGone:
        output.abandon_stdout()
        return CLOSED_PIPE
    except Exception as error:  # noqa: BLE001 - this is the last stop: a short message instead of a traceback
        return _report_unexpected(output, error)
    return 0


def _report(output: Output, error: PenstockError) -> int:
    try:
        output.failure(error)
    except ReaderGone:
        output.abandon_stdout()
    return error.exit_code


def _report_unexpected(output: Output, error: Exception) -> int:
    try:
        output.unexpected(error, debug=bool(os.environ.get("PENSTOCK_DEBUG")))
    except ReaderGone:
        output.abandon_stdout()
    return PenstockError.exit_code


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise `KeyboardInterrupt` in the main thread, which no plugin takes for an error."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = 0.0

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal first
        if not first or time.monotonic() - first > _PATIENCE:
            first = time.monotonic()
            _interrupt(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup, and shells for jobs in the background, ask for some to be ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Warnings(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.warning(record.getMessage())  # without a traceback, whose texts may hold anything


@contextmanager
def _log_as_warnings(output: Output) -> Iterator[None]:
    """What libraries and plugins log goes the way of all warnings, or stderr would not be JSON lines any more."""
    handler = _Warnings(output)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _interrupt(number: int) -> NoReturn:
    raise KeyboardInterrupt("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
