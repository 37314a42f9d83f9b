"""Values that take a request to make: made once for all threads that ask, with no lock held meanwhile."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Once"]

K = TypeVar("K")
V = TypeVar("V")


class Once(Generic[K, V]):
    """The latest `kept` values by their keys. A failure is raised to all who waited for it, and not kept."""

    def __init__(self, make: Callable[[K], V], *, kept: int) -> None:
        self._make = make
        self._limit = kept
        self._lock = Lock()
        #: The latest to be used last.
        self._kept: OrderedDict[K, Future[V]] = OrderedDict()

    def __call__(self, key: K) -> V:
        """The value for `key`, made by the first thread that asks; raises what making it raises."""
        with self._lock:
            future = self._kept.get(key)
            first = future is None
            if future is None:
                future = self._kept[key] = Future()
                if len(self._kept) > self._limit:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(key)
        if first:
            try:
                future.set_result(self._make(key))
            except BaseException as error:  # noqa: BLE001 - raised again by `result`, also to those who wait
                with self._lock:
                    if self._kept.get(key) is future:
                        del self._kept[key]
                future.set_exception(error)
        return future.result()
