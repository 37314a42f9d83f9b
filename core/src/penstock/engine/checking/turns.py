"""Whose turn it is: which packs a check reads, so that a run every day reads all of them within some weeks."""

import random
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from penstock.engine.checking.ledger import Ledger
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.read.listing import pages, sizes_in
from penstock.repository.temporary import TemporaryTables

__all__ = ["Turns"]

#: What a host that has never read a part reads of the whole: as much as if it did so every day.
_DAY = 86400.0


class Turns:
    """The packs of a domain whose turn it is, as a context manager; what was read by then is noted in any case.

    A run reads as large a part of all bytes as the time since the last one is of `within`, and what else would be read
    later than that by the next; the packs that were read the longest ago first. A host counts from when it first saw a
    pack. One that forgets what it read reads other packs each time, as chance will have it.
    """

    def __init__(self, domain: Domain, cache: Cache, ledger: Ledger, within: timedelta) -> None:
        self._domain = domain
        self._cache = cache
        self._ledger = ledger
        self._within = within.total_seconds()
        self._now = time.time()
        self._tables = TemporaryTables(
            "CREATE TABLE there (pack BLOB PRIMARY KEY, size INTEGER NOT NULL, due INTEGER NOT NULL) WITHOUT ROWID"
        )
        #: How many bytes of packs it is the turn of.
        self.size = 0

    def __enter__(self) -> Self:
        there = 0
        for page in pages(self._ledger.under(self._domain.at.packs)):
            packs = list(sizes_in(page))
            self._tables.change_all("INSERT OR IGNORE INTO there VALUES (?, ?, 0)", packs)
            # In no order: a host without a memory begins with others each time. And before what is read now.
            self._cache.await_packs((pack, self._now - random.random()) for pack, _ in packs)
            there += sum(size for _, size in packs)
        last = self._cache.last_reading()
        passed = _DAY if last is None else self._now - last
        # A clock that was set back, or a day that was missed, changes how much is read, but never all or nothing.
        passed = min(max(passed, 0.0), self._within)
        self._choose(there * passed / self._within, self._now + passed - self._within)
        return self

    def _choose(self, most: float, too_old: float) -> None:
        gone = []
        for pack, at in self._cache.readings():
            rows = self._tables.rows("SELECT size FROM there WHERE pack = ?", (pack,))
            if not rows:
                gone.append(pack)
            elif self.size < most or at < too_old:
                self._tables.change("UPDATE there SET due = 1 WHERE pack = ?", (pack,))
                self.size += rows[0][0]
        self._cache.forget_readings(gone)

    def __contains__(self, pack: bytes) -> bool:
        return bool(self._tables.rows("SELECT 1 FROM there WHERE pack = ? AND due = 1", (pack,)))

    def read(self, key: str) -> None:
        """The pack was read, and what is wrong with it was told."""
        self._cache.read_packs([(layout.id_of(key), self._now)])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._cache.end_reading(self._now)
        self._tables.close()
