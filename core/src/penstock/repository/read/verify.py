"""Every byte of a pack, against what its end says: digests, seals and the ids of chunks, in one request."""

from collections.abc import Callable

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.chunks import Chunks
from penstock.format.encoding import Malformed
from penstock.format.ids import CHUNK_ID_BYTES, chunk_ids
from penstock.format.pack import Place, open_segment
from penstock.format.sealing import Sealer
from penstock.repository.domain import Domain
from penstock.repository.read.ends import PackEnd, read_end

__all__ = ["verify_pack"]


def verify_pack(domain: Domain, pack: bytes, size: int, sealer: Callable[[bytes], Sealer | None]) -> PackEnd:
    """Read a pack of `size` bytes as a whole and compare it with its end, which is returned, signature included.

    Where `sealer` has the key of a segment's session, the segment is opened and its chunks are compared with their ids.
    Raises `DamagedObject`, `MissingObject`.
    """
    key = domain.at.pack_key(pack)
    end = read_end(domain, pack, size, size)
    try:
        end.require_signer()
        chunks = end.chunks() if domain.knows_chunks else None
        first = 0
        for number, place in enumerate(end.places.places):
            sealed = end.tail[place.offset : place.offset + place.sealed_length]
            if blake3(sealed).digest() != place.digest:
                raise Malformed(f"segment {place.id.ordinal} does not have the digest that was recorded for it")
            opener = sealer(place.session)
            if opener is not None and chunks is not None:
                _compare(domain, chunks, number, place, first, sealed, opener)
            if chunks is not None:
                first += chunks.counts[number]
        if any(end.tail[end.end_of_segments : end.ends.offset]):
            raise Malformed("the padding is not what it should be")
    except ObjectMissing:
        raise MissingObject(key, "the pack is gone") from None
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    return end


def _compare(
    domain: Domain, chunks: Chunks, number: int, place: Place, first: int, sealed: memoryview, sealer: Sealer
) -> None:
    """Open a segment and compare its chunks, the first of which is number `first` in the pack; raises `Malformed`."""
    ordinal = place.id.ordinal
    data = memoryview(open_segment(sealed, sealer, domain.scope, place.id))
    count = chunks.counts[number]
    lengths = chunks.lengths[first : first + count]
    if sum(lengths) != len(data):
        raise Malformed(f"segment {ordinal} has another length than was recorded for it")
    ids = chunk_ids(domain.keys.chunk_key, data, lengths)
    if b"".join(ids) != chunks.ids[first * CHUNK_ID_BYTES : (first + count) * CHUNK_ID_BYTES]:
        raise Malformed(f"segment {ordinal} has other chunks than were recorded for it")
