"""A limit on the rate of uploads and of downloads.

A token bucket, kept as the time at which it will be empty: what is taken moves that time on, and whoever takes waits
until it has come. Nothing is lost to threads that wake up late, since the times are fixed when they are reserved.
"""

import threading
import time
from collections.abc import Callable

from penstock.api import Sink, StopToken
from penstock.workspace.sinks.forwarding import ForwardingSink

__all__ = ["Bucket", "LimitingSink"]

#: How much a bucket saves up while nobody takes from it, in seconds of its rate.
_BURST_SECONDS = 1.0
#: Large amounts are taken in pieces of so many seconds, in turn with other threads: a small object overtakes a large
#: one instead of waiting for all of it.
_PIECE_SECONDS = 0.25


class Bucket:
    """Gives out `rate` bytes per second on average, to all threads together. `clock` is in seconds."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._empty_until = clock()

    def take(self, size: int, stop: StopToken) -> None:
        """Wait until `size` bytes are due. Raises `Interrupted` as soon as `stop` stops."""
        piece = max(1, int(self.rate * _PIECE_SECONDS))
        while size > 0:
            if (seconds := self._reserve(min(piece, size))) > 0:
                stop.wait(seconds)
            size -= piece

    def _reserve(self, size: int) -> float:
        """Take `size` bytes; how many seconds from now they are due."""
        with self._lock:
            now = self._clock()
            self._empty_until = max(self._empty_until, now - _BURST_SECONDS) + size / self.rate
            return self._empty_until - now


class LimitingSink(ForwardingSink):
    """Limits how many bytes per second `inner` is given by `put` and gives by `get`, over all threads, on average.

    A `put` waits before it is made, a `get` after it, when its size is known. Each object passes at the speed of the
    line: what is limited is the average, over seconds for small objects, and over a few objects for large ones. Other
    requests, which move little, pass freely. None is no limit.
    """

    name = "limiting"

    def __init__(
        self,
        inner: Sink,
        *,
        upload: int | None = None,
        download: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._upload = Bucket(upload, clock) if upload else None
        self._download = Bucket(download, clock) if download else None

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store, when it is due."""
        if self._upload is not None:
            self._upload.take(memoryview(data).nbytes, self.stop)
        self.inner.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read; given out when it is due."""
        data = self.inner.get(key, start=start, length=length)
        if self._download is not None:
            self._download.take(len(data), self.stop)
        return data
