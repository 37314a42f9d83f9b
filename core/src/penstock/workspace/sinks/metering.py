"""Counts what goes through a sink."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from penstock.api import ObjectExists, ObjectInfo, ObjectMissing, Sink
from penstock.workspace.sinks.forwarding import ForwardingSink

__all__ = ["Figures", "MeteringSink", "since"]

#: Errors that are answers: the object was looked for, and is there or not.
_ANSWERS = (ObjectExists, ObjectMissing)


@dataclass(frozen=True, slots=True)
class Figures:
    """The calls of one method: how many, how many of them failed, the bytes of objects, and the seconds they took.

    Seconds of calls at the same time add up. An object that is missing, or exists already, is no failure.
    """

    requests: int = 0
    errors: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __add__(self, more: "Figures") -> "Figures":
        return Figures(
            self.requests + more.requests,
            self.errors + more.errors,
            self.bytes + more.bytes,
            self.seconds + more.seconds,
        )

    def __sub__(self, earlier: "Figures") -> "Figures":
        return Figures(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            self.bytes - earlier.bytes,
            self.seconds - earlier.seconds,
        )

    def to_json(self) -> dict[str, float]:
        """As it stands in JSON documents."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }


def since(earlier: Mapping[str, Figures], now: Mapping[str, Figures]) -> dict[str, Figures]:
    """What was added to the figures of each method since earlier ones; methods that were not called are left out."""
    changes = {method: figures - earlier.get(method, Figures()) for method, figures in now.items()}
    return {method: change for method, change in changes.items() if change.requests}


class MeteringSink(ForwardingSink):
    """Counts requests, failures, bytes and seconds by method. What `inner` tries again by itself is one request."""

    name = "metering"

    def __init__(self, inner: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[str, Figures] = {}
        self._inside: dict[int, int] = {}

    @property
    def figures(self) -> dict[str, Figures]:
        """The figures so far, by method."""
        with self._lock:
            return dict(self._figures)

    @property
    def requesting(self) -> tuple[int, ...]:
        """The idents of the threads that are in the middle of a request. Takes no lock: right as of a moment ago."""
        return tuple(self._inside)

    def add(self, figures: Mapping[str, Figures]) -> None:
        """Count what went through another one, to the same place."""
        for method, more in figures.items():
            self._add(method, more)

    def preflight(self) -> None:
        """See whether a backup can succeed."""
        with self._counted("preflight"):
            self.inner.preflight()

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store."""
        with self._counted("put") as count:
            self.inner.put(key, data, if_absent=if_absent)
            count(memoryview(data).nbytes)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read."""
        with self._counted("get") as count:
            data = self.inner.get(key, start=start, length=length)
            count(len(data))
            return data

    def stat(self, key: str) -> ObjectInfo:
        """Look."""
        with self._counted("stat"):
            return self.inner.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List; one request, however many pages it takes. What the caller does between two objects is not counted."""
        seconds, failed = 0.0, False
        listed = iter(self.inner.list(prefix))
        try:
            while True:
                begun = self._clock()
                try:
                    with self._within():
                        info = next(listed, None)
                except BaseException:
                    failed = True
                    raise
                finally:
                    seconds += self._clock() - begun
                if info is None:
                    return
                yield info
        finally:
            self._add("list", Figures(1, int(failed), 0, seconds))

    def delete(self, key: str) -> None:
        """Delete."""
        with self._counted("delete"):
            self.inner.delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete; one request, however many batches it takes."""
        with self._counted("delete"):
            self.inner.delete_many(keys)

    def retain(self, key: str, until: datetime) -> None:
        """Lengthen the lock."""
        with self._counted("retain"):
            self.inner.retain(key, until)

    def close(self) -> None:
        """Close `inner`; not counted."""
        with self._within():
            self.inner.close()

    @contextmanager
    def _counted(self, method: str) -> Iterator[Callable[[int], None]]:
        moved = 0

        def count(size: int) -> None:
            nonlocal moved
            moved += size

        failed = True
        begun = self._clock()
        try:
            with self._within():
                yield count
            failed = False
        except _ANSWERS:
            failed = False
            raise
        finally:
            self._add(method, Figures(1, int(failed), moved, self._clock() - begun))

    @contextmanager
    def _within(self) -> Iterator[None]:
        thread = threading.get_ident()
        self._inside[thread] = self._inside.get(thread, 0) + 1
        try:
            yield
        finally:
            self._inside[thread] -= 1
            if not self._inside[thread]:
                del self._inside[thread]

    def _add(self, method: str, more: Figures) -> None:
        with self._lock:
            self._figures[method] = self._figures.get(method, Figures()) + more
