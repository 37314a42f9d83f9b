"""A sink as it would be after a repair: what is taken from a replica is read there, and nothing is written."""

from collections.abc import Iterator

from penstock.api.models import ObjectInfo
from penstock.api.sink import Sink
from penstock.repository.temporary import TemporaryTables

__all__ = ["PretendedSink"]

_SCHEMA = "CREATE TABLE taken (key TEXT PRIMARY KEY, source INTEGER NOT NULL) WITHOUT ROWID"
_PAGE = 1000


class PretendedSink(Sink):
    """Reads from `inner`, but what was taken from the sink where it was taken from. Keeps nothing that is put.

    For any number of threads. Closing it closes no other sink.
    """

    name = "pretended"

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner.settings)
        self.stop = inner.stop
        self._inner = inner
        self._sources: list[Sink] = []
        self._tables = TemporaryTables(_SCHEMA)

    def take(self, key: str, source: Sink) -> None:
        """From now on, what is under the key is what `source` has there."""
        if source not in self._sources:
            self._sources.append(source)
        self._tables.change("INSERT OR REPLACE INTO taken VALUES (?, ?)", (key, self._sources.index(source)))

    def _holder(self, key: str) -> Sink:
        rows = self._tables.rows("SELECT source FROM taken WHERE key = ?", (key,))
        return self._sources[rows[0][0]] if rows else self._inner

    @property
    def location(self) -> str:
        """Where `inner` is."""
        return self._inner.location

    @property
    def connections(self) -> int:
        """As many as `inner` wants."""
        return self._inner.connections

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Do nothing."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read, wherever it is."""
        return self._holder(key).get(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        """Look, wherever it is."""
        return self._holder(key).stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List what `inner` has, and what was taken."""
        for info in self._inner.list(prefix):
            if self._holder(info.key) is self._inner:
                yield info
        last = ""
        query = "SELECT key FROM taken WHERE key >= ? AND key > ? AND key < ? ORDER BY key LIMIT ?"
        while page := self._tables.rows(query, (prefix, last, prefix + "\x7f", _PAGE)):
            for (last,) in page:
                yield self.stat(last)

    def delete(self, key: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Give the temporary file back."""
        self._tables.close()
