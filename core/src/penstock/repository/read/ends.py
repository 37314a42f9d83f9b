"""The ends of packs, read from the repository: where segments are, and the ids of their chunks."""

from dataclasses import dataclass

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.chunks import Chunks, open_chunks
from penstock.format.encoding import Malformed
from penstock.format.index import PackEnds, PackSummary, hooks_of
from penstock.format.pack import MAGIC, TRAILER_BYTES, Places, Trailer, open_places, pin_of, zeroes_for
from penstock.repository.domain import Domain
from penstock.repository.fetching import require_size

__all__ = ["PLACES_TAIL", "TAIL", "PackEnd", "read_end", "read_known_end"]

#: Both ends of a full pack fit into so many bytes almost always, and the places alone; if not, a second read follows.
TAIL = 768 * 1024
PLACES_TAIL = 64 * 1024


@dataclass(frozen=True, slots=True)
class PackEnd:
    """What the end of a pack says.

    The places are bound to the pack and `pin` is theirs; whose word that is, `require_signer` tells. `tail` are the
    bytes that were read, those from `start` to the end.
    """

    domain: Domain
    places: Places
    pin: bytes
    trailer: Trailer
    size: int
    start: int
    tail: memoryview

    @property
    def ends(self) -> PackEnds:
        """Where the ends are."""
        origins = dict.fromkeys(place.id.pack for place in self.places.places)
        origins.pop(self.places.pack, None)
        return PackEnds(
            self.places.pack, self.size, self.trailer.ids_length, self.trailer.places_length, tuple(origins)
        )

    @property
    def end_of_segments(self) -> int:
        """Where the last segment ends."""
        last = self.places.places[-1] if self.places.places else None
        return last.offset + last.sealed_length if last else len(MAGIC)

    def require_signer(self) -> bytes:
        """The key that signed the pack; raises `Malformed` unless it may, revoked or not.

        That is a writer of the domain; or a maintainer, if all of its segments are copies, and the places that it
        carries of each of their packs are the word of a writer.
        """
        domain, signer = self.domain, self.trailer.signer
        key = domain.writer(signer)
        if key is None and self.places.copies_alone:
            key = domain.keeper(signer)
        if key is None:
            raise Malformed("its signer was never granted to write here")
        self.trailer.verify(key, domain.scope, self.places.pack, self.pin, self.sealed_ids())
        for origin in self.ends.origins:
            self.require_writer_of(origin)
        return signer

    def require_writer_of(self, origin: bytes) -> bytes:
        """The writer whose word the places are that this pack carries of another; raises `Malformed`."""
        carried = self.places.carried.get(origin)
        if carried is None:
            raise Malformed("it does not carry the places of the pack that its segments are of")
        writer = self.domain.writer(carried.signer)
        if writer is None:
            raise Malformed("it carries places whose signer was never granted to write here")
        carried.verify(writer, self.domain.scope, origin)
        return carried.signer

    def chunks(self) -> Chunks:
        """The pack's chunks; raises `Malformed`, and `RoleForbids` for a maintainer."""
        return open_chunks(self.sealed_ids(), self.domain.id_sealer, self.domain.scope, self.places)

    def summary(self) -> PackSummary:
        """What an index says about the pack; raises what `chunks` raises."""
        chunks = self.chunks()
        return PackSummary(self.ends, chunks.total, hooks_of(chunks.names))

    def sealed_ids(self) -> memoryview:
        """The ids of its chunks as they are in the pack; `ValueError` if they were not read."""
        begin = self.ends.offset - self.start
        if begin < 0:
            raise ValueError("the ids were not read")
        return self.tail[begin : begin + self.trailer.ids_length]


def read_known_end(domain: Domain, ends: PackEnds) -> PackEnd:
    """Read both ends of a pack where the index says that they are; raises `DamagedObject`, `MissingObject`."""
    return read_end(domain, ends.pack, ends.size, ends.size - max(0, ends.offset))


def read_end(domain: Domain, pack: bytes, size: int, most: int, *, with_ids: bool = True) -> PackEnd:
    """Read the last `most` bytes of a pack of `size` bytes, or all of it, and open the places.

    A second request follows if they, or with `with_ids` the ids, do not fit. Raises `DamagedObject`, `MissingObject`.
    """
    key = domain.at.pack_key(pack)
    try:
        require_size(key, size)
        start = max(0, size - most)
        tail = _read(domain, key, start, size)
        if size < len(MAGIC) + TRAILER_BYTES:
            raise Malformed("it is truncated")
        trailer = Trailer.decode(tail[-TRAILER_BYTES:], size)
        places_at = size - TRAILER_BYTES - trailer.places_length
        needed = places_at - trailer.ids_length if with_ids else places_at
        if needed < start:
            start = needed
            tail = _read(domain, key, start, size)
        if not start and tail[: len(MAGIC)] != MAGIC:
            raise Malformed("not a pack: wrong magic bytes")
        sealed = tail[places_at - start : size - TRAILER_BYTES - start]
        places = open_places(sealed, domain.layout_sealer, domain.scope, pack)
        end = PackEnd(domain, places, pin_of(sealed), trailer, size, start, tail)
        zeroes = end.ends.offset - end.end_of_segments
        if zeroes != zeroes_for(end.end_of_segments, trailer.ids_length + trailer.places_length):
            raise Malformed("its segments do not end where they should")
    except ObjectMissing:
        raise MissingObject(key, "the pack is gone") from None
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    return end


def _read(domain: Domain, key: str, start: int, size: int) -> memoryview:
    data = memoryview(domain.sink.get(key, start=start, length=size - start))
    if len(data) != size - start:
        raise Malformed("it is truncated")
    return data
