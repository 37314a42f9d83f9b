"""A sink in memory, for tests."""

import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from pydantic import Field

from penstock.api import (
    Capability,
    ObjectExists,
    ObjectInfo,
    ObjectLocked,
    ObjectMissing,
    PluginSettings,
    Sink,
    SinkError,
    validate_key,
    validate_prefix,
)

__all__ = ["MemorySettings", "MemorySink"]


class MemorySettings(PluginSettings):
    """How it behaves."""

    object_lock_days: int | None = Field(
        default=None, ge=1, le=36500, description="keep every object from change so long"
    )


class MemorySink(Sink):
    """Keeps every promise of the contract, in the memory of this process.

    It lists in an order that nobody can come to rely on. `close` forgets nothing: the next user of the same instance
    finds what was put. Its time, by which locks go, is what `clock` gives.
    """

    name = "memory"
    Settings: ClassVar[type[PluginSettings]] = MemorySettings
    possible_capabilities = frozenset({Capability.CONDITIONAL_PUT, Capability.OBJECT_LOCK})

    def __init__(self, settings: PluginSettings | None = None, *, clock: Callable[[], datetime] | None = None) -> None:
        super().__init__(settings or MemorySettings())
        self._clock = clock or _now
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._locks: dict[str, datetime] = {}
        self._held: set[str] = set()
        self._retention: timedelta | None = None
        if isinstance(self.settings, MemorySettings) and self.settings.object_lock_days is not None:
            self._retention = timedelta(days=self.settings.object_lock_days)

    def capabilities(self) -> frozenset[Capability]:
        """Locks only where the setting asks for them."""
        return self.possible_capabilities - (frozenset() if self._retention else {Capability.OBJECT_LOCK})

    @property
    def retention(self) -> timedelta | None:
        """`object_lock_days`."""
        return self._retention

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store a copy of `data`."""
        validate_key(key)
        now = self._clock()
        kept = (bytes(data), now)
        with self._lock:
            if if_absent and key in self._objects:
                raise ObjectExists(key, "the object exists already")
            self._refuse_locked(key, now)
            self._objects[key] = kept
            if self._retention is not None:
                self._locks[key] = now + self._retention

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The bytes, or a range of them."""
        validate_key(key)
        if start < 0 or (length is not None and length < 0):
            raise SinkError(key, "a range of bytes cannot be negative")
        data, _ = self._kept(key)
        return data[start:] if length is None else data[start : start + length]

    def stat(self, key: str) -> ObjectInfo:
        """Size and time."""
        validate_key(key)
        data, when = self._kept(key)
        return ObjectInfo(key, len(data), when)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects as of the first step of the iteration."""
        validate_prefix(prefix)
        with self._lock:
            found = [ObjectInfo(key, len(data), when) for key, (data, when) in self._objects.items()]
        yield from sorted(
            (info for info in found if info.key.startswith(prefix)), key=lambda info: zlib.crc32(info.key.encode())
        )

    def delete(self, key: str) -> None:
        """Forget the object, unless it is locked or held."""
        validate_key(key)
        now = self._clock()
        with self._lock:
            self._refuse_locked(key, now)
            self._objects.pop(key, None)
            self._locks.pop(key, None)

    def retain(self, key: str, until: datetime) -> None:
        """Lengthen the lock."""
        validate_key(key)
        if self._retention is None:
            super().retain(key, until)
        self._kept(key)
        with self._lock:
            self._locks[key] = max(until, self._locks.get(key, until))

    def locks(self) -> dict[str, datetime]:
        """Until when each object is locked, as a copy."""
        with self._lock:
            return dict(self._locks)

    def hold(self, key: str) -> None:
        """Keep the object until `release`, as a legal hold does."""
        self._kept(key)
        with self._lock:
            self._held.add(key)

    def release(self, key: str) -> None:
        """End the hold."""
        with self._lock:
            self._held.discard(key)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def contents(self) -> dict[str, bytes]:
        """All objects, as a copy: for a test to look at, or to compare with later."""
        with self._lock:
            return {key: data for key, (data, _) in self._objects.items()}

    def _refuse_locked(self, key: str, now: datetime) -> None:
        if key in self._held:
            raise ObjectLocked.of({key: None})
        if key in self._objects and (until := self._locks.get(key, now)) > now:
            raise ObjectLocked.of({key: until})

    def _kept(self, key: str) -> tuple[bytes, datetime]:
        with self._lock:
            try:
                return self._objects[key]
            except KeyError:
                raise ObjectMissing(key, "no such object") from None


def _now() -> datetime:
    return datetime.now(UTC)
