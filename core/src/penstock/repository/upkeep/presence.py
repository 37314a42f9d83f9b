"""The presence of a prune: it keeps others from running beside it, and reads the store's clock."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from penstock.api.errors import Interrupted, ObjectMissing, PenstockError, SinkError
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.session import LeaseDocument
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.repository import put_new
from penstock.repository.upkeep.living import PRUNE_LIFE

__all__ = ["Presence"]

#: Seconds between two signs of life.
_EVERY = PRUNE_LIFE.total_seconds() / 4


def _now() -> datetime:
    return datetime.now(UTC)


class Presence:
    """As a context manager: entering puts the first lease, leaving deletes all. Nothing depends on it but good manners.

    With `silent`, which puts nothing, the time is this host's, or that of the newest session, if that is later.
    """

    def __init__(self, domain: Domain, workers: Workers, *, silent: bool = False) -> None:
        self._domain = domain
        self._workers = workers
        self._silent = silent
        self._keys: list[str] = []
        self._put_at = 0.0
        self._now = _now()
        #: Of its leases.
        self.id = new_id()

    def __enter__(self) -> Self:
        self.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Whoever is interrupted, or has lost the store, leaves them: a later prune deletes them.
        if kind is None or (issubclass(kind, PenstockError) and not issubclass(kind, (SinkError, Interrupted))):
            with suppress(SinkError):
                self._workers.call(self._domain.sink.delete_many, self._keys)

    def now(self) -> datetime:
        """The store's time, at the beginning of this call or a little later."""
        if self._silent:
            sessions = listed(self._workers, self._domain.sink, self._domain.at.sessions)
            self._now = max((info.modified for info in sessions if info.modified is not None), default=self._now)
            self._now = max(self._now, _now())
        else:
            self._workers.call(self._put)
        return self._now

    @property
    def at(self) -> datetime:
        """The store's time at the last sign of life."""
        return self._now

    def go_on(self) -> None:
        """Give the next sign of life if it is time to."""
        if not self._silent and time.monotonic() - self._put_at >= _EVERY:
            self.now()

    def _put(self) -> None:
        domain, number = self._domain, len(self._keys) + 1
        key = domain.at.lease_key(self.id, number)
        self._keys.append(key)
        put_new(domain.sink, key, encode_document(key, LeaseDocument(self.id, number).to_json(), domain.access.signing))
        self._put_at = time.monotonic()
        try:
            self._now = domain.sink.stat(key).modified or _now()
        except ObjectMissing:
            # It slept for so long that another prune has cleaned up behind it.
            self._put()
