"""Reports the events of a run to listeners."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from penstock.api.errors import PenstockError
from penstock.api.events import Event, EventKind
from penstock.api.models import LeftOut
from penstock.api.plugin import Plugin
from penstock.format.encoding import new_id

__all__ = ["Listener", "Reporter", "reporting"]

Listener = Callable[[Event], None]

#: Objects left out that are kept for the result of the run; more of them are counted and no more.
_LEFT_OUT_KEPT = 10_000
#: And those that are told as they come.
_LEFT_OUT_TOLD = 100


class Reporter:
    """Reports the events of one run; also the `Report` of its plugins. Thread-safe."""

    def __init__(self, listener: Listener, operation: str, subject: str) -> None:
        self._listener = listener
        self._operation = operation
        self._subject = subject
        self._run = new_id().hex()
        self._lock = threading.Lock()
        self._phase = ""
        self._retries = 0
        self._warnings: list[str] = []
        self._left_out: list[LeftOut] = []
        self._left_out_count = 0
        #: Takes each object that is left out, with its statement.
        self.on_left_out: Callable[[LeftOut], None] = lambda _: None
        #: The estimated bytes of the phase.
        self.total: int | None = None
        #: Those that are done, of all streams, and of each one that is at work.
        self._done = 0
        self._at_work: dict[str, int] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings so far."""
        return tuple(self._warnings)

    @property
    def objects_left_out(self) -> tuple[LeftOut, ...]:
        """The first objects that the dump or the restore left out, and is the poorer for."""
        return tuple(self._left_out)

    @property
    def left_out_count(self) -> int:
        """How many these are in all."""
        return self._left_out_count

    @property
    def retries(self) -> int:
        """How many requests and streams were retried so far."""
        return self._retries

    def started(self) -> None:
        """The run begins."""
        self._tell(EventKind.STARTED)

    def phase(self, name: str, total: int | None = None) -> None:
        """A phase begins, with `total` bytes to process if known."""
        with self._lock:
            self._phase = name
            self.total = total
            self._done = 0
            self._at_work.clear()
        self._tell(EventKind.PHASE, total=total)

    def progress(self, stream: str, done: int) -> None:
        """`done` bytes of a stream were processed; several may be at work."""
        self._counted(stream, done)
        self._tell(EventKind.PROGRESS, stream=stream, stream_done=done, done=self._done, total=self.total)

    def ended(self, stream: str, size: int) -> None:
        """All of a stream was processed, `size` bytes."""
        self._counted(stream, size)
        with self._lock:
            del self._at_work[stream]

    def dropped(self, stream: str) -> None:
        """What was processed of a stream does not count: it begins again."""
        self._counted(stream, 0)
        with self._lock:
            del self._at_work[stream]

    def note(self, message: str) -> None:
        """Something worth knowing."""
        self._tell(EventKind.NOTE, message=message, done=self._done, total=self.total)

    def warn(self, message: str) -> None:
        """Something that deserves attention but stops nothing."""
        with self._lock:
            self._warnings.append(message)
        self._tell(EventKind.WARNING, message=message, done=self._done, total=self.total)

    def retry(self, message: str) -> None:
        """Something is being retried."""
        with self._lock:
            self._retries += 1
        self._tell(EventKind.RETRY, message=message, done=self._done, total=self.total)

    def left_out(self, one: LeftOut) -> None:
        """An object is left out; a note where nothing is missing afterwards."""
        if not one.lost:
            self.note(f"not needed: {one}")
            return
        with self._lock:
            self._left_out_count += 1
            if len(self._left_out) < _LEFT_OUT_KEPT:
                self._left_out.append(one)
            self.on_left_out(one)
            told = self._left_out_count <= _LEFT_OUT_TOLD
        if told:
            self._tell(EventKind.LEFT_OUT, message=f"left out: {one}", done=self._done, total=self.total)

    def begin_again(self, message: str) -> None:
        """The whole work is tried again: what it left out so far, it may not leave out now."""
        with self._lock:
            self._left_out.clear()
            self._left_out_count = 0
        self.retry(message)

    def finding(self, key: str, message: str) -> None:
        """An object was found damaged or missing."""
        self._tell(EventKind.FINDING, subject=key, message=message)

    def completed(self, message: str, figures: dict[str, int]) -> None:
        """The run succeeded."""
        self._tell(EventKind.COMPLETED, message=message, done=self._done, total=self.total, figures=figures)

    def failed(self, message: str) -> None:
        """The run failed."""
        self._tell(EventKind.FAILED, message=message)

    def _counted(self, stream: str, done: int) -> None:
        with self._lock:
            self._done += done - self._at_work.get(stream, 0)
            self._at_work[stream] = done

    def _tell(
        self,
        kind: EventKind,
        *,
        subject: str = "",
        stream: str = "",
        stream_done: int = 0,
        done: int = 0,
        total: int | None = None,
        message: str = "",
        figures: dict[str, int] | None = None,
    ) -> None:
        self._listener(
            Event(
                kind,
                self._operation,
                subject=subject or self._subject,
                stream=stream,
                stream_done=stream_done,
                done=done,
                total=total,
                message=message,
                figures=figures or {},
                phase=self._phase,
                retries=self._retries,
                run=self._run,
            )
        )


@contextmanager
def reporting(listener: Listener, operation: str, subject: str, *plugins: Plugin) -> Iterator[Reporter]:
    """The reporter of one run; `plugins` report to it during the block.

    It reports the start before the block, and the failure after an error in it; completion is up to the operation.
    """
    reporter = Reporter(listener, operation, subject)
    before = [(plugin, plugin.report) for plugin in plugins]
    for plugin in plugins:
        plugin.report = reporter
    reporter.started()
    try:
        yield reporter
    except BaseException as error:
        # Only our own errors are guaranteed to contain no secret.
        reporter.failed(error.message if isinstance(error, PenstockError) else type(error).__name__)
        raise
    finally:
        for plugin, report in before:
            plugin.report = report
