"""Leases: how a session shows that it lives, so that no prune deletes what it relies on."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from penstock.api.errors import PenstockError, SessionLost
from penstock.format.documents import encode_document
from penstock.format.session import LeaseDocument
from penstock.repository.domain import Domain

__all__ = ["LIFE", "Lease"]

#: How long a session lives after the store wrote its newest lease.
LIFE = timedelta(hours=1)
_LIFE = LIFE.total_seconds()
#: A snapshot is committed only under a lease younger than this; the other half is for the commit, and for clocks that
#: do not run alike.
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
    """The lease of one session, renewed by a thread of its own. Use it as a context manager.

    Entering puts the first one. Its age counts from before its PUT began, by this host's clock: the store wrote it
    later, so it lives longer than is counted here.
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
        self._born = 0.0
        self._lost = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="penstock-lease", daemon=True)

    def __enter__(self) -> Self:
        self._born = self._clock()
        self.renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A PUT may hang; the thread ends with it, or with the process.
        self._ended.set()

    def renew(self) -> None:
        """Put the next one. Raises `SessionLost` if the one before may have run out first, and what the sink raises."""
        with self._lock:
            begun = self._clock()
            number = self._number + 1
            lease = LeaseDocument(self._session, number)
            key = self._domain.at.lease_key(self._session, number)
            # A number that was tried is not used again: its PUT may have arrived.
            self._number = number
            data = encode_document(key, lease.to_json(), self._domain.access.signing)
            self._domain.sink.put(key, data, if_absent=self._if_absent)
            if self._clock() - self._born >= _LIFE:
                self._lost = True
            self._born = begun
            self._refuse_if_lost()

    def require_fresh(self) -> None:
        """Before a commit: raises `SessionLost` unless the session has lived without a break, and will for a while."""
        with self._lock:
            self._refuse_if_lost()
            fresh = self._clock() - self._born < _FRESH
        if not fresh:
            self.renew()

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
