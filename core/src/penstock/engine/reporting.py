"""Telling listeners what happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from penstock.api.errors import PenstockError
from penstock.api.events import Event, EventKind

__all__ = ["Listener", "Reporter", "reporting"]

Listener = Callable[[Event], None]


class Reporter:
    """One operation's voice."""

    def __init__(self, listener: Listener, operation: str, subject: str) -> None:
        self._listener = listener
        self._operation = operation
        self._subject = subject
        #: Bytes done by the streams before the one at hand, and the estimate of all.
        self.base = 0
        self.total: int | None = None

    def progress(self, stream: str, done: int) -> None:
        """`done` bytes of the stream at hand."""
        self._tell(EventKind.PROGRESS, stream=stream, done=self.base + done, total=self.total)

    def note(self, message: str) -> None:
        """Something that the operator should know, which stops nothing."""
        self._tell(EventKind.PROGRESS, message=message, done=self.base, total=self.total)

    def completed(self, message: str, figures: dict[str, int]) -> None:
        """It worked."""
        self._tell(EventKind.COMPLETED, message=message, done=self.base, total=self.total, figures=figures)

    def checked(self, key: str, message: str) -> None:
        """An object was found wanting."""
        self._listener(Event(EventKind.CHECKED, self._operation, subject=key, message=message))

    def _tell(
        self,
        kind: EventKind,
        *,
        stream: str = "",
        done: int = 0,
        total: int | None = None,
        message: str = "",
        figures: dict[str, int] | None = None,
    ) -> None:
        self._listener(Event(kind, self._operation, self._subject, stream, done, total, message, figures or {}))


@contextmanager
def reporting(listener: Listener, operation: str, subject: str) -> Iterator[Reporter]:
    """Started before, failed after an error; completed is for the operation itself to say."""
    reporter = Reporter(listener, operation, subject)
    listener(Event(EventKind.STARTED, operation, subject))
    try:
        yield reporter
    except BaseException as error:
        # Only our own errors promise to hold no secret.
        message = error.message if isinstance(error, PenstockError) else type(error).__name__
        listener(Event(EventKind.FAILED, operation, subject, message=message))
        raise
