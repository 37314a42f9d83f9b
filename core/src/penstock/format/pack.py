"""Packs: sealed segments, zeroes, the sealed ids of their chunks, the sealed places of the segments, a signed trailer.

pack    := magic(8) ‖ sealed segment … ‖ zeroes ‖ sealed ids ‖ sealed places ‖ trailer
trailer := u32 length of the sealed ids ‖ u32 length of the sealed places ‖ writer(16) ‖ Ed25519 signature(64) ‖ "PEND"

Whoever may read the layout finds every segment and its digest in the places, and nothing about chunks. The digest of
the sealed places is the pack's pin: who knows it knows every byte of every segment, wherever the segment is copied to.
"""

import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from blake3 import blake3

from penstock.format.assembled import MAX_SEGMENTS, Assembled
from penstock.format.codec import Effort, compress, decompress
from penstock.format.encoding import Malformed, decode_record, encode_record, ids_from_hex, little_endian, whole
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.padding import open_padded, padded, seal_padded
from penstock.format.sealing import Sealer, message

__all__ = [
    "DIGEST_BYTES",
    "MAGIC",
    "MAX_ENDS",
    "MAX_SEGMENT",
    "MAX_SEGMENTS",
    "TRAILER_BYTES",
    "Chunks",
    "Place",
    "Places",
    "SegmentId",
    "Trailer",
    "open_chunks",
    "open_places",
    "open_segment",
    "pin_of",
    "seal_chunks",
    "seal_places",
    "seal_segment",
    "sign_trailer",
    "zeroes_for",
]

MAGIC = b"PSPACK\x01\0"
_END = b"PEND"
_TRAILER = struct.Struct("<II16s64s4s")
TRAILER_BYTES = _TRAILER.size
_ORDINAL = struct.Struct("<I")
_COUNT = struct.Struct("<I")

DIGEST_BYTES = 32
#: Limits on plain bytes of a segment, and of the ids or the places of a pack: a reader needs no more memory for either.
MAX_SEGMENT = 8 * 1024 * 1024
MAX_ENDS = 8 * 1024 * 1024
#: Places are small, and ids do not compress.
_LEVEL = 3


class SegmentId(NamedTuple):
    """A segment's permanent identity: the pack it was first written to, and its number there; copies keep it."""

    pack: bytes
    ordinal: int


@dataclass(frozen=True, slots=True)
class Place:
    """A segment's place in a pack: offset and length in sealed form, size once opened, digest of the sealed bytes."""

    id: SegmentId
    session: bytes
    offset: int
    sealed_length: int
    plain_length: int
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the segments of a pack are. `carried` are the sealed places of packs that segments were copied from."""

    pack: bytes
    places: tuple[Place, ...]
    carried: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)


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


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last bytes of a pack: how long the ends before it are, and who signed them. Nothing is verified yet."""

    ids_length: int
    places_length: int
    writer: bytes
    signature: bytes

    @classmethod
    def decode(cls, data: bytes | memoryview, pack_size: int) -> "Trailer":
        """Raises `Malformed`."""
        if len(data) != TRAILER_BYTES:
            raise Malformed("truncated")
        ids, places, writer, signature, end = _TRAILER.unpack(data)
        if end != _END:
            raise Malformed("not a pack: the end mark is missing")
        if not (ids and places) or ids + places > pack_size - len(MAGIC) - TRAILER_BYTES:
            raise Malformed("impossible lengths at the end of the pack")
        return cls(ids, places, writer, signature)

    def verify(self, key: VerifyingKey, scope: bytes, pack: bytes, pin: bytes, ids: bytes | memoryview) -> None:
        """Raise `Malformed` unless `key` signed this pin and these sealed ids as those of `pack`."""
        if not key.verify(self.signature, _signed(scope, pack, self.writer, pin, ids)):
            raise Malformed("invalid signature")


def sign_trailer(
    signer: SigningKey, writer: bytes, scope: bytes, pack: bytes, ids: bytes | memoryview, places: bytes | memoryview
) -> bytes:
    """The trailer of a pack with these sealed ends. `scope` is the repository's id followed by the domain's."""
    signature = signer.sign(_signed(scope, pack, writer, pin_of(places), ids))
    return _TRAILER.pack(len(ids), len(places), writer, signature, _END)


def _signed(scope: bytes, pack: bytes, writer: bytes, pin: bytes, ids: bytes | memoryview) -> bytes:
    return message("pack", scope, pack, writer, pin, blake3(ids).digest())


def pin_of(places: bytes | memoryview) -> bytes:
    """The pin of a pack with these sealed places, 32 bytes."""
    return blake3(places).digest()


def _place_of(scope: bytes, segment: SegmentId) -> bytes:
    return message("segment", scope, segment.pack, _ORDINAL.pack(segment.ordinal))


def seal_segment(
    data: bytes | bytearray | memoryview, effort: Effort, sealer: Sealer, scope: bytes, segment: SegmentId
) -> bytes:
    """Compress and seal one segment under its session's data key."""
    if len(data) > MAX_SEGMENT:
        raise ValueError("a segment holds 8 MiB at most")
    return sealer.seal(compress(data, effort), _place_of(scope, segment))


def open_segment(sealed: bytes | memoryview, sealer: Sealer, scope: bytes, segment: SegmentId) -> bytes:
    """The plain bytes of a segment; raises `Malformed`."""
    return decompress(sealer.open(sealed, _place_of(scope, segment)), MAX_SEGMENT)


def seal_places(found: Places, sealer: Sealer, scope: bytes) -> bytes:
    """Seal places under the layout key; the size tells little. Raises `ValueError` for what a reader would refuse."""
    sessions: dict[bytes, int] = {}
    origins: dict[bytes, int] = {found.pack: 0}
    rows = []
    for place in found.places:
        session = sessions.setdefault(place.session, len(sessions))
        origin = origins.setdefault(place.id.pack, len(origins))
        rows.append([origin, place.id.ordinal, session, place.offset, place.sealed_length, place.plain_length])
    header = {
        "carried": [[pack.hex(), len(sealed)] for pack, sealed in found.carried.items()],
        "origins": [pack.hex() for pack in origins],
        "segments": rows,
        "sessions": [session.hex() for session in sessions],
    }
    digests = b"".join(place.digest for place in found.places)
    try:
        _places(header, found.pack, memoryview(digests))
    except Malformed as error:
        raise ValueError(str(error)) from None
    plain = encode_record(header, [digests, *found.carried.values()])
    return seal_padded(plain, _LEVEL, sealer, message("places", scope, found.pack), limit=MAX_ENDS)


def open_places(sealed: bytes | memoryview, sealer: Sealer, scope: bytes, pack: bytes) -> Places:
    """The places of `pack`; also raises `Malformed` if its figures contradict one another."""
    header, body = decode_record(open_padded(sealed, MAX_ENDS, sealer, message("places", scope, pack)))
    rows, carried = header.get("segments"), header.get("carried")
    if not isinstance(rows, list) or not isinstance(carried, list) or len(body) < len(rows) * DIGEST_BYTES:
        raise Malformed("the places are incomplete")
    places = _places(header, pack, body)
    try:
        lengths = {pack: whole(length) for name, length in carried for pack in ids_from_hex([name])}
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, Malformed) else Malformed("the places are incomplete") from None
    start = len(rows) * DIGEST_BYTES
    if len(lengths) != len(carried) or len(body) != start + sum(lengths.values()):
        raise Malformed("the places have another length than they say")
    kept = {}
    for origin, length in lengths.items():
        kept[origin] = bytes(body[start : start + length])
        start += length
    return Places(pack, places, kept)


def _places(header: Mapping[str, Any], pack: bytes, digests: memoryview) -> tuple[Place, ...]:
    try:
        origins = ids_from_hex(header["origins"])
        sessions = ids_from_hex(header["sessions"])
        places = []
        expected = len(MAGIC)
        for number, (origin, ordinal, session, offset, sealed, plain) in enumerate(header["segments"]):
            if whole(offset) != expected:
                raise Malformed("the segments of the pack are not contiguous")
            identity = SegmentId(origins[whole(origin)], whole(ordinal, MAX_SEGMENTS))
            sizes = (whole(sealed), whole(plain, MAX_SEGMENT + 1))
            digest = bytes(digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])
            places.append(Place(identity, sessions[whole(session)], offset, *sizes, digest))
            expected += sizes[0]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise error if isinstance(error, Malformed) else Malformed("the places are incomplete") from None
    if len(places) > MAX_SEGMENTS:
        raise Malformed("the pack has more segments than allowed")
    if not origins or origins[0] != pack:
        raise Malformed("the places belong to another pack")
    return tuple(places)


def seal_chunks(chunks: Chunks, sealer: Sealer, scope: bytes, pack: bytes) -> bytes:
    """Seal lengths and ids of chunks under the id key; the size tells little."""
    if sum(chunks.counts) != len(chunks.lengths) or len(chunks.ids) != len(chunks.lengths) * CHUNK_ID_BYTES:
        raise ValueError("the number of chunks is not that of their ids")
    parts = [_COUNT.pack(count) for count in chunks.counts]
    plain = b"".join((*parts, little_endian(chunks.lengths), chunks.ids, chunks.assembled.encode()))
    return seal_padded(plain, _LEVEL, sealer, message("ids", scope, pack), limit=MAX_ENDS)


def open_chunks(sealed: bytes | memoryview, sealer: Sealer, scope: bytes, places: Places) -> Chunks:
    """The chunks of the pack that has these places; raises `Malformed` where the two contradict one another."""
    plain = memoryview(open_padded(sealed, MAX_ENDS, sealer, message("ids", scope, places.pack)))
    segments = len(places.places)
    start = segments * _COUNT.size
    if len(plain) < start:
        raise Malformed("the ids are incomplete")
    counts = tuple(count for (count,) in _COUNT.iter_unpack(plain[:start]))
    total = sum(counts)
    end = start + total * (2 + CHUNK_ID_BYTES)
    if len(plain) < end:
        raise Malformed("the number of chunks is not that of their ids")
    lengths = array("H")
    lengths.frombytes(plain[start : start + 2 * total])
    if sys.byteorder == "big":  # pragma: no cover - no such machine in the tests
        lengths.byteswap()
    if not all(lengths):
        raise Malformed("a chunk of no bytes")
    first = 0
    for place, count in zip(places.places, counts, strict=True):
        if sum(lengths[first : first + count]) != place.plain_length:
            raise Malformed("the chunks of a segment do not add up to its length")
        first += count
    return Chunks(counts, lengths, bytes(plain[start + 2 * total : end]), Assembled.decode(plain[end:]))


def zeroes_for(size: int, ends: int) -> int:
    """How many zeroes go between segments that end at `size` in the pack and sealed ends of so many bytes."""
    whole_size = size + ends + TRAILER_BYTES
    return padded(whole_size) - whole_size
