"""Where the segments that snapshots need are at home: of several packs that hold one, the newest that can be relied on.

A pack that is nobody's home can go. Compaction moves segments: it puts copies into a newer pack, and the old one is the
home of none of them from then on. Whoever knows fewer of the copies, since a listing is late, takes an older one for
the home, and keeps more: the newest of all goes in nobody's eyes.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.copies import carried
from penstock.repository.read.ends import PLACES_TAIL, TAIL, PackEnd, read_end
from penstock.repository.temporary import TemporaryTables
from penstock.repository.upkeep.usage import NeededSegments, Usage

__all__ = ["Homes", "Lodging"]

_SCHEMA = """
CREATE TABLE copies (origin BLOB, pin BLOB, pack BLOB, rank TEXT NOT NULL, bits BLOB NOT NULL,
    PRIMARY KEY (origin, pin, pack)) WITHOUT ROWID;
CREATE INDEX copies_in_pack ON copies (pack);
CREATE TABLE carriers (pack BLOB PRIMARY KEY, segments INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE there (pack BLOB PRIMARY KEY, size INTEGER NOT NULL, modified TEXT) WITHOUT ROWID;
"""
_PAGE = 1000
#: Before all copies that can be relied on, and behind those that cannot: where a segment was first written.
_BIRTH = "1"
_DOUBTED, _RELIABLE = "0", "2"


class Lodging(NamedTuple):
    """Segments of `origin` that have their home in a pack: a bit for each, by ordinal."""

    origin: bytes
    pin: bytes
    bits: int


class Homes:
    """The homes of what `usage` has, in a temporary file. For one thread, which is none of the pool's.

    `learn` is told of all packs that are there before anything else is asked.
    """

    def __init__(self, domain: Domain, workers: Workers, usage: Usage) -> None:
        self._domain = domain
        self._workers = workers
        self._usage = usage
        self._tables = TemporaryTables(_SCHEMA)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    def learn(self, packs: Iterable[tuple[bytes, ObjectInfo]]) -> None:
        """These packs are there. Of those that nothing was first written to that is needed, the end is read."""

        def look(one: tuple[bytes, ObjectInfo]) -> tuple[bytes, ObjectInfo, PackEnd | None]:
            pack, info = one
            return pack, info, None if self._usage.segments_of(pack) else self._end(pack, info)

        for pack, info, end in self._workers.map(look, packs):
            row = (pack, info.size, info.modified and info.modified.isoformat())
            self._tables.change("INSERT OR REPLACE INTO there VALUES (?, ?, ?)", row)
            if end is not None:
                self._note(end, info)

    def there(self) -> Iterator[tuple[bytes, ObjectInfo]]:
        """The packs that are there, in the order of their ids."""
        last = b""
        query = f"SELECT pack, size, modified FROM there WHERE pack > ? ORDER BY pack LIMIT {_PAGE}"  # noqa: S608
        while page := self._tables.rows(query, (last,)):
            for last, size, modified in page:
                when = datetime.fromisoformat(modified) if modified else None
                yield last, ObjectInfo(self._domain.at.pack_key(last), size, when)

    def _end(self, pack: bytes, info: ObjectInfo) -> PackEnd | None:
        """Of a pack with copies; None for any other."""
        try:
            end = read_end(self._domain, pack, info.size, PLACES_TAIL, with_ids=False)
            return read_end(self._domain, pack, info.size, TAIL) if end.ends.origins else None
        except (DamagedObject, MissingObject):
            return None  # what cannot be read gives nothing back

    def _note(self, end: PackEnd, info: ObjectInfo) -> None:
        rank = self._rank(end, info)
        rows = []
        for origin in end.ends.origins:
            try:
                found = carried(self._domain, end.places, origin)
            except Malformed:
                continue
            same = set(end.places.places).intersection(found.places)
            bits = sum(1 << place.id.ordinal for place in same)
            if any(need.pin == found.pin and need.bits & bits for need in self._usage.segments_of(origin)):
                rows.append((origin, found.pin, end.places.pack, rank, _packed(bits)))
        self._tables.change_all("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?)", rows)
        if rows:
            row = (end.places.pack, len(end.places.places))
            self._tables.change("INSERT OR REPLACE INTO carriers VALUES (?, ?)", row)

    def _rank(self, end: PackEnd, info: ObjectInfo) -> str:
        """What decides between packs that hold the same: the higher text is the home."""
        try:
            reliable = not self._domain.log.revoked(end.require_signer())
        except Malformed:
            reliable = False
        when = info.modified.astimezone(UTC) if info.modified is not None else datetime.min.replace(tzinfo=UTC)
        return f"{_RELIABLE if reliable else _DOUBTED} {when.isoformat()} {end.places.pack.hex()}"

    def distrust(self, pack: bytes) -> None:
        """A pack is not what its end says: whatever else holds its segments comes before it."""
        self._tables.change("UPDATE copies SET rank = ? || substr(rank, 2) WHERE pack = ?", (_DOUBTED, pack))

    def lodgings(self, pack: bytes) -> list[Lodging]:
        """What has its home in a pack; nothing if it can go."""
        asked = [need for need in self._usage.segments_of(pack) if self.is_there(pack)]
        for origin, pin in self._tables.rows("SELECT origin, pin FROM copies WHERE pack = ?", (pack,)):
            asked += [need for need in self._usage.segments_of(origin) if need.pin == pin]
        found = []
        for need in asked:
            bits = dict(self._shared_out(need)).get(pack, 0)
            if bits:
                found.append(Lodging(need.pack, need.pin, bits))
        return found

    def can_go(self, pack: bytes) -> bool:
        """Whether nothing has its home in a pack that is there."""
        if self.lodgings(pack):
            return False
        if not self._usage.segments_of(pack):
            return True
        # Emptied by compaction. Nobody makes a pack of segments of its own and copies, but who knows.
        size = self._tables.rows("SELECT size FROM there WHERE pack = ?", (pack,))[0][0]
        try:
            end = self._workers.call(read_end, self._domain, pack, size, PLACES_TAIL, with_ids=False)
        except (DamagedObject, MissingObject):
            return True
        return not end.ends.origins

    def relied_on(self, pack: bytes) -> set[bytes]:
        """The packs that are the homes of what is needed and this pack holds as well: without them it could not go."""
        asked = self._usage.segments_of(pack)
        for origin, pin in self._tables.rows("SELECT origin, pin FROM copies WHERE pack = ?", (pack,)):
            asked += [need for need in self._usage.segments_of(origin) if need.pin == pin]
        return {home for need in asked for home, _ in self._shared_out(need)} - {pack}

    def _shared_out(self, need: NeededSegments) -> Iterator[tuple[bytes, int]]:
        """The packs that are homes of what is needed of one pack, and of which of its segments."""
        query = "SELECT rank, pack, bits FROM copies WHERE origin = ? AND pin = ?"
        holders = [
            (rank, pack, int.from_bytes(bits, "little"))
            for rank, pack, bits in self._tables.rows(query, (need.pack, need.pin))
        ]
        if self.is_there(need.pack):
            holders.append((_BIRTH, need.pack, (1 << need.segments) - 1))
        left = need.bits
        for _, pack, bits in sorted(holders, reverse=True):
            if taken := left & bits:
                left &= ~taken
                yield pack, taken

    def is_there(self, pack: bytes) -> bool:
        """Whether the pack was listed."""
        return bool(self._tables.rows("SELECT 1 FROM there WHERE pack = ?", (pack,)))

    def segments(self, pack: bytes) -> int:
        """How many segments a pack has that is the home of some."""
        rows = self._tables.rows("SELECT segments FROM carriers WHERE pack = ?", (pack,))
        return rows[0][0] if rows else max((need.segments for need in self._usage.segments_of(pack)), default=0)


def _packed(bits: int) -> bytes:
    return bits.to_bytes(-(-bits.bit_length() // 8), "little")
