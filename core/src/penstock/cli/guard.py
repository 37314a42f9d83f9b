"""From whatever a command raises to what is printed and the exit code."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager

from penstock.api.errors import Interrupted, PenstockError
from penstock.api.stopping import StopToken
from penstock.cli.last_resort import LastResort
from penstock.cli.output.console import CLOSED_PIPE, Output, ReaderGone
from penstock.cli.shortage import shortage
from penstock.cli.signals import Signals

__all__ = ["Guard"]


class Guard:
    """Runs the work of one command; signals stop it through `stop`.

    `hint` is what an interrupted command says about the state it leaves. `requesting` gives the idents of the threads
    that are in the middle of a request to a sink.
    """

    def __init__(
        self,
        output: Output,
        stop: StopToken,
        *,
        hint: str,
        requesting: Callable[[], Set[int]] = frozenset,
    ) -> None:
        self._output = output
        self._stop = stop
        self._hint = hint
        self._last_resort = LastResort(requesting, self._report_hanging)
        self._signals = Signals(stop, self._last_resort.watch)
        self._reporting = threading.Lock()

    def run(self, work: Callable[[], None]) -> int:
        """Do `work`, show how it ended, and return the exit code.

        Raises `SystemExit`, or `KeyboardInterrupt` for a signal that comes during the report.
        """
        code = self._run(work)
        self._last_resort.code = code
        return code

    def _run(self, work: Callable[[], None]) -> int:
        with self._signals:
            try:
                with _log_as_warnings(self._output):
                    work()
                    self._output.finish()
            except KeyboardInterrupt as interrupt:
                left = getattr(interrupt, "__notes__", ())  # what the work says of the state that it leaves
                return self._report(self._interrupted(str(interrupt) or "Ctrl-C", *left))
            except ReaderGone:
                self._output.abandon_stdout()
                return CLOSED_PIPE
            except PenstockError as error:
                if self._stop.stopped:
                    # Whatever it is, it came of the stop: a child that was ended, a wait that was cut short.
                    return self._report(self._interrupted(self._signals.name, *_lines(error)))
                return self._report(error)
            except Exception as error:  # noqa: BLE001 - this is the last stop: a short message instead of a traceback
                if self._stop.stopped:
                    return self._report(self._interrupted(self._signals.name, f"unexpected {type(error).__name__}"))
                if (short := shortage(error)) is not None:
                    return self._report(short)
                return self._report_unexpected(error)
            return 0

    def _interrupted(self, by: str, *details: str) -> Interrupted:
        return Interrupted(f"interrupted by {by}", hint=self._hint, details=details)

    def _report(self, error: PenstockError) -> int:
        self._claim()
        try:
            self._output.failure(error)
        except ReaderGone:
            self._output.abandon_stdout()
        return error.exit_code

    def _report_unexpected(self, error: Exception) -> int:
        self._claim()
        try:
            self._output.unexpected(error, debug=bool(os.environ.get("PENSTOCK_DEBUG")))
        except ReaderGone:
            self._output.abandon_stdout()
        return PenstockError.exit_code

    def _report_hanging(self) -> int:
        """In place of the main thread, which hangs."""
        if self._reporting.acquire(blocking=False):
            hanging = "something hung, such as a request to the storage, and was abandoned"
            try:
                self._output.failure(self._interrupted(self._signals.name, hanging))
            except ReaderGone:
                self._output.abandon_stdout()
        return Interrupted.exit_code

    def _claim(self) -> None:
        """Take the right to report. If the last resort has it, wait here: it ends the process."""
        while not self._reporting.acquire(blocking=False):
            time.sleep(1)


def _lines(error: PenstockError) -> tuple[str, ...]:
    """What an error that a stop caused says of the state that it leaves."""
    if isinstance(error, Interrupted):
        return error.details
    return (error.message, *error.details, *([error.hint] if error.hint else []))


class _Warnings(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.warning(record.getMessage())  # without a traceback, whose texts may hold anything


@contextmanager
def _log_as_warnings(output: Output) -> Iterator[None]:
    """What libraries and plugins log becomes warnings, or stderr would not be JSON lines any more."""
    handler = _Warnings(output)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
