"""Where else the segments of a pack are: what compaction copied, with the old pack's places, which the pin proves.

Nobody looks for copies before something is missing or damaged.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from enum import IntEnum
from itertools import islice
from typing import NamedTuple, TypeVar

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, PenstockError, SinkError
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.format.index import decode_index
from penstock.format.pack import TRAILER_BYTES, Place, Places, open_places, pin_of
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.pool import Workers
from penstock.repository.read.budget import RANGE
from penstock.repository.read.ends import PLACES_TAIL, TAIL, read_end
from penstock.repository.read.listing import listed, read_all
from penstock.repository.read.once import Once
from penstock.repository.read.segments import PlacedPack
from penstock.repository.temporary import TemporaryTables

__all__ = ["Carried", "Copies", "Unreadable", "carried", "is_final"]

#: Which packs say that they carry the places of which others: nothing that they say was looked at yet.
_SCHEMA = """
CREATE TABLE copies (origin BLOB, pack BLOB, size INTEGER, tail INTEGER, PRIMARY KEY (origin, pack)) WITHOUT ROWID;
"""
_PAGE = 100
#: Packs whose copies of another's segments are kept: some 200 bytes a segment.
_PLACED = 64

T = TypeVar("T")


class Carried(NamedTuple):
    """What a pack carries of another: the digest of its places, how many segments they have, and those that it holds.

    The places of the latter are as the carried ones say, but for the offset, which is that in the pack that carries
    them.
    """

    pin: bytes
    segments: int
    places: tuple[Place, ...]


def carried(domain: Domain, found: Places, origin: bytes) -> Carried:
    """What `found` carry of the pack `origin`, by whoever's word; raises `Malformed`."""
    kept = found.carried.get(origin)
    if kept is None:
        raise Malformed("it does not carry the places of the pack that its segments are of")
    old = open_places(kept.places, domain.layout_sealer, domain.scope, origin).places
    pinned = {place.id: place for place in old if place.id.pack == origin}
    here = (replace(pinned[place.id], offset=place.offset) for place in found.places if place.id in pinned)
    return Carried(pin_of(kept.places), len(old), tuple(here))


class Unreadable(Exception):
    """A segment is damaged in every pack that is known to hold it; `first` is what failed first.

    Packs that nobody has looked for may have good copies.
    """

    def __init__(self, first: PenstockError) -> None:
        super().__init__(str(first))
        self.first = first


def is_final(error: PenstockError) -> bool:
    """Whether reading the same object again cannot help, so that only a copy of its content can."""
    return isinstance(error, (DamagedObject, MissingObject, SinkError)) and not error.retryable


class _Search(IntEnum):
    """Where copies were looked for."""

    NOWHERE = 0
    #: A hint: objects may be missing, damaged, or not tell the truth.
    INDEX = 1
    PACKS = 2


class _Claim(NamedTuple):
    """That the pack `pack` of `size` bytes carries the places of `origin`; its own are in the last `tail` bytes."""

    origin: bytes
    pack: bytes
    size: int
    tail: int


class Copies:
    """Finds the packs that carry the places of others, once somebody needs them.

    `pin` gives the pin of a pack and how many segments its places have. `of` can be called by any thread, the other
    methods by none of the pool's.
    """

    def __init__(self, domain: Domain, workers: Workers, pin: Callable[[bytes], tuple[bytes, int]]) -> None:
        self._domain = domain
        self._workers = workers
        self._pin = pin
        self._tables = TemporaryTables(_SCHEMA)
        self._placed: Once[_Claim, PlacedPack] = Once(self._read, kept=_PLACED)
        self._searched = _Search.NOWHERE

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    def of(self, origin: bytes) -> Iterator[PlacedPack]:
        """The packs that are known to hold segments of `origin`, and prove it with its pin."""
        last = b""
        query = f"SELECT * FROM copies WHERE origin = ? AND pack > ? ORDER BY pack LIMIT {_PAGE}"  # noqa: S608
        while page := self._tables.rows(query, (origin, last)):
            for claim in map(_Claim._make, page):
                last = claim.pack
                try:
                    placed = self._placed(claim)
                except (DamagedObject, MissingObject, SinkError) as error:
                    if not is_final(error):
                        raise
                    # It would be asked again for every segment.
                    self._tables.change("DELETE FROM copies WHERE origin = ? AND pack = ?", claim[:2])
                else:
                    yield placed

    def _read(self, claim: _Claim) -> PlacedPack:
        key = self._domain.at.pack_key(claim.pack)
        end = read_end(self._domain, claim.pack, claim.size, min(claim.tail, TAIL), with_ids=False)
        try:
            found = carried(self._domain, end.places, claim.origin)
        except Malformed as error:
            raise DamagedObject(key, str(error)) from None
        if (found.pin, found.segments) != self._pin(claim.origin):
            raise DamagedObject(key, "it carries other places than the snapshot pins")
        return PlacedPack(found.places, key)

    def persist(self, ask: "Callable[[], Future[T]]") -> T:
        """What comes of asking; where that is `Unreadable`, it is asked again once more copies are known.

        Raises what failed first if there is no good copy anywhere.
        """
        failure: PenstockError | None = None
        for search in _Search:
            self._search(search)
            try:
                return self._workers.result(ask())
            except Unreadable as error:
                failure = failure or error.first
        assert failure is not None
        raise failure

    def lost(self, needed: Iterable[tuple[bytes, int]], most: int) -> list[bytes]:
        """Of these packs, those of which copies do not hold every segment that is needed; the first `most` of them.

        `needed` has a bit for each segment, and can be gone through more than once.
        """
        lost: list[bytes] = []
        for search in (_Search.INDEX, _Search.PACKS):
            self._search(search)
            missing = self._workers.map(self._unless_held, needed)
            lost = list(islice((pack for pack in missing if pack is not None), most))
            if not lost:
                break
        return lost

    def _unless_held(self, one: tuple[bytes, int]) -> bytes | None:
        pack, needed = one
        for placed in self.of(pack):
            for segment in placed:
                needed &= ~(1 << segment.ordinal)
            if not needed:
                return None
        return pack

    def _search(self, search: _Search) -> None:
        """Look there, unless that was done before."""
        if self._searched >= search:
            return
        at = self._domain.at
        try:
            if search is _Search.INDEX:
                self._note(read_all(self._workers, self._said_by_index, self._listed(at.index), most=RANGE))
            else:
                self._note(self._workers.map(self._said_by_pack, self._listed(at.packs)))
        except SinkError as error:
            # What the index says is known to the packs as well; and packs that must not be listed are as good as none.
            if search is _Search.PACKS and not is_final(error):
                raise
        self._searched = search

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        return listed(self._workers, self._domain.sink, prefix)

    def _note(self, each: Iterable[list[_Claim]]) -> None:
        for claims in each:
            self._tables.change_all("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?)", claims)

    def _said_by_index(self, info: ObjectInfo) -> list[_Claim]:
        try:
            sealed = decode_index(layout.id_of(info.key), fetch(self._domain.sink, info.key))
            packs, _ = sealed.open_packs(self._domain.layout_sealer, self._domain.scope)
        except (Malformed, ObjectMissing):
            return []
        return [
            _Claim(origin, ends.pack, ends.size, ends.places_length + TRAILER_BYTES)
            for ends, _ in packs
            for origin in ends.origins
        ]

    def _said_by_pack(self, info: ObjectInfo) -> list[_Claim]:
        try:
            end = read_end(self._domain, layout.id_of(info.key), info.size, PLACES_TAIL, with_ids=False)
        except Malformed:
            return []
        except (DamagedObject, MissingObject, SinkError) as error:
            if not is_final(error):
                raise
            return []
        tail = end.trailer.places_length + TRAILER_BYTES
        return [_Claim(origin, end.places.pack, end.size, tail) for origin in end.places.carried]
