"""Leases: how a session shows that it lives, so that no prune deletes what it relies on.

What decides is the store's time of each lease: this host's clock may be wrong, and stands still while the host is
suspended. It only says when to put the next one.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from penstock.api.errors import ObjectMissing, PenstockError, SessionLost
from penstock.format.documents import encode_document
from penstock.format.session import LeaseDocument
from penstock.repository.domain import Domain

__all__ = ["LIFE", "Lease"]

#: How long a session lives after the store wrote its newest lease.
LIFE = timedelta(hours=1)
_LIFE = LIFE.total_seconds()
#: A snapshot is committed only under a lease younger than this; the other half is for the commit.
_FRESH = _LIFE / 2
_EVERY = _LIFE / 6
#: After a renewal that failed (seconds).
_AGAIN = 30.0


def _clock() -> float:
    """Seconds, counted while the host sleeps too, where the system can."""
    with suppress(AttributeError, OSError):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """The lease of one session, renewed by a thread of its own. Use it as a context manager; entering puts the first.

    Make it before the session's object is put, and enter it after: the session begins with that, and has lost itself
    already if the first lease comes an hour later. The age of a lease by this host's clock counts from before its PUT
    began: the store wrote it later, so it lives longer than is counted here.
    """

    def __init__(
        self,
        domain: Domain,
        session: bytes,
        *,
        if_absent: bool,
        clock: Callable[[], float] = _clock,
    ) -> None:
        self._domain = domain
        self._session = session
        self._if_absent = if_absent
        self._clock = clock
        self._number = 0
        self._born = clock()
        self._written: datetime | None = None
        self._lost = False
        #: Bytes of all that were put.
        self.stored = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="penstock-lease", daemon=True)

    def __enter__(self) -> Self:
        self._written = self._time_of(self._domain.at.session_key(self._session))
        self.renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        # A PUT may hang; the thread ends with it, or with the process.
        if self._lock.acquire(blocking=False):
            self._lock.release()
            self._thread.join()

    def renew(self) -> None:
        """Put the next one. Raises `SessionLost` if the one before may have run out first, and what the sink raises."""
        with self._lock:
            begun = self._clock()
            # A number that was tried is not used again: its PUT may have arrived.
            self._number += 1
            lease = LeaseDocument(self._session, self._number)
            key = self._domain.at.lease_key(self._session, self._number)
            data = encode_document(key, lease.to_json(), self._domain.access.signing)
            self._domain.sink.put(key, data, if_absent=self._if_absent)
            self.stored += len(data)
            written = self._time_of(key)
            self._lost = self._lost or self._clock() - self._born >= _LIFE or self._too_late(written)
            self._born, self._written = begun, written
            self._refuse_if_lost()

    def require_fresh(self) -> None:
        """Before a commit: raises `SessionLost` unless the session has lived without a break, and will for a while."""
        with self._lock:
            self._refuse_if_lost()
            fresh = self._clock() - self._born < _FRESH
        if not fresh:
            self.renew()

    def require_covered(self, key: str) -> None:
        """After a commit: raises `SessionLost` unless the store wrote the object while the session lived."""
        written = self._domain.sink.stat(key).modified
        with self._lock:
            self._lost = self._lost or self._too_late(written)
            self._refuse_if_lost()

    def _time_of(self, key: str) -> datetime | None:
        """When the store wrote what was just put; if that is gone already, a prune has taken this session for dead."""
        try:
            return self._domain.sink.stat(key).modified
        except ObjectMissing:
            self._lost = True
            return None

    def _too_late(self, written: datetime | None) -> bool:
        """Whether the newest lease had run out at that time of the store's, as far as it tells times."""
        return written is not None and self._written is not None and written - self._written >= LIFE

    def _refuse_if_lost(self) -> None:
        if self._lost or self._clock() - self._born >= _LIFE:
            self._lost = True
            raise SessionLost(
                "for an hour this run gave the store no sign of life: what it relies on may have been deleted",
                hint="Run it again. Nothing is lost: what it uploaded is used.",
            )

    def _keep_alive(self) -> None:
        wait = _EVERY
        while not self._ended.wait(wait):
            try:
                self.renew()
                wait = _EVERY
            except SessionLost:
                return
            except PenstockError:
                wait = _AGAIN  # a commit would say so
