"""Threads whose requests can be abandoned: a request that hangs cannot be ended from outside.

`concurrent.futures` waits for its threads when a pool is closed, and again when the interpreter exits, which can take
up to a sink's deadline of minutes. These threads are daemons: an interrupted run abandons them and exits.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from penstock.api.errors import Interrupted
from penstock.api.stopping import StopToken

__all__ = ["Workers"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class Workers:
    """At most `count` threads for one run, started on demand.

    Every wait raises `Interrupted` as soon as `stop` stops. On leaving its block, the pool waits for all calls; after
    an error only for those that have begun; after an interruption for none.
    """

    def __init__(self, count: int, name: str, stop: StopToken) -> None:
        self.count = max(1, count)
        self._name = name
        self._stop = stop
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        #: Submitted and not finished.
        self._open: set[Future[Any]] = set()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, Exception) and not issubclass(kind, Interrupted):
            self.cancel()
        else:
            self.abandon()

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Make the call in a thread. Raises `Interrupted` if the run was stopped."""
        self._stop.check()
        if self._ended:
            raise RuntimeError(f"the pool {self._name} is closed")
        future: Future[T] = Future()
        with self._lock:
            self._open.add(future)
            missing = len(self._threads) < min(self.count, len(self._open))
        self._work.put((future, partial(call, *args, **kwargs)))
        future.add_done_callback(self._open.discard)
        if missing:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def result(self, future: "Future[T]") -> T:
        """The call's result, or its error. Raises `Interrupted` if the run is stopped first."""
        self._await(future)
        try:
            return future.result()
        finally:
            # The error's traceback keeps this frame: with the future, whose error it is, in a circle.
            del future

    def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call in a thread and wait for it. Raises `Interrupted` if the run is stopped first."""
        return self.result(self.submit(call, *args, **kwargs))

    def map(self, call: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """The result of `call` for each of `items`, in order; at most two calls per thread are pending at a time."""
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(self.submit(call, item))
                if len(waiting) >= 2 * self.count:
                    yield self.result(waiting.popleft())
            while waiting:
                yield self.result(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Wait for all submitted calls to finish. Raises `Interrupted` if the run is stopped first."""
        for future in tuple(self._open):
            self._await(future)
        if not self._ended:
            self._end()
            for thread in self._threads:
                thread.join()  # returns at once: all calls have finished

    def cancel(self) -> None:
        """Start no further call, and wait for those that have begun, or until the run is stopped."""
        for future in tuple(self._open):
            future.cancel()
        with suppress(Interrupted):
            self.close()

    def abandon(self) -> None:
        """Start no further call and wait for none: running calls end with their request, or with the process."""
        for future in tuple(self._open):
            future.cancel()
        if not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        for _ in self._threads:
            self._work.put(None)

    def _await(self, future: "Future[Any]") -> None:
        if future.done():
            return
        woken: SimpleQueue[None] = SimpleQueue()
        future.add_done_callback(lambda _: woken.put(None))
        with self._stop.on_stop(lambda: woken.put(None)):
            woken.get()
        if not future.done():
            self._stop.check()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            _make(*work)
            del work  # frees the call's arguments, which may be large


def _make(future: "Future[T]", call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - any error belongs to the thread that waits for the result
        future.set_exception(error)
        # In a circle with its error, whose traceback keeps this frame, it would keep all that the call has read.
        del future
    else:
        future.set_result(result)
