"""A store with a virtual clock, and processes that do one request of it at a time, when they are told to.

Everything that happens between two requests happens at once, so that a run is decided by the order of requests, by the
passing of time, and by what is broken: nothing else. Threads are used to stop a process in the middle of a call; only
one of them ever runs.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from unittest.mock import patch

from penstock.api import ObjectInfo, ObjectLocked, ObjectMissing, SinkUnreachable
from penstock.api.errors import SessionLost
from penstock.format import times
from penstock.repository.pool import Workers
from penstock.repository.upkeep import leases, thinning
from penstock.repository.upkeep.leases import Lease
from penstock.testing import MemorySink

__all__ = ["BEGINNING", "Fault", "Killed", "Process", "SimulatedStore", "as_processes", "clock_of_process"]

#: Later than any host's clock.
BEGINNING = datetime(2100, 3, 1, 2, 0, tzinfo=UTC)
_WAIT = 60.0


class Killed(BaseException):
    """The process is gone."""


class Fault(Enum):
    """What becomes of a request."""

    NONE = "it is answered"
    KILLED_BEFORE = "the process is killed before it"
    KILLED_AFTER = "the process is killed when it was done"
    REFUSED = "the store cannot be reached"
    LOST = "it is done, and the answer is lost"


@dataclass(frozen=True, slots=True)
class _Change:
    when: datetime
    key: str
    info: ObjectInfo | None


@dataclass
class SimulatedStore:
    """Objects, and since when each is there: a listing may be as old as `late`."""

    now: datetime = BEGINNING
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)
    #: Until when nobody can delete an object.
    locks: dict[str, datetime] = field(default_factory=dict)
    #: How late the next listings are, and how far the clock that the next objects get is from `now`.
    late: timedelta = timedelta()
    skew: timedelta = timedelta()
    #: Called after each deletion, with its keys.
    on_deletion: Callable[[str], None] = lambda key: None

    def put(self, key: str, data: bytes) -> None:
        """Store it."""
        self.objects[key] = (data, self.now + self.skew)
        self.changes.append(_Change(self.now, key, self.info(key)))

    def delete(self, key: str) -> None:
        """Delete it. Raises `ObjectLocked`."""
        if key in self.objects and self.locks.get(key, self.now) > self.now:
            raise ObjectLocked.of({key: self.locks[key]})
        if self.objects.pop(key, None) is not None:
            self.changes.append(_Change(self.now, key, None))
            self.on_deletion(key)

    def info(self, key: str) -> ObjectInfo:
        """Raises `ObjectMissing`."""
        try:
            data, when = self.objects[key]
        except KeyError:
            raise ObjectMissing(key, "no such object") from None
        return ObjectInfo(key, len(data), when)

    def listing(self, prefix: str) -> list[ObjectInfo]:
        """As of some time ago."""
        until = self.now - self.late
        found = {key: self.info(key) for key in self.objects if key.startswith(prefix)}
        for change in reversed(self.changes):
            if change.when <= until:
                break
            if change.key.startswith(prefix):
                found.pop(change.key, None)
                if (before := self._before(change)) is not None:
                    found[change.key] = before
        return list(found.values())

    def _before(self, change: _Change) -> ObjectInfo | None:
        """Keys are put once and deleted once: what is deleted was there, what is put was not."""
        if change.info is not None:
            return None
        return next(one.info for one in self.changes if one.key == change.key and one.info is not None)


class _ProcessSink(MemorySink):
    """What one process sees of the store."""

    def __init__(self, process: "Process", store: SimulatedStore) -> None:
        super().__init__()
        self._process = process
        self._store = store

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        kept = bytes(data)
        with self._process.request(f"put {key}"):
            self._store.put(key, kept)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        with self._process.request(f"get {key}"):
            self._store.info(key)
            data = self._store.objects[key][0]
        return data[start:] if length is None else data[start : start + length]

    def stat(self, key: str) -> ObjectInfo:
        with self._process.request(f"stat {key}"):
            return self._store.info(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._process.request(f"list {prefix}"):
            found = self._store.listing(prefix)
        yield from found

    def delete(self, key: str) -> None:
        with self._process.request(f"delete {key}"):
            self._store.delete(key)


_local = threading.local()


class Process:
    """A host's clock, and one run at a time on it: `begin` starts it, and each `step` lets it do one request more."""

    def __init__(self, name: str, store: SimulatedStore, *, clock: timedelta = timedelta()) -> None:
        self.name = name
        self.sink = _ProcessSink(self, store)
        self._store = store
        self._skew = clock
        self._asleep = timedelta()
        self._fell_asleep: datetime | None = None
        self._thread: threading.Thread | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._fault = Fault.NONE
        self._dead = False
        self._driven = False
        self.lease: Lease | None = None
        #: What it waits to do.
        self.next = ""
        #: The outcome of the last run.
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return self._thread is not None

    def begin(self, run: Callable[[], Any]) -> None:
        """Start a run, up to its first request."""
        assert not self.busy
        self.result = self.error = self.lease = None
        self._dead = False

        def work() -> None:
            _local.process = self
            try:
                self.result = run()
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.error = error
            self.next = ""
            self._thread = None
            self._stopped.release()

        self._thread = threading.Thread(target=work, name=f"process {self.name}", daemon=True)
        self._thread.start()
        self._wait()

    def step(self, fault: Fault = Fault.NONE) -> None:
        """Let it do its request, and go on to the next one."""
        assert self.busy
        self._fault = fault
        self._go.release()
        self._wait()

    def finish(self) -> None:
        """Let it do all its requests."""
        while self.busy:
            self.step()

    def kill(self) -> None:
        """It is gone, before its next request."""
        self.step(Fault.KILLED_BEFORE)

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=_WAIT), f"{self.name} does not come to its next request"

    @contextmanager
    def request(self, what: str) -> Iterator[None]:
        """Wait for the turn, and see what becomes of the request."""
        if self._dead:
            raise Killed
        fault = Fault.NONE
        if not self._driven:
            self.next = what
            self._stopped.release()
            self._go.acquire()
            fault, self._fault = self._fault, Fault.NONE
        if fault is Fault.KILLED_BEFORE:
            self._dead = True
            raise Killed
        if fault is Fault.REFUSED:
            raise SinkUnreachable(what, "simulated: not reached")
        yield
        if fault is Fault.KILLED_AFTER:
            self._dead = True
            raise Killed
        if fault is Fault.LOST:
            raise SinkUnreachable(what, "simulated: the answer was lost")

    # Time

    def fall_asleep(self) -> None:
        """It does nothing, and its clock stands still, as if its machine were paused."""
        self._fell_asleep = self._fell_asleep or self._store.now

    def wake(self) -> None:
        """It goes on."""
        if self._fell_asleep is not None:
            self._asleep += self._store.now - self._fell_asleep
            self._fell_asleep = None

    @property
    def sleeps(self) -> bool:
        """Whether it does nothing."""
        return self._fell_asleep is not None

    def clock(self) -> datetime:
        """What time its host thinks it is."""
        return (self._fell_asleep or self._store.now) + self._skew - self._asleep

    def keep_alive(self) -> None:
        """What its lease's thread would do now, if it is its time."""
        lease = self.lease
        if not self.busy or self.sleeps or self._dead or lease is None or lease._lock.locked():
            return
        before = getattr(_local, "process", None)
        _local.process, self._driven = self, True
        try:
            if lease._clock() - lease._born >= leases._EVERY:
                lease.renew()
        except SessionLost:
            pass
        finally:
            _local.process, self._driven = before, False


def clock_of_process() -> datetime:
    """What time it is for the process whose turn it is."""
    process = getattr(_local, "process", None)
    return process.clock() if process is not None else BEGINNING


class _Datetime:
    """In the place of `datetime` where a host's time is asked for."""

    @staticmethod
    def now(_: object = None) -> datetime:
        return clock_of_process()


def _inline(self: Workers, call: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
    """As `Workers.submit`, but in this thread."""
    future: Future[Any] = Future()
    try:
        future.set_result(call(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
        future.set_exception(error)
    return future


def _enter(self: Lease) -> Lease:
    """As `Lease.__enter__`, but nobody renews it who is not told to."""
    self._clock = lambda: clock_of_process().timestamp()
    self._born = self._clock()
    self._written = self._time_of(self._domain.at.session_key(self._session))
    self.renew()
    _local.process.lease = self
    return self


def _exit(self: Lease, *_: object) -> None:
    _local.process.lease = None


@contextmanager
def as_processes() -> Iterator[None]:
    """In this block, runs do their work in the threads of their processes, and look at the clocks of these."""
    with (
        patch.object(Workers, "submit", _inline),
        patch.object(Lease, "__enter__", _enter),
        patch.object(Lease, "__exit__", _exit),
        patch.object(times, "datetime", _Datetime),
        # Histories are short: what many nights come to, these come to as well.
        patch.object(thinning, "_MANY", 4),
    ):
        yield
