"""Packs: sealed segments, then a sealed directory, then a trailer.

pack := magic(8) ‖ sealed segment … ‖ sealed directory ‖ u32 length of the sealed directory ‖ end mark(4)
"""

import struct
import sys
from array import array
from dataclasses import dataclass
from typing import Any, NamedTuple

from penstock.format.codec import compress, decompress
from penstock.format.encoding import (
    ID_BYTES,
    Malformed,
    decode_record,
    digest_from_hex,
    encode_record,
    ids_from_hex,
    whole,
)
from penstock.format.sealing import Sealer, binding

__all__ = [
    "DIRECTORY_LEVEL",
    "MAGIC",
    "MAX_DIRECTORY",
    "MAX_ORDINAL",
    "MAX_SEGMENT",
    "TRAILER_BYTES",
    "Directory",
    "SegmentId",
    "SegmentPlace",
    "decode_trailer",
    "encode_trailer",
    "open_directory",
    "open_segment",
    "seal_directory",
    "seal_segment",
]

MAGIC = b"PSPACK\x01\0"
_END = b"PEND"
_TRAILER = struct.Struct("<I4s")
TRAILER_BYTES = _TRAILER.size
_ORDINAL = struct.Struct("<I")

#: Limits on plain bytes of a segment and of a directory: a reader needs no more memory for either.
MAX_SEGMENT = 8 * 1024 * 1024
MAX_DIRECTORY = 8 * 1024 * 1024
MAX_ORDINAL = 2**32 - 1
#: Ids do not compress, and a low level is enough for the lengths.
DIRECTORY_LEVEL = 3


class SegmentId(NamedTuple):
    """A segment's permanent identity: the pack it was first written to, and its number there; copies keep it."""

    pack: bytes
    ordinal: int


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """A segment's place in a pack: offset and length in sealed form, and size and chunk count once opened."""

    id: SegmentId
    session: bytes
    offset: int
    sealed_length: int
    plain_length: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Directory:
    """The contents of a pack: its segments, and the length and id of each of their chunks, in order."""

    pack: bytes
    #: BLAKE3-256 over the sealed segments: lets those without the data key check that they are intact.
    digest: bytes
    segments: tuple[SegmentPlace, ...]
    #: Chunk lengths in bytes, across all segments in order.
    lengths: "array[int]"
    #: Chunk ids, 16 bytes each, in the same order.
    ids: bytes


def _segment_binding(repository: bytes, segment: SegmentId) -> bytes:
    return binding("segment", repository, segment.pack, _ORDINAL.pack(segment.ordinal))


def seal_segment(
    data: bytes | bytearray | memoryview, level: int, sealer: Sealer, repository: bytes, segment: SegmentId
) -> bytes:
    """Compress and seal one segment under its session's data key."""
    return sealer.seal(compress(data, level), _segment_binding(repository, segment))


def open_segment(sealed: bytes | memoryview, sealer: Sealer, repository: bytes, segment: SegmentId) -> bytes:
    """The plain bytes of a segment; raises `Malformed`."""
    return decompress(sealer.open(sealed, _segment_binding(repository, segment)), MAX_SEGMENT)


def _little_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "big":  # pragma: no cover - no such machine in the tests
        values = array("H", values)
        values.byteswap()
    return values.tobytes()


def seal_directory(directory: Directory, sealer: Sealer, repository: bytes) -> bytes:
    """Seal a directory under the index key."""
    sessions: dict[bytes, int] = {}
    origins: dict[bytes, int] = {directory.pack: 0}
    rows = []
    for place in directory.segments:
        session = sessions.setdefault(place.session, len(sessions))
        origin = origins.setdefault(place.id.pack, len(origins))
        sizes = (place.sealed_length, place.plain_length, place.chunks)
        rows.append([origin, place.id.ordinal, session, place.offset, *sizes])
    header = {
        "digest": directory.digest.hex(),
        "origins": [pack.hex() for pack in origins],
        "segments": rows,
        "sessions": [session.hex() for session in sessions],
    }
    plain = encode_record(header, (_little_endian(directory.lengths), directory.ids))
    return sealer.seal(compress(plain, DIRECTORY_LEVEL), binding("directory", repository, directory.pack))


def open_directory(sealed: bytes | memoryview, sealer: Sealer, repository: bytes, pack: bytes) -> Directory:
    """The directory of `pack`; also raises `Malformed` if its figures contradict one another."""
    plain = decompress(sealer.open(sealed, binding("directory", repository, pack)), MAX_DIRECTORY)
    header, body = decode_record(plain)
    segments = _places(header, pack)
    count = sum(place.chunks for place in segments)
    if len(body) != count * (2 + ID_BYTES):
        raise Malformed("the number of chunks differs from the directory's header")
    lengths = array("H")
    lengths.frombytes(body[: 2 * count])
    if sys.byteorder == "big":  # pragma: no cover - no such machine in the tests
        lengths.byteswap()
    start = 0
    for place in segments:
        if sum(lengths[start : start + place.chunks]) != place.plain_length:
            raise Malformed("the chunks of a segment do not add up to its length")
        start += place.chunks
    return Directory(pack, digest_from_hex(header.get("digest")), segments, lengths, bytes(body[2 * count :]))


def _places(header: dict[str, Any], pack: bytes) -> tuple[SegmentPlace, ...]:
    try:
        origins = ids_from_hex(header["origins"])
        sessions = ids_from_hex(header["sessions"])
        places = []
        expected = len(MAGIC)
        for origin, ordinal, session, offset, sealed, plain, chunks in header["segments"]:
            if whole(offset) != expected:
                raise Malformed("the directory's segments are not contiguous")
            identity = SegmentId(origins[whole(origin)], whole(ordinal, MAX_ORDINAL + 1))
            sizes = (whole(sealed), whole(plain, MAX_SEGMENT + 1), whole(chunks))
            places.append(SegmentPlace(identity, sessions[whole(session)], offset, *sizes))
            expected += sizes[0]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed("the directory's header is incomplete") from None
    if not origins or origins[0] != pack:
        raise Malformed("the directory belongs to another pack")
    return tuple(places)


def encode_trailer(directory_length: int) -> bytes:
    """The last bytes of a pack."""
    return _TRAILER.pack(directory_length, _END)


def decode_trailer(data: bytes | memoryview, pack_size: int) -> int:
    """The length of the sealed directory that ends right before the trailer; raises `Malformed`."""
    if len(data) != TRAILER_BYTES:
        raise Malformed("truncated")
    length, end = _TRAILER.unpack(data)
    if end != _END:
        raise Malformed("not a pack: the end mark is missing")
    if not 0 < length <= pack_size - len(MAGIC) - TRAILER_BYTES:
        raise Malformed("impossible directory length")
    assert isinstance(length, int)
    return length
