"""A decorator around any sink that fails as it is told.

    sink = FaultySink(
        MemorySink(),
        Fail("put", nth=3, error=SinkUnreachable),      # the third put does nothing and raises
        Fail("put", nth=5, after=True),                 # the fifth works, and its answer is lost
        FlipBit("get", prefix="packs/", times=None),    # every get below packs/ is damaged
        Die(after_puts=9),                              # as if the process were killed after nine puts
    )

Calls are counted for each fault on its own, over all threads, from 1.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from penstock.api import ObjectInfo, Sink, SinkError, SinkUnreachable
from penstock.workspace.sinks.forwarding import ForwardingSink

__all__ = ["Delay", "Die", "Died", "Fail", "Fault", "FaultySink", "FlipBit", "Method", "Truncate"]

Method = Literal["put", "get", "stat", "list", "delete", "retain", "any"]


class Died(BaseException):
    """What every call raises once the sink has died. No handler of expected errors catches it, as none would run."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes the calls of `method` whose key (of `list`: prefix) starts with `prefix`.

    The first to be struck is the `nth`; `times` says how many in a row, None all that follow.
    """

    method: Method
    nth: int = 1
    times: int | None = 1
    prefix: str = ""

    def strikes(self, number: int) -> bool:
        """Whether the call of that number, of those that match, is struck."""
        return number >= self.nth and (self.times is None or number < self.nth + self.times)

    def matches(self, method: str, key: str) -> bool:
        """Whether the call counts for this fault."""
        return self.method in (method, "any") and key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Fail(Fault):
    """Raises `error`: a class is given the key, an instance is raised as it is. With `after`, the call took effect."""

    error: type[SinkError] | BaseException = SinkUnreachable
    after: bool = False

    def make(self, key: str) -> BaseException:
        """The error to raise."""
        return self.error(key, "an injected fault") if isinstance(self.error, type) else self.error


@dataclass(frozen=True, slots=True)
class Truncate(Fault):
    """A `put` stores, or a `get` gives, only the first `keep` bytes."""

    keep: int = 0


@dataclass(frozen=True, slots=True)
class FlipBit(Fault):
    """A `put` stores, or a `get` gives, the bytes with one bit turned over; `bit` counts on around the end."""

    bit: int = 0


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """The call begins `seconds` later."""

    seconds: float = 0.01


@dataclass(frozen=True, slots=True)
class Die(Fault):
    """Lets `after_puts` more puts begin, counted from when it was added; then every call raises `Died`, for ever.

    The first to raise it is one that matches. `nth` and `times` have no meaning here.
    """

    method: Method = "any"
    after_puts: int = 0


class FaultySink(ForwardingSink):
    """Forwards everything to `inner`, except for calls that its faults strike. `close` is never struck.

    `calls` records every call that began, as (method, key).
    """

    name = "faulty"

    def __init__(self, inner: Sink, *faults: Fault) -> None:
        super().__init__(inner)
        self.calls: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._faults = list(faults)
        self._counts = [0] * len(faults)
        #: How many puts had begun when each fault was added.
        self._earlier = [0] * len(faults)
        self._puts = 0
        self._dead = False

    def add(self, fault: Fault) -> None:
        """Let one more fault strike, counting from here."""
        with self._lock:
            self._faults.append(fault)
            self._counts.append(0)
            self._earlier.append(self._puts)

    def heal(self) -> None:
        """Forget all faults; a dead sink lives again."""
        with self._lock:
            self._faults.clear()
            self._counts.clear()
            self._earlier.clear()
            self._dead = False

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store, unless struck."""
        struck = self._begin("put", key)
        self.inner.put(key, _changed(bytes(data), struck) if struck else data, if_absent=if_absent)
        _end(key, struck)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read, unless struck."""
        struck = self._begin("get", key)
        data = _changed(self.inner.get(key, start=start, length=length), struck)
        _end(key, struck)
        return data

    def stat(self, key: str) -> ObjectInfo:
        """Look, unless struck."""
        struck = self._begin("stat", key)
        found = self.inner.stat(key)
        _end(key, struck)
        return found

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List, unless struck; with `after`, the error comes at the end."""
        struck = self._begin("list", prefix)
        yield from self.inner.list(prefix)
        _end(prefix, struck)

    def delete(self, key: str) -> None:
        """Delete, unless struck."""
        struck = self._begin("delete", key)
        self.inner.delete(key)
        _end(key, struck)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete one by one, unless struck."""
        Sink.delete_many(self, keys)

    def retain(self, key: str, until: datetime) -> None:
        """Lengthen the lock, unless struck."""
        struck = self._begin("retain", key)
        self.inner.retain(key, until)
        _end(key, struck)

    def _begin(self, method: Method, key: str) -> tuple[Fault, ...]:
        """Count the call, raise or wait what comes before it, and give the faults that strike it."""
        with self._lock:
            self.calls.append((method, key))
            struck = []
            for number, fault in enumerate(self._faults):
                if fault.matches(method, key):
                    self._counts[number] += 1
                    if isinstance(fault, Die):
                        self._dead = self._dead or self._puts - self._earlier[number] >= fault.after_puts
                    elif fault.strikes(self._counts[number]):
                        struck.append(fault)
            if self._dead:
                raise Died(f"{method} {key}")
            self._puts += method == "put"
        for fault in struck:
            if isinstance(fault, Delay):
                time.sleep(fault.seconds)
            elif isinstance(fault, Fail) and not fault.after:
                raise fault.make(key)
        return tuple(struck)


def _changed(data: bytes, struck: tuple[Fault, ...]) -> bytes:
    for fault in struck:
        if isinstance(fault, Truncate):
            data = data[: fault.keep]
        elif isinstance(fault, FlipBit) and data:
            changed = bytearray(data)
            changed[fault.bit // 8 % len(data)] ^= 1 << fault.bit % 8
            data = bytes(changed)
    return data


def _end(key: str, struck: tuple[Fault, ...]) -> None:
    for fault in struck:
        if isinstance(fault, Fail) and fault.after:
            raise fault.make(key)
