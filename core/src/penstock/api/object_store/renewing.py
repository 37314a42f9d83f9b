"""Credentials that are kept elsewhere, such as in a file that a rotation replaces, and what a store makes of them."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from penstock.api.errors import PenstockError

__all__ = ["KeptCredentials"]

Kept = TypeVar("Kept")
Made = TypeVar("Made")


class KeptCredentials(Generic[Kept, Made]):
    """What a store makes of its credentials (a client), on first use, and again when they were replaced.

    `read` gives them as they are kept now; `identity` is what tells them from others, and None where they are nothing
    that could be read again, because an SDK finds and renews them by itself. `unreadable` are further errors than
    `PenstockError` that `read` may raise. `generation` and `renew` are those of a `RenewingStore`. Thread-safe.
    """

    def __init__(
        self,
        read: Callable[[], Kept],
        *,
        identity: Callable[[Kept], object | None],
        unreadable: tuple[type[Exception], ...] = (),
    ) -> None:
        self._read = read
        self._identity = identity
        self._unreadable: tuple[type[Exception], ...] = (PenstockError, *unreadable)
        self._lock = threading.Lock()
        self._used: object | None = None
        #: What was made, if anything was and the credentials are still those; takes no lock, unlike `use`.
        self.made: Made | None = None
        #: How often others were found.
        self.generation = 0

    def use(self, make: Callable[[Kept], Made]) -> Made:
        """What `make` made of the credentials, by one thread; raises what it and `read` raise."""
        with self._lock:
            if self.made is None:
                kept = self._read()
                self.made = make(kept)
                self._used = self._identity(kept)
            return self.made

    def renew(self, generation: int) -> bool:
        """Whether others than those of `generation` are kept now: the next `use` makes something of them.

        What was made of the former ones is not closed: other threads may be in the middle of a request.
        """
        with self._lock:
            if self.generation == generation and self._used is not None:
                # What cannot be read at the moment is no reason for another error than the refusal.
                with suppress(*self._unreadable):
                    found = self._identity(self._read())
                    if found is not None and found != self._used:
                        self.made = self._used = None
                        self.generation += 1
            return self.generation != generation
