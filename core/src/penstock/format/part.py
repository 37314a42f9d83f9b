"""Parts: the pieces of a snapshot beside its head. Whoever names a part has its digest, and relies on that alone.

part    := magic(8) ‖ writer(16) ‖ sealed sections ‖ Ed25519 signature(64)
section := u8 kind ‖ u32 length ‖ bytes
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from blake3 import blake3

from penstock.format.encoding import ID_BYTES, Malformed, decode_varints, encode_varints
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.pack import DIGEST_BYTES, MAX_SEGMENTS
from penstock.format.padding import open_padded, seal_padded
from penstock.format.sealing import Sealer, message

__all__ = [
    "MAX_PLAIN",
    "SECTION_OVERHEAD",
    "SESSION_BYTES",
    "Key",
    "Kind",
    "PartRef",
    "Need",
    "Row",
    "decode_needs",
    "Section",
    "decode_refs",
    "decode_rows",
    "decode_sessions",
    "encode_part",
    "encode_refs",
    "encode_rows",
    "encode_sessions",
    "open_part",
    "verify_part",
]

MAGIC = b"PSPART\x01\0"
_FIRST = len(MAGIC) + ID_BYTES
_SIGNATURE_BYTES = 64
_SECTION = struct.Struct("<BI")
SECTION_OVERHEAD = _SECTION.size
_REF = struct.Struct("<16sI32sB")
_SESSION = struct.Struct("<16s32s")
#: What a session takes in a section.
SESSION_BYTES = _SESSION.size
#: A higher one takes megabytes of memory, and saves one byte in a hundred.
_LEVEL = 3
#: What a part holds at most, opened, in bytes.
MAX_PLAIN = 4 * 1024 * 1024
#: Segments are numbered 4096 * row + ordinal, in 63 bits.
MAX_ROW = (1 << 63) // MAX_SEGMENTS - 1


class Key(IntEnum):
    """What a part is sealed under."""

    LAYOUT = 0
    #: The data key of the snapshot's session: the owner alone can open it.
    DATA = 1
    #: The layout key; and all that it holds are references to further parts.
    REFS = 2


class Kind(IntEnum):
    """What a section holds."""

    #: References to further parts, in the place of this one.
    REFS = 0
    #: Rows of the segment table.
    TABLE = 1
    #: Bytes of the manifest.
    MANIFEST = 2
    #: The number of a stream, and a block of its recipe.
    RECIPE = 3
    #: The sessions whose data keys are needed, and the digests of their objects.
    SESSIONS = 4

    @property
    def key(self) -> Key:
        """What a part with such sections is sealed under."""
        return {Kind.REFS: Key.REFS, Kind.TABLE: Key.LAYOUT, Kind.SESSIONS: Key.LAYOUT}.get(self, Key.DATA)


@dataclass(frozen=True, slots=True)
class PartRef:
    """A part: its id, the size in bytes and the digest of the object, and what it is sealed under."""

    part: bytes
    size: int
    digest: bytes
    key: Key

    def verify(self, data: bytes) -> None:
        """Raise `Malformed` unless these are the bytes that were pinned."""
        if len(data) != self.size or blake3(data).digest() != self.digest:
            raise Malformed("not the bytes that the snapshot pins")


class Section(NamedTuple):
    """A piece of a part."""

    kind: Kind
    data: memoryview


class Row(NamedTuple):
    """A pack in the segment table: its row, its pin, how many segments its places have, the numbers of those needed."""

    number: int
    pack: bytes
    pin: bytes
    segments: int
    used: frozenset[int]


def encode_part(
    part: bytes,
    sections: Sequence[tuple[Kind, bytes]],
    key: Key,
    sealer: Sealer,
    scope: bytes,
    *,
    writer: bytes,
    signer: SigningKey,
) -> tuple[bytes, PartRef]:
    """The bytes of the object `parts/<id>`, and the reference to it."""
    if any(kind.key is not key for kind, _ in sections):
        raise ValueError("a section belongs under another key")
    plain = b"".join(piece for kind, data in sections for piece in (_SECTION.pack(kind, len(data)), data))
    if len(plain) > MAX_PLAIN:
        raise ValueError("a part holds 4 MiB at most")
    signed = MAGIC + writer + seal_padded(plain, _LEVEL, sealer, message("part", scope, part), limit=MAX_PLAIN)
    data = signed + signer.sign(message("part", scope, part, signed))
    return data, PartRef(part, len(data), blake3(data).digest(), key)


def verify_part(part: bytes, data: bytes, writer_of: Callable[[bytes], VerifyingKey | None], scope: bytes) -> bytes:
    """The key that signed a part, whatever is in it; raises `Malformed` unless `writer_of` knows it as a writer's."""
    if len(data) < _FIRST + _SIGNATURE_BYTES or data[: len(MAGIC)] != MAGIC:
        raise Malformed("not a part of a snapshot")
    writer = data[len(MAGIC) : _FIRST]
    key = writer_of(writer)
    if key is None:
        raise Malformed("its signer was never granted to write here")
    if not key.verify(data[-_SIGNATURE_BYTES:], message("part", scope, part, data[:-_SIGNATURE_BYTES])):
        raise Malformed("invalid signature")
    return writer


def open_part(ref: PartRef, data: bytes, sealer: Sealer, scope: bytes) -> Iterator[Section]:
    """The sections of a part; raises `Malformed`, also if they are not those that were pinned."""
    ref.verify(data)
    if len(data) < _FIRST + _SIGNATURE_BYTES or data[: len(MAGIC)] != MAGIC:
        raise Malformed("not a part of a snapshot")
    bound_to = message("part", scope, ref.part)
    sealed = memoryview(data)[_FIRST:-_SIGNATURE_BYTES]
    plain = memoryview(open_padded(sealed, MAX_PLAIN, sealer, bound_to))
    # Looked up once: a part may have a million sections.
    kinds = {kind.value: kind for kind in Kind}
    others = {kind for kind in Kind if kind.key is not ref.key}
    at = 0
    while at < len(plain):
        if at + _SECTION.size > len(plain):
            raise Malformed("truncated section")
        number, length = _SECTION.unpack_from(plain, at)
        at += _SECTION.size
        kind = kinds.get(number)
        if kind is None or at + length > len(plain):
            raise Malformed("truncated section, or one of an unknown kind")
        if kind in others:
            raise Malformed("a section lies under another key than its own")
        yield Section(kind, plain[at : at + length])
        at += length


def encode_refs(refs: Sequence[PartRef]) -> bytes:
    """References to parts, one after the other; raises `ValueError` for a part larger than any."""
    if any(ref.size >= 1 << 32 for ref in refs):
        raise ValueError("a part of 4 GiB or more")
    return b"".join(_REF.pack(ref.part, ref.size, ref.digest, ref.key) for ref in refs)


def decode_refs(data: bytes | memoryview) -> list[PartRef]:
    """Reverse `encode_refs`; raises `Malformed`."""
    if len(data) % _REF.size:
        raise Malformed("truncated list of parts")
    refs = []
    for part, size, digest, key in _REF.iter_unpack(data):
        if key not in iter(Key):
            raise Malformed("a part under an unknown key")
        refs.append(PartRef(part, size, digest, Key(key)))
    return refs


def encode_sessions(sessions: Mapping[bytes, bytes]) -> bytes:
    """Sessions, and the digests of their objects."""
    return b"".join(_SESSION.pack(session, digest) for session, digest in sessions.items())


def decode_sessions(data: bytes | memoryview) -> dict[bytes, bytes]:
    """Reverse `encode_sessions`; raises `Malformed`, also for two digests of one session."""
    if len(data) % _SESSION.size:
        raise Malformed("truncated list of sessions")
    sessions: dict[bytes, bytes] = {}
    for session, digest in _SESSION.iter_unpack(data):
        if sessions.setdefault(session, digest) != digest:
            raise Malformed("two digests of one session")
    return sessions


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Rows: varint number ‖ pack ‖ pin ‖ varint segments ‖ one bit for each segment, set if it is needed."""
    out = bytearray()
    for row in rows:
        if row.segments > MAX_SEGMENTS or row.number > MAX_ROW or any(not 0 <= one < row.segments for one in row.used):
            raise ValueError("impossible row of a segment table")
        bits = bytearray(-(-row.segments // 8))
        for number in row.used:
            bits[number >> 3] |= 1 << (number & 7)
        out += encode_varints((row.number,)) + row.pack + row.pin + encode_varints((row.segments,)) + bits
    return bytes(out)


def decode_rows(data: bytes | memoryview) -> Iterator[Row]:
    """Reverse `encode_rows`; raises `Malformed`."""
    for number, pack, pin, segments, bits in decode_needs(data):
        yield Row(number, pack, pin, segments, frozenset(one for one in range(segments) if bits >> one & 1))


class Need(NamedTuple):
    """What a row says, with a bit for each segment that is needed, by ordinal."""

    number: int
    pack: bytes
    pin: bytes
    segments: int
    bits: int


def decode_needs(data: bytes | memoryview) -> Iterator[Need]:
    """The same rows, quicker; raises `Malformed`."""
    at = 0
    while at < len(data):
        number, at = _varint(data, at)
        pack, pin = bytes(data[at : at + ID_BYTES]), bytes(data[at + ID_BYTES : at + ID_BYTES + DIGEST_BYTES])
        segments, at = _varint(data, at + ID_BYTES + DIGEST_BYTES)
        length = -(-segments // 8)
        bits = int.from_bytes(data[at : at + length], "little")
        at += length
        if segments > MAX_SEGMENTS or number > MAX_ROW or at > len(data) or bits >> segments:
            raise Malformed("impossible row in the segment table")
        yield Need(number, pack, pin, segments, bits)


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    for end in range(at + 1, min(at + 9, len(data)) + 1):
        if data[end - 1] < 128:
            return decode_varints(data[at:end])[0], end
    raise Malformed("truncated segment table")
