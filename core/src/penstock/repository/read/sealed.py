"""Segments as they are in the repository, verified and still sealed: from their own pack, or else from copies."""

from collections.abc import Callable, Container
from itertools import chain
from typing import NamedTuple

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, PenstockError, SinkError
from penstock.format.pack import MAGIC, SegmentId
from penstock.repository.domain import Domain
from penstock.repository.read.budget import RANGE
from penstock.repository.read.copies import Copies, Unreadable, is_final
from penstock.repository.read.ends import PLACES_TAIL, read_end
from penstock.repository.read.once import Once
from penstock.repository.read.ranges import Ranges
from penstock.repository.read.segments import PlacedPack
from penstock.repository.temporary import PackSizes

__all__ = ["SealedSegment", "SealedSegments"]

#: Packs whose places are kept: some 200 bytes a segment.
_PLACES = 64


class SealedSegment(NamedTuple):
    """The bytes that the snapshot pins, where they were, whose run they are of, and how many they are once opened."""

    data: memoryview
    key: str
    session: bytes
    plain_length: int


class SealedSegments:
    """Reads segments that a snapshot pins. For any number of threads.

    `pin` gives the pin of a pack, and how many segments its places have. At most `ranges` ranges of packs are kept.
    """

    def __init__(self, domain: Domain, copies: Copies, pin: Callable[[bytes], tuple[bytes, int]], ranges: int) -> None:
        self.copies = copies
        #: Sizes of packs, as far as they were met; who has met some puts them here.
        self.sizes = PackSizes()
        self._domain = domain
        self._pin = pin
        self._ranges = Ranges(domain.sink, ranges)
        #: What is gone, damaged or refused stays so, and is not asked for again.
        self._places: Once[bytes, PlacedPack | PenstockError] = Once(self._read_places, kept=_PLACES)

    def close(self) -> None:
        """Nothing is read any more."""
        self.sizes.close()
        self.copies.close()

    def read(self, segment: SegmentId, beside: Container[SegmentId]) -> SealedSegment:
        """A segment; those `beside` it are wanted as well. Raises `Unreadable` if no copy is known that is good."""
        first: PenstockError | None = None
        for placed in chain([self._places(segment.pack)], self.copies.of(segment.pack)):
            try:
                if isinstance(placed, PlacedPack):
                    return self._read(placed, segment, beside)
                first = placed
            except (DamagedObject, MissingObject, SinkError) as error:
                if not is_final(error):
                    raise
                first = first or error
        assert first is not None
        raise Unreadable(first)

    def sessions(self, pack: bytes) -> set[bytes]:
        """The sessions of a pack's segments, or of those of which copies are known; raises `Unreadable`."""
        placed = self._places(pack)
        if isinstance(placed, PlacedPack):
            return placed.sessions
        sessions = {session for copy in self.copies.of(pack) for session in copy.sessions}
        if not sessions:
            raise Unreadable(placed)
        return sessions

    def _read(self, placed: PlacedPack, segment: SegmentId, beside: Container[SegmentId]) -> SealedSegment:
        place = placed.find(segment)
        # The first segment is read with the mark in front of it, so that every byte in use is verified.
        margin = len(MAGIC) if place.offset == len(MAGIC) else 0
        start, end = place.offset - margin, place.offset + place.sealed_length
        try:
            read = self._ranges.read(placed.key, start, end, placed.end_of_run(segment, beside, RANGE))
        except ObjectMissing:
            raise MissingObject(placed.key, "the pack is gone") from None
        if read[:margin] != MAGIC[:margin]:
            raise DamagedObject(placed.key, f"segment {segment.ordinal}: not a pack: wrong magic bytes")
        if blake3(read[margin:]).digest() != place.digest:
            raise DamagedObject(placed.key, f"segment {segment.ordinal}: not the bytes that the snapshot pins")
        return SealedSegment(read[margin:], placed.key, place.session, place.plain_length)

    def _read_places(self, pack: bytes) -> PlacedPack | PenstockError:
        key = self._domain.at.pack_key(pack)
        try:
            size = self.sizes.size(pack) or self._domain.sink.stat(key).size
            end = read_end(self._domain, pack, size, PLACES_TAIL, with_ids=False)
        except ObjectMissing:
            return MissingObject(key, "the pack is gone")
        except (DamagedObject, MissingObject, SinkError) as error:
            if not is_final(error):
                raise
            return error
        if (end.pin, len(end.places.places)) != self._pin(pack):
            return DamagedObject(key, "not the pack that the snapshot pins")
        return PlacedPack(end.places.places, key)
