"""A decorator around a store that makes single attempts: tries again until one deadline, and decides lost answers."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

from penstock.api.errors import DamagedObject, ObjectLocked, PenstockError, SinkDenied, SinkError, SinkUnreachable
from penstock.api.events import Report
from penstock.api.models import ObjectInfo
from penstock.api.object_store.ranges import ByteRange
from penstock.api.object_store.refusals import Refused
from penstock.api.object_store.store import DamagedTransfer, ObjectStore, RenewingStore
from penstock.api.retry import Deadline, retrying
from penstock.api.stopping import StopToken

__all__ = ["RetryingStore"]

T = TypeVar("T")
Store = TypeVar("Store", bound=ObjectStore)

_RANGE_NOT_SATISFIABLE = 416
#: A line that damages one object so often in a row would not have brought the others.
_TRANSFERS = 3
#: Bytes of an object that may be too many for a line.
_LARGE = 1024 * 1024
_SMALLER = (
    'If small objects get through and large ones break, set pack_size for the repository, such as "4MiB"; a longer '
    "deadline helps a slow line."
)


class RetryingStore(Generic[Store]):
    """Each call as attempts of `store`, all within `seconds`; waits end when `stop` does, and are said to `report`."""

    def __init__(self, store: Store, *, seconds: float, stop: StopToken, report: Report) -> None:
        self.store = store
        self._seconds = seconds
        self._stop = stop
        self._report = report

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
        """As `Sink.put`.

        An attempt that failed may have been carried out, and only its answer lost. What then refuses the next one, an
        object that exists or may not be replaced, may be this call's own: that is decided by what is there.
        """
        mark = uuid.uuid4().hex
        unsure = False

        def attempt(deadline: Deadline) -> None:
            nonlocal unsure
            tried_before, unsure = unsure, True
            try:
                self.store.put(key, data, deadline, if_absent=if_absent, mark=mark)
            except SinkError as error:
                if not tried_before or error.retryable or not self._is_own(key, data, deadline, mark):
                    raise

        try:
            self.call(attempt)
        except SinkUnreachable as error:
            if len(data) >= _LARGE and error.hint is None:
                error.hint = _SMALLER
            raise

    def get(self, key: str, wanted: ByteRange) -> bytes:
        """The bytes of that range; b"" when it is past the end.

        Raises `DamagedObject` when not even the third transfer has the bytes of the service's checksum: then it is not
        the line, and other objects can still be read.
        """
        if wanted.length == 0:
            self.stat(key)
            return b""
        damaged = 0

        def attempt(deadline: Deadline) -> bytes:
            nonlocal damaged
            try:
                return self.store.get(key, wanted, deadline)
            except DamagedTransfer as error:
                damaged += 1
                if damaged == _TRANSFERS:
                    raise DamagedObject(key, error.reason) from error
                raise
            except SinkError as error:
                refused = error.__cause__
                if isinstance(refused, Refused) and refused.status == _RANGE_NOT_SATISFIABLE and not wanted.is_whole:
                    return b""
                raise

        return self.call(attempt)

    def stat(self, key: str) -> ObjectInfo:
        """As `Sink.stat`."""
        return self.call(lambda deadline: self.store.stat(key, deadline))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `Sink.list`, page by page; it may give names that are not valid keys."""
        token: str | None = None
        while True:
            page = self.call(partial(self.store.list_page, prefix, token))
            yield from page.objects
            if page.following is None:
                return
            if page.following in {"", token}:
                raise SinkError(prefix, "the service returned a partial listing without a new continuation token")
            token = page.following

    def delete(self, keys: Sequence[str]) -> None:
        """Free any number of objects, in the batches that the service takes; raises one `ObjectLocked` for all."""
        locked: dict[str, datetime | None] = {}
        last = None
        for first in range(0, len(keys), self.store.batch):
            batch = keys[first : first + self.store.batch]
            try:
                self.call(partial(self.store.delete, batch))
            except ObjectLocked as error:
                locked |= error.locked
                last = error
        if last is not None:
            raise last if last.locked == locked else ObjectLocked.of(locked) from last

    def retain(self, key: str, until: datetime) -> None:
        """As `Sink.retain`."""
        self.call(lambda deadline: self.store.retain(key, until, deadline))

    def look(self) -> None:
        """Prove the credentials and the place."""
        self.call(self.store.look)

    def close(self) -> None:
        """Let connections go."""
        self.store.close()

    def call(self, attempt: Callable[[Deadline], T]) -> T:
        """What `attempt` gives, with a deadline for this call; it may be called several times.

        After a refusal it is called once more if the store has other credentials now: see `RenewingStore`.
        """
        deadline = Deadline(self._seconds)

        def renewing() -> T:
            store: object = self.store
            if not isinstance(store, RenewingStore):
                return attempt(deadline)
            generation = store.generation
            try:
                return attempt(deadline)
            except SinkDenied as error:
                if not store.renew(generation):
                    raise
                self._report.retry(f"{error}: trying again with the credentials as they are now")
            return attempt(deadline)

        return retrying(renewing, deadline=deadline, asked=_asked, stop=self._stop, report=self._report)

    def _is_own(self, key: str, data: bytes | bytearray | memoryview, deadline: Deadline, mark: str) -> bool:
        try:
            return self.store.is_own(key, data, deadline, mark=mark)
        except SinkError as error:
            if error.retryable:
                raise  # nothing is decided yet
            return False


def _asked(error: PenstockError) -> float | None:
    """The seconds that the service asked to wait."""
    return error.__cause__.wait if isinstance(error.__cause__, Refused) else None
