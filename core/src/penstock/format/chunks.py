"""The ids of the chunks of a pack, sealed segment by segment: they go where the segment is copied to.

ids := (u32 length ‖ sealed ids of a segment) …, in the order of the segments ‖ u32 length ‖ sealed list of assembled
       chunks, if there are any ‖ zeroes

Of a segment: u16 length of each chunk, in bytes ‖ id of each (12). They are bound to the segment's identity, not to the
pack that they are in: whoever has no id key can copy them, and put them beside no other segment.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from penstock.format.assembled import Assembled
from penstock.format.encoding import Malformed, little_endian
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.format.pack import MAX_ENDS, Places, SegmentId
from penstock.format.padding import LEAST_OF_MANY, open_padded, padded, seal_padded
from penstock.format.sealing import Sealer, message

__all__ = ["Chunks", "join_ids", "open_chunks", "seal_chunks", "split_ids"]

_LENGTH = struct.Struct("<I")
_ORDINAL = struct.Struct("<I")
_CHUNK = 2 + CHUNK_ID_BYTES
#: Ids do not compress, and their lengths do a little.
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a pack: how many each segment has, and the length and id of each, in order."""

    counts: tuple[int, ...]
    #: In bytes.
    lengths: "array[int]"
    #: `CHUNK_ID_BYTES` each.
    ids: bytes = field(repr=False)
    #: Those that no segment holds in one piece; a writer's hint, as the others are.
    assembled: Assembled = field(default_factory=Assembled, repr=False)

    @property
    def names(self) -> bytes:
        """The ids of all chunks that a writer can find here."""
        return self.ids + self.assembled.ids

    @property
    def total(self) -> int:
        """How many these are."""
        return len(self.names) // CHUNK_ID_BYTES


def seal_chunks(chunks: Chunks, sealer: Sealer, scope: bytes, pack: bytes, segments: Sequence[SegmentId]) -> bytes:
    """The ids of a pack with these segments, under the id key; sizes tell little.

    Raises `ValueError` for what a reader would refuse.
    """
    if sum(chunks.counts) != len(chunks.lengths) or len(chunks.ids) != len(chunks.lengths) * CHUNK_ID_BYTES:
        raise ValueError("the number of chunks is not that of their ids")
    if len(chunks.counts) != len(segments):
        raise ValueError("the number of segments is not that of their chunks")
    listed = chunks.assembled.encode()
    if len(chunks.lengths) * _CHUNK + len(listed) > MAX_ENDS:
        raise ValueError(f"more than {MAX_ENDS} bytes to seal")
    sealed = []
    for segment, (first, end) in zip(segments, pairwise((0, *accumulate(chunks.counts))), strict=True):
        plain = little_endian(chunks.lengths[first:end]) + chunks.ids[first * CHUNK_ID_BYTES : end * CHUNK_ID_BYTES]
        place = _place_of(scope, segment)
        sealed.append(seal_padded(plain, _LEVEL, sealer, place, limit=MAX_ENDS, least=LEAST_OF_MANY))
    others = seal_padded(listed, _LEVEL, sealer, message("assembled", scope, pack), limit=MAX_ENDS) if listed else b""
    return join_ids(sealed, others)


def join_ids(sealed: Iterable[bytes | memoryview], assembled: bytes | memoryview = b"") -> bytes:
    """The ids of a pack, from those of its segments in their order, and its list of assembled chunks, all sealed.

    How long they are is in the clear: zeroes make it the length of a class.
    """
    pieces: list[bytes | memoryview] = []
    for one in (*sealed, assembled):
        pieces += (_LENGTH.pack(len(one)), one)
    size = sum(map(len, pieces))
    return b"".join((*pieces, bytes(padded(size) - size)))


def split_ids(ids: bytes | memoryview, segments: int) -> tuple[list[memoryview], memoryview]:
    """Reverse `join_ids`, of a pack with so many segments; nothing is opened. Raises `Malformed`."""
    left = memoryview(ids)
    found = []
    for _ in range(segments + 1):
        if len(left) < _LENGTH.size:
            raise Malformed("the ids are incomplete")
        end = _LENGTH.size + _LENGTH.unpack_from(left)[0]
        if end > len(left):
            raise Malformed("the ids are incomplete")
        found.append(left[_LENGTH.size : end])
        left = left[end:]
    if any(left) or len(ids) != padded(len(ids) - len(left)):
        raise Malformed("the padding is not what it should be")
    assembled = found.pop()
    return found, assembled


def open_chunks(ids: bytes | memoryview, sealer: Sealer, scope: bytes, places: Places) -> Chunks:
    """The chunks of the pack that has these places; raises `Malformed` where the two contradict one another."""
    sealed, others = split_ids(ids, len(places.places))
    counts, lengths, names, room = [], array("H"), [], MAX_ENDS
    for place, one in zip(places.places, sealed, strict=True):
        plain = open_padded(one, room, sealer, _place_of(scope, place.id))
        room -= len(plain)
        count, rest = divmod(len(plain), _CHUNK)
        own = array("H", plain[: 2 * count])
        if sys.byteorder == "big":  # pragma: no cover - no such machine in the tests
            own.byteswap()
        if rest or not all(own):
            raise Malformed("the ids are incomplete" if rest else "a chunk of no bytes")
        if sum(own) != place.plain_length:
            raise Malformed("the chunks of a segment do not add up to its length")
        counts.append(count)
        lengths += own
        names.append(plain[2 * count :])
    assembled = Assembled()
    if others:
        if places.copies_alone:
            raise Malformed("a list of assembled chunks among copies")
        listed = open_padded(others, room, sealer, message("assembled", scope, places.pack))
        assembled = Assembled.decode(memoryview(listed))
        if not assembled.lengths:
            raise Malformed("a list of no assembled chunks")
    return Chunks(tuple(counts), lengths, b"".join(names), assembled)


def _place_of(scope: bytes, segment: SegmentId) -> bytes:
    return message("ids", scope, segment.pack, _ORDINAL.pack(segment.ordinal))
