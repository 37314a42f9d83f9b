"""Every byte of a pack, against its directory: digest, seals and the ids of chunks, in one request for a usual pack."""

from collections.abc import Callable

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.api.sink import Sink
from penstock.format.encoding import ID_BYTES, Malformed
from penstock.format.ids import chunk_ids
from penstock.format.pack import MAGIC, Directory, SegmentPlace, open_segment
from penstock.format.sealing import Sealer
from penstock.repository import layout
from penstock.repository.budget import PACK_CAPACITY
from penstock.repository.read.directories import TAIL, PackEnd, read_end
from penstock.repository.repository import Repository

__all__ = ["verify_pack"]


def verify_pack(repository: Repository, pack: bytes, size: int, sealer: Callable[[bytes], Sealer | None]) -> Directory:
    """Read a pack of `size` bytes as a whole and compare it with its directory, which is returned.

    Where `sealer` has the key of a segment's session, the segment is opened and its chunks are compared with their ids.
    Holds at most `PACK_CAPACITY` bytes of the pack at a time. Raises `DamagedObject`, `MissingObject`.
    """
    key = layout.pack_key(pack)
    end = read_end(repository, pack, size, size if size <= PACK_CAPACITY else TAIL)
    directory = end.directory
    content = _Content(repository.sink, key, end)
    digest = blake3()
    first = 0
    try:
        if content.read(0, len(MAGIC)) != MAGIC:
            raise Malformed("not a pack: wrong magic bytes")
        for place in directory.segments:
            if place.sealed_length > PACK_CAPACITY:
                raise Malformed(f"segment {place.id.ordinal} is larger than any may be")
            sealed = content.read(place.offset, place.offset + place.sealed_length)
            digest.update(sealed)
            opener = sealer(place.session)
            if opener is not None:
                _compare(repository, directory, place, first, sealed, opener)
            first += place.chunks
        if digest.digest() != directory.digest:
            raise Malformed("its segments do not have the digest that was recorded for them")
    except ObjectMissing:
        raise MissingObject(key, "the pack is gone") from None
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    return directory


class _Content:
    """The bytes in front of a pack's directory, read in order and in few requests."""

    def __init__(self, sink: Sink, key: str, end: PackEnd) -> None:
        self._sink = sink
        self._key = key
        self._end = end.offset
        self._start = end.start
        self._data = end.tail

    def read(self, start: int, end: int) -> memoryview:
        if not self._start <= start <= end <= self._start + len(self._data):
            length = max(end, min(start + PACK_CAPACITY, self._end)) - start
            self._start = start
            self._data = memoryview(self._sink.get(self._key, start=start, length=length))
        return self._data[start - self._start : end - self._start]


def _compare(
    repository: Repository, directory: Directory, place: SegmentPlace, first: int, sealed: memoryview, sealer: Sealer
) -> None:
    """Open a segment and compare its chunks, the first of which is number `first` in the pack; raises `Malformed`."""
    ordinal = place.id.ordinal
    data = memoryview(open_segment(sealed, sealer, repository.id, place.id))
    lengths = directory.lengths[first : first + place.chunks]
    if sum(lengths) != len(data):
        raise Malformed(f"segment {ordinal} has another length than its directory says")
    ids = chunk_ids(repository.access.index.id_key, data, lengths)
    if b"".join(ids) != directory.ids[first * ID_BYTES : (first + place.chunks) * ID_BYTES]:
        raise Malformed(f"segment {ordinal} has other chunks than its directory says")
