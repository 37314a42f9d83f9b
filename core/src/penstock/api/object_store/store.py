"""What a service must be asked for, one attempt at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from penstock.api.errors import SinkUnreachable
from penstock.api.models import ObjectInfo
from penstock.api.object_store.ranges import ByteRange
from penstock.api.retry import Deadline

__all__ = ["DamagedTransfer", "ObjectStore", "Page", "RenewingStore"]


class DamagedTransfer(SinkUnreachable):
    """The bytes of a whole object are not those of the checksum that the service keeps: from the line, or as kept."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing. `following` asks for the next part; None when this is the last."""

    objects: Sequence[ObjectInfo]
    following: str | None


class ObjectStore(Protocol):
    """Single attempts: a request or two each, none of which waits past `deadline`.

    Keys and ranges are valid. Errors are `SinkError`s that carry the key (`list_page`: the prefix); the retryable ones
    (`SinkUnreachable`) are what an attempt may be repeated after. An error that the service answered with has the
    `Refused` as its cause. Methods are called from several threads at once, `close` meanwhile too.
    """

    #: How many keys `delete` takes at once.
    batch: int

    def put(
        self, key: str, data: bytes | bytearray | memoryview, deadline: Deadline, *, if_absent: bool, mark: str
    ) -> None:
        """As `Sink.put`, with a checksum that the service compares. `mark` names the call: it is kept with the object.

        `data` is not held when it returns or raises.
        """

    def is_own(self, key: str, data: bytes | bytearray | memoryview, deadline: Deadline, *, mark: str) -> bool:
        """Whether the object is what the call of this `mark` put there: by the mark, or by comparing the bytes."""

    def get(self, key: str, wanted: ByteRange, deadline: Deadline) -> bytes:
        """The bytes of that range: all of them, or an error. A range past the end may be a `Refused` of status 416.

        Raises `DamagedTransfer` where the service tells a checksum of just these bytes, and theirs is another.
        """

    def stat(self, key: str, deadline: Deadline) -> ObjectInfo:
        """As `Sink.stat`."""

    def list_page(self, prefix: str, token: str | None, deadline: Deadline) -> Page:
        """The page that `token` asks for, or the first one. It may hold names that are not valid keys."""

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        """Free 1 to `batch` objects, as `Sink.delete` says; a missing one is fine.

        Raises one `ObjectLocked` for all that are locked, when the others are gone.
        """

    def retain(self, key: str, until: datetime, deadline: Deadline) -> None:
        """As `Sink.retain`; only called for a sink that locks."""

    def look(self, deadline: Deadline) -> None:
        """One cheap request that proves the credentials and the place."""

    def close(self) -> None:
        """As `Sink.close`."""


@runtime_checkable
class RenewingStore(Protocol):
    """What a store has beside, whose credentials may be replaced during a run where they are kept, such as in a file.

    A call that was refused is made once more where `renew` finds other credentials. Both are used by several threads.
    """

    @property
    def generation(self) -> int:
        """How often `renew` found other credentials so far."""

    def renew(self, generation: int) -> bool:
        """Read the credentials again; whether others than those of `generation` are in use now. Raises nothing."""
