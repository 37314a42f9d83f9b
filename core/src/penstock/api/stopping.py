"""Stopping: one token reaches every wait of a run, so that a stop takes seconds whatever a service does.

The signal handler stops it, waits end with `Interrupted`, and the core abandons what cannot be ended (a request that
hangs inside an SDK).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from penstock.api.errors import Interrupted

__all__ = ["NEVER", "StopToken"]


class StopToken:
    """Stops once, permanently. Every method may be called from any thread, and `stop` from a signal handler too.

    It takes no lock: a signal handler runs between two instructions of the very code that it stops.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._callbacks: dict[object, Callable[[], object]] = {}

    @property
    def stopped(self) -> bool:
        """Whether the token is stopped."""
        return self._stopped

    def stop(self) -> None:
        """End waits and call the callbacks, in this thread. Further calls do nothing."""
        self._stopped = True
        while self._callbacks:
            try:
                _, callback = self._callbacks.popitem()
            except KeyError:  # another thread took the last one
                return
            callback()

    def check(self) -> None:
        """Raise `Interrupted` if the token is stopped."""
        if self._stopped:
            raise Interrupted("interrupted")

    def wait(self, seconds: float) -> None:
        """Sleep; raises `Interrupted` as soon as the token is stopped."""
        woken: SimpleQueue[None] = SimpleQueue()
        with self.on_stop(lambda: woken.put(None)):
            try:
                woken.get(timeout=max(0.0, seconds))
            except Empty:
                return
        raise Interrupted("interrupted")

    @contextmanager
    def on_stop(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call `callback` once if the token stops during the block; immediately if it is already stopped.

        The callback must be quick and must not raise. It may run in a signal handler, so it must not take a lock.
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
        """Refuse, since the token is shared."""
        raise RuntimeError("NEVER cannot be stopped: everything without a token of its own shares it")

    @contextmanager
    def on_stop(self, callback: Callable[[], object]) -> Iterator[None]:
        """Drop the callback, since nothing will ever call it."""
        del callback
        yield


NEVER: StopToken = _Never()
"""A token that is never stopped."""
