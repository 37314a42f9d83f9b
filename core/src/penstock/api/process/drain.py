"""A pipe of a child that is emptied all the time, so that the child never waits for its reader."""

import os
import select
import threading
from typing import IO

__all__ = ["Drain"]

# The wait for a byte is cut into slices, to notice between them that it is over.
_SLICE_MILLISECONDS = 100


class Drain:
    """A thread that empties a pipe until its end and keeps the last `keep` bytes. From `start` on, it closes the pipe.

    `finish` ends it in any case: also when an interrupt came before `start`, or in the midst of it.
    """

    def __init__(self, pipe: IO[bytes], keep: int, name: str) -> None:
        self._pipe = pipe
        self._keep = keep
        self._stop = threading.Event()
        self._lock = threading.Lock()
        #: Whether `start` came to its end; and whether the thread has the pipe, or will never have it.
        self._started = self._running = self._over = False
        #: The last bytes, and how many there were in all. Stable after `finish()`.
        self.tail = bytearray()
        self.total = 0
        self._thread = threading.Thread(target=self._run, name=f"drain of {name}", daemon=True)

    def start(self) -> None:
        """Begin to empty the pipe."""
        self._thread.start()
        self._started = True

    def finish(self, timeout: float) -> None:
        """Wait for the end of the pipe, at most `timeout` seconds, then stop."""
        with self._lock:
            if not (self._started or self._running):
                self._over = True
                self._pipe.close()
                return
        self._thread.join(timeout)
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._lock:
            if self._over:
                return
            self._running = True
        poller = select.poll()
        poller.register(self._pipe, select.POLLIN)
        with self._pipe:
            while not self._stop.is_set():
                if not poller.poll(_SLICE_MILLISECONDS):
                    continue
                block = os.read(self._pipe.fileno(), 64 * 1024)
                if not block:
                    return
                self.total += len(block)
                self._take(block)

    def _take(self, block: bytes) -> None:
        self.tail += block
        del self.tail[: -self._keep]
