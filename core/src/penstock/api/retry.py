"""Retries under one total deadline, the same for every sink that speaks to a network.

    deadline = Deadline(300)
    return retrying(lambda: attempt(deadline), deadline=deadline, stop=self.stop, report=self.report)

The SDK's own retries are switched off, or their time counts twice. Whether an error is worth a retry, it says itself
(`PenstockError.retryable`), so an attempt raises errors that are translated already.
"""

import io
import random
import time
from collections.abc import Callable
from typing import TypeVar

from penstock.api.errors import PenstockError
from penstock.api.events import Report, SilentReport
from penstock.api.stopping import NEVER, StopToken

__all__ = ["Deadline", "drain", "retry_after", "retrying"]

T = TypeVar("T")

#: An attempt that ends with no more time left than this was cut off by the deadline.
_CUT_OFF_SECONDS = 0.05
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 20.0
_SILENT = SilentReport()


class Deadline:
    """The moment by which a call has succeeded or failed, whatever it tries: `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds that are left; 0 when the moment has come."""
        return max(0.0, self._end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has come."""
        return self.remaining == 0

    def limit(self, seconds: float) -> float:
        """A timeout of `seconds` that does not reach past the deadline; never 0, which many SDKs take for endless."""
        return max(0.001, min(seconds, self.remaining))


def retrying(
    attempt: Callable[[], T],
    *,
    deadline: Deadline,
    asked: Callable[[PenstockError], float | None] = lambda _: None,
    stop: StopToken = NEVER,
    report: Report = _SILENT,
) -> T:
    """What `attempt` gives, made again after each retryable error until `deadline`; then the last error is raised.

    An attempt that the deadline itself has cut off says nothing but that: then it is the error before it. Each retry is
    told to `report`, with its reason. Once `stop` has stopped no wait begins or goes on: `Interrupted` is raised. A
    first attempt is made all the same, for what is to be tidied up after a stop.

    `attempt` bounds itself by the same deadline, with `Deadline.limit`. Waits are random between 0 and a limit that
    doubles from 0.2 to 20 seconds ("full jitter": M. Brooker, "Exponential Backoff And Jitter", AWS Architecture
    Blog, 2015), and never shorter than what the server asked for: `asked` finds that in an error, in seconds. When
    the wait would end after the deadline, the error is raised at once: waiting for nothing helps nobody.
    """
    attempts = 0
    before: PenstockError | None = None
    while True:
        attempts += 1
        try:
            return attempt()
        except PenstockError as error:
            if not error.retryable:
                raise
            longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** min(attempts - 1, 20))
            wait = max(random.uniform(0, longest), asked(error) or 0.0)
            if wait >= deadline.remaining:
                tried = f"{attempts} attempts" if attempts > 1 else "1 attempt"
                told = before if before is not None and deadline.remaining < _CUT_OFF_SECONDS else error
                told.details += (f"given up after {tried}, with a deadline of {deadline.seconds:g} seconds",)
                raise told from told.__cause__
            before = error
            report.retry(f"{error}: trying again in {wait:.1f} seconds")
        stop.wait(wait)


def drain(
    read: Callable[[], bytes],
    *,
    bound: Callable[[float], None],
    timeout: float,
    deadline: Deadline,
    size: int | None = None,
) -> bytes:
    """All that `read` gives until it gives b"", which is the body of an answer; no wait for it outlives `deadline`.

    Before each `read`, `bound` is told how many seconds it may wait: `timeout`, or what is left if that is less. The
    timeout that the connection began with would let the last wait end up to twice as late. Where the `size` in bytes
    is known, `bound` is left alone once all have come, since the connection may be another answer's by then.

    Raises `TimeoutError` when the deadline comes before the last byte, and what `read` raises.
    """
    collected = io.BytesIO()
    while True:
        if collected.tell() != size:
            bound(deadline.limit(timeout))
        if not (block := read()):
            return collected.getvalue()  # without a copy: BytesIO hands its own buffer over
        collected.write(block)
        if deadline.expired and collected.tell() != size:
            expected = "" if size is None else f" of {size}"
            raise TimeoutError(f"too slow: {collected.tell()}{expected} bytes when the deadline came")


def retry_after(value: str | None) -> float | None:
    """The seconds that an HTTP `Retry-After` header asks for (RFC 9110, section 10.2.3), None if it says nothing."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime  # a rare need, and slow to import

    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
