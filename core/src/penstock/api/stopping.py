"""Stopping: one token that reaches every wait of a run, so that a stop takes seconds whatever a service does.

The signal handler stops it, waits end with `Interrupted`, and what cannot be ended (a request that hangs inside an SDK)
is abandoned by the core.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from penstock.api.errors import Interrupted

__all__ = ["NEVER", "StopToken"]


class StopToken:
    """Stops once, for good. Every method may be called from any thread; `stop` from a signal handler too.

    No lock is held anywhere in here: a signal handler runs between two instructions of the very code that it stops.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._callbacks: dict[object, Callable[[], object]] = {}

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopped

    def stop(self) -> None:
        """Stop: waits end, and callbacks are called, in this thread. Again: nothing."""
        self._stopped = True
        while self._callbacks:
            try:
                _, callback = self._callbacks.popitem()
            except KeyError:  # another thread took the last one
                return
            callback()

    def check(self) -> None:
        """Raise `Interrupted` if it was stopped."""
        if self._stopped:
            raise Interrupted("interrupted")

    def wait(self, seconds: float) -> None:
        """Sleep; raises `Interrupted` as soon as it is stopped."""
        woken: SimpleQueue[None] = SimpleQueue()
        with self.on_stop(lambda: woken.put(None)):
            try:
                woken.get(timeout=max(0.0, seconds))
            except Empty:
                return
        raise Interrupted("interrupted")

    @contextmanager
    def on_stop(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call `callback` once when it stops during the block, at once if it has stopped before.

        The callback must be quick and must not raise; it may run in a signal handler, so it takes no lock.
        """
        key = object()
        self._callbacks[key] = callback
        try:
            if self._stopped and self._callbacks.pop(key, None) is not None:
                callback()
            yield
        finally:
            self._callbacks.pop(key, None)


class _Never(StopToken):
    def stop(self) -> None:
        """Refuse: it is everybody's."""
        raise RuntimeError("NEVER is shared by all who have no token of their own, and is not stopped")

    @contextmanager
    def on_stop(self, callback: Callable[[], object]) -> Iterator[None]:
        """Nothing will ever call it, so nothing is kept."""
        del callback
        yield


NEVER: StopToken = _Never()
"""The token of those whom nobody stops."""
