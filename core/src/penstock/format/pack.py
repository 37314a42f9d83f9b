"""Packs: sealed segments, zeroes, the sealed ids of their chunks, the sealed places of the segments, a signed trailer.

pack    := magic(8) ‖ sealed segment … ‖ zeroes ‖ ids ‖ sealed places ‖ trailer
trailer := u32 length of the ids ‖ u32 length of the sealed places ‖ signer(16) ‖ Ed25519 signature(64) ‖ "PEND"

Whoever may read the layout finds every segment and its digest in the places, and nothing about chunks: the ids are in
`penstock.format.chunks`. The digest of the sealed places is the pack's pin: who knows it knows every byte of every
segment, wherever the segment is copied to.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from blake3 import blake3

from penstock.format.assembled import MAX_SEGMENTS
from penstock.format.codec import Effort, compress, decompress
from penstock.format.encoding import (
    Malformed,
    bytes_from_hex,
    decode_record,
    digest_from_hex,
    encode_record,
    id_from_hex,
    ids_from_hex,
    whole,
)
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
    "Carried",
    "Place",
    "Places",
    "SegmentId",
    "Trailer",
    "open_places",
    "open_segment",
    "pin_of",
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
class Carried:
    """What a pack keeps of one that its segments were copied from: the sealed places, and whose word these are.

    `signature` is that of the old pack, whose ids had the digest `ids`.
    """

    places: bytes = field(repr=False)
    signer: bytes
    ids: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def verify(self, key: VerifyingKey, scope: bytes, pack: bytes) -> None:
        """Raise `Malformed` unless `key` signed these places as those of `pack`."""
        if not key.verify(self.signature, _signed(scope, pack, self.signer, pin_of(self.places), self.ids)):
            raise Malformed("the places that it carries were signed by nobody")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the segments of a pack are. `carried` is what it keeps of the packs that segments were copied from."""

    pack: bytes
    places: tuple[Place, ...]
    carried: Mapping[bytes, Carried] = field(default_factory=dict, repr=False)

    @property
    def copies_alone(self) -> bool:
        """Whether none of the segments was written to this pack first."""
        return all(place.id.pack != self.pack for place in self.places)


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last bytes of a pack: how long the ends before it are, and who signed them. Nothing is verified yet."""

    ids_length: int
    places_length: int
    signer: bytes
    signature: bytes

    @classmethod
    def decode(cls, data: bytes | memoryview, pack_size: int) -> "Trailer":
        """Raises `Malformed`."""
        if len(data) != TRAILER_BYTES:
            raise Malformed("truncated")
        ids, places, signer, signature, end = _TRAILER.unpack(data)
        if end != _END:
            raise Malformed("not a pack: the end mark is missing")
        if not (ids and places) or ids + places > pack_size - len(MAGIC) - TRAILER_BYTES:
            raise Malformed("impossible lengths at the end of the pack")
        return cls(ids, places, signer, signature)

    def verify(self, key: VerifyingKey, scope: bytes, pack: bytes, pin: bytes, ids: bytes | memoryview) -> None:
        """Raise `Malformed` unless `key` signed this pin and these ids as those of `pack`."""
        if not key.verify(self.signature, _signed(scope, pack, self.signer, pin, blake3(ids).digest())):
            raise Malformed("invalid signature")


def sign_trailer(
    key: SigningKey, signer: bytes, scope: bytes, pack: bytes, ids: bytes | memoryview, places: bytes | memoryview
) -> bytes:
    """The trailer of a pack with these ends. `scope` is the repository's id followed by the domain's."""
    signature = key.sign(_signed(scope, pack, signer, pin_of(places), blake3(ids).digest()))
    return _TRAILER.pack(len(ids), len(places), signer, signature, _END)


def _signed(scope: bytes, pack: bytes, signer: bytes, pin: bytes, ids: bytes) -> bytes:
    return message("pack", scope, pack, signer, pin, ids)


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
        "carried": [
            [pack.hex(), len(one.places), one.signer.hex(), one.ids.hex(), one.signature.hex()]
            for pack, one in found.carried.items()
        ],
        "origins": [pack.hex() for pack in origins],
        "segments": rows,
        "sessions": [session.hex() for session in sessions],
    }
    digests = b"".join(place.digest for place in found.places)
    try:
        _places(header, found.pack, memoryview(digests))
    except Malformed as error:
        raise ValueError(str(error)) from None
    plain = encode_record(header, [digests, *(one.places for one in found.carried.values())])
    return seal_padded(plain, _LEVEL, sealer, message("places", scope, found.pack), limit=MAX_ENDS)


def open_places(sealed: bytes | memoryview, sealer: Sealer, scope: bytes, pack: bytes) -> Places:
    """The places of `pack`; also raises `Malformed` if its figures contradict one another."""
    header, body = decode_record(open_padded(sealed, MAX_ENDS, sealer, message("places", scope, pack)))
    rows, carried = header.get("segments"), header.get("carried")
    if not isinstance(rows, list) or not isinstance(carried, list) or len(body) < len(rows) * DIGEST_BYTES:
        raise Malformed("the places are incomplete")
    places = _places(header, pack, body)
    start = len(rows) * DIGEST_BYTES
    kept = {}
    try:
        for name, size, signer, ids, signature in carried:
            end = start + whole(size)
            said = (bytes(body[start:end]), id_from_hex(signer), digest_from_hex(ids), bytes_from_hex(signature, 64))
            kept[id_from_hex(name)] = Carried(*said)
            start = end
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, Malformed) else Malformed("the places are incomplete") from None
    if len(kept) != len(carried) or len(body) != start:
        raise Malformed("the places have another length than they say")
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


def zeroes_for(size: int, ends: int) -> int:
    """How many zeroes go between segments that end at `size` in the pack and sealed ends of so many bytes."""
    whole_size = size + ends + TRAILER_BYTES
    return padded(whole_size) - whole_size
