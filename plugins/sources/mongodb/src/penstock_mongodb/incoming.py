"""An archive on its way from the repository to mongorestore."""

from collections.abc import Callable, Iterable, Iterator

from penstock_mongodb.indexes import Indexes, users_changed
from penstock_mongodb.making import Made
from penstock_mongodb.reading import ArchiveReader, Described, without_options

__all__ = ["IncomingArchive"]

#: Of a prelude that is held in memory (bytes): it has a kilobyte or two for each collection.
_MAX_PRELUDE = 512 * 1024 * 1024


class IncomingArchive:
    """Its prelude is held back until collections are made; the rest is looked at in passing."""

    def __init__(self, blocks: Iterable[memoryview], *, replayed: bool, on_users: Callable[[str], None]) -> None:
        """Take the first blocks, up to the end of the prelude.

        Where the oplog is `replayed`, indexes follow it, and `on_users` gets `system.users` or `system.roles` before
        mongorestore gets the first entry that changes one.
        """
        self.described: list[Described] = []
        self.indexes = Indexes()
        self._replayed = replayed
        self._on_users = on_users
        self._told: set[str] = set()
        self._reader = ArchiveReader(self._on_collection, self._on_entry)
        self._rest = iter(blocks)
        self._first = bytearray()
        for block in self._rest:
            self._reader.feed(block)
            self._first += block
            if self._reader.prelude_read or not self._reader.understood or len(self._first) > _MAX_PRELUDE:
                break

    @property
    def understood(self) -> bool:
        """Whether nothing of it was beyond us so far."""
        return self._reader.understood

    def blocks(self, made: Made) -> Iterator[memoryview]:
        """What mongorestore gets; asked for once."""
        first, self._first = bytes(self._first), bytearray()
        yield memoryview(without_options(first, made.without) if made.without else first)
        for block in self._rest:
            self._reader.feed(block)
            yield block

    def _on_collection(self, one: Described) -> None:
        self.described.append(one)
        self.indexes.describe(one)

    def _on_entry(self, entry: bytes) -> None:
        if not self._replayed:
            return
        self.indexes.apply(entry)
        name = users_changed(entry)
        if name is not None and name not in self._told:
            self._on_users(name)
            self._told.add(name)
