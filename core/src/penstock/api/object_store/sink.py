"""The contract's `Sink` over a store, which is made on first use."""

import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import ClassVar, Generic, TypeVar

from penstock.api.errors import SinkError
from penstock.api.models import ObjectInfo
from penstock.api.object_store.ranges import ByteRange
from penstock.api.object_store.retrying import RetryingStore
from penstock.api.object_store.settings import ConnectionSettings
from penstock.api.object_store.store import ObjectStore
from penstock.api.plugin import Capability, PluginSettings
from penstock.api.sink import Sink, validate_key, validate_prefix

__all__ = ["ObjectStoreSink"]

Store = TypeVar("Store", bound=ObjectStore)


class ObjectStoreSink(Sink, Generic[Store]):
    """A sink whose requests an `ObjectStore` makes, tried again by a `RetryingStore`.

    The store is made on first use, so that no SDK is imported before, and serves all threads. Objects in the bucket
    whose names are not valid keys are passed over.
    """

    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.CONDITIONAL_PUT, Capability.OBJECT_LOCK}
    )

    settings: ConnectionSettings

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._made: RetryingStore[Store] | None = None

    @abstractmethod
    def connect(self) -> Store:
        """Make the store; called once, on first use. It connects to nothing yet, since `close` may wait for it."""

    def capabilities(self) -> frozenset[Capability]:
        """All of the possible ones but a lock that the settings do not ask for."""
        possible = self.possible_capabilities
        return possible if self.retention is not None else possible - {Capability.OBJECT_LOCK}

    @property
    def location(self) -> str:
        """Where the objects are."""
        return self.settings.location

    @property
    def connections(self) -> int:
        """The setting `connections`."""
        return self.settings.connections

    @property
    def retention(self) -> timedelta | None:
        """`object_lock_days`."""
        return self.settings.retention

    def preflight(self) -> None:
        """One request that proves the credentials and the place, and whatever asking for the capabilities takes."""
        self.store.look()
        self.capabilities()

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """One request, with a checksum that the service compares; it answers when the object is durable."""
        validate_key(key)
        self.store.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or a range of them; an answer that breaks off is asked for again."""
        validate_key(key)
        if start < 0 or (length is not None and length < 0):
            raise SinkError(key, "a range of bytes cannot be negative")
        return self.store.get(key, ByteRange(start, length))

    def stat(self, key: str) -> ObjectInfo:
        """The object's size and the time when it was written."""
        validate_key(key)
        return self.store.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects with that prefix, page by page."""
        validate_prefix(prefix)
        return (info for info in self.store.list(prefix) if _is_valid(info.key))

    def delete(self, key: str) -> None:
        """Free the object, with its versions; a lock goes on holding it, which `ObjectLocked` says."""
        self.delete_many([key])

    def delete_many(self, keys: Iterable[str]) -> None:
        """Free all of these objects but the locked ones, in the batches that the service takes."""
        keys = list(keys)
        for key in keys:
            validate_key(key)
        self.store.delete(keys)

    def retain(self, key: str, until: datetime) -> None:
        """Lengthen the object's lock, where the settings ask for locks; a longer one is never shortened."""
        validate_key(key)
        if self.retention is None:
            hint = "Set object_lock and object_lock_days."
            possible = Capability.OBJECT_LOCK in self.possible_capabilities
            raise SinkError(key, "this sink locks no objects", hint=hint if possible else None)
        self.store.retain(key, until)

    def close(self) -> None:
        """Close all connections that no request uses; one that hangs closes its own when it ends."""
        with self._lock:
            made = self._made
        if made is not None:
            made.close()

    @property
    def store(self) -> RetryingStore[Store]:
        """The store, made when it is first asked for."""
        with self._lock:
            if self._made is None:
                self._made = RetryingStore(
                    self.connect(), seconds=self.settings.deadline, stop=self.stop, report=self.report
                )
            return self._made


def _is_valid(key: str) -> bool:
    try:
        validate_key(key)
    except SinkError:
        return False
    return True
