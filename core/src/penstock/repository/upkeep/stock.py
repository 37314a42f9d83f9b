"""What an original and its replica have, by listings: in a temporary file, however long these are."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from penstock.api.models import ObjectInfo
from penstock.api.sink import Sink
from penstock.format.times import as_text
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed, pages
from penstock.repository.temporary import TemporaryTables

__all__ = ["Stock"]

_SCHEMA = """
CREATE TABLE source (key TEXT PRIMARY KEY, size INTEGER NOT NULL, modified TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE target (key TEXT PRIMARY KEY, size INTEGER NOT NULL, modified TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE new (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_PAGE = 500


class Stock:
    """The objects of one domain in both places. For any number of threads."""

    def __init__(self) -> None:
        self._tables = TemporaryTables(_SCHEMA)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    @classmethod
    def of(cls, domain: Domain, target: Sink, workers: Workers) -> "Stock":
        """What a domain and its copy in another sink have. To be closed."""
        stock, at = cls(), domain.at
        # The replica first: what another run copies there meanwhile is in the listing of the original then.
        stock.add_target(listed(workers, target, at.prefix))
        # Heads before what they need.
        for prefix in (at.snapshots, at.sessions, at.packs, at.index):
            stock.add_source(listed(workers, domain.sink, prefix))
        return stock

    def add_source(self, infos: Iterable[ObjectInfo]) -> None:
        """These are in the original."""
        self._add("source", infos)

    def add_target(self, infos: Iterable[ObjectInfo]) -> None:
        """These are in the replica."""
        self._add("target", infos)

    def put(self, key: str, size: int) -> None:
        """This is in the replica from now on."""
        self._tables.change("INSERT OR REPLACE INTO target VALUES (?, ?, '')", (key, size))
        self._tables.change("INSERT OR IGNORE INTO new VALUES (?)", (key,))

    def is_new(self, key: str) -> bool:
        """Whether it was put since the listings."""
        return bool(self._tables.rows("SELECT 1 FROM new WHERE key = ?", (key,)))

    def source_size(self, key: str) -> int | None:
        """How large it is in the original, in bytes; None if it was not listed."""
        return self._size("source", key)

    def target_size(self, key: str) -> int | None:
        """How large it is in the replica, in bytes; None if it is not there."""
        return self._size("target", key)

    def lacks(self, key: str, size: int | None = None) -> bool:
        """Whether the replica needs it: it has none of this size, or of that in the original."""
        there = self.target_size(key)
        expected = self.source_size(key) if size is None else size
        return there is None or (expected is not None and there != expected)

    def source(self, prefix: str) -> Iterator[ObjectInfo]:
        """Those of the original under a prefix."""
        return self._each("SELECT * FROM source WHERE key > ? AND key < ? ORDER BY key", prefix)

    def unknown(self, prefix: str) -> Iterator[ObjectInfo]:
        """Those under a prefix that the replica alone has."""
        query = "SELECT * FROM target WHERE key > ? AND key < ? AND key NOT IN (SELECT key FROM source) ORDER BY key"
        return self._each(query, prefix)

    def missing_bytes(self, prefix: str) -> int:
        """The sizes of all under a prefix that the original alone has."""
        query = (
            "SELECT COALESCE(SUM(size), 0) FROM source WHERE key > ? AND key < ?"
            " AND key NOT IN (SELECT key FROM target)"
        )
        ((total,),) = self._tables.rows(query, (prefix, _end(prefix)))
        return int(total)

    def _add(self, table: str, infos: Iterable[ObjectInfo]) -> None:
        for page in pages(infos):
            rows = [(info.key, info.size, as_text(info.modified) if info.modified else "") for info in page]
            self._tables.change_all(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608

    def _size(self, table: str, key: str) -> int | None:
        rows = self._tables.rows(f"SELECT size FROM {table} WHERE key = ?", (key,))  # noqa: S608
        return int(rows[0][0]) if rows else None

    def _each(self, query: str, prefix: str) -> Iterator[ObjectInfo]:
        last = prefix
        while page := self._tables.rows(f"{query} LIMIT {_PAGE}", (last, _end(prefix))):
            for last, size, modified in page:
                yield ObjectInfo(last, size, datetime.fromisoformat(modified) if modified else None)


def _end(prefix: str) -> str:
    """What sorts behind all keys with this prefix, which ends in `/`."""
    return prefix[:-1] + "0"
