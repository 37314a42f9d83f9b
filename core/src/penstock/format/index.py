"""Index objects: where the ends of packs are, and the hooks of each. Hints for writers; rebuilt from the packs at need.

index  := magic(8) ‖ writer(16) ‖ u32 length ‖ sealed index ‖ sealed hooks ‖ Ed25519 signature(64)
index  record header: {"packs": [[id, size, length of ids, length of places, [origin, …]], …], "replaces": [id, …]}
hooks  per pack u32 chunks ‖ u32 hooks, then the hooks of the packs in order, 12 bytes each
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.format.encoding import Malformed, decode_record, encode_record, id_from_hex, ids_from_hex, whole
from penstock.format.ids import CHUNK_ID_BYTES, hooks
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.pack import TRAILER_BYTES
from penstock.format.padding import open_padded, seal_padded
from penstock.format.sealing import Sealer, message

__all__ = ["PackEnds", "PackSummary", "SealedIndex", "decode_index", "encode_index", "hooks_of"]

MAGIC = b"PSINDX\x01\0"
_HEADER = struct.Struct("<8s16sI")
_COUNTS = struct.Struct("<II")
_SIGNATURE_BYTES = 64
_LEVEL = 3
_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PackEnds:
    """Where the ends of a pack are: its size, and the lengths of the sealed ids and places, in bytes.

    `origins` are the packs that some of its segments were copied from.
    """

    pack: bytes
    size: int
    ids_length: int
    places_length: int
    origins: tuple[bytes, ...] = ()

    @property
    def offset(self) -> int:
        """Where the sealed ids begin: the first byte that a writer reads."""
        return self.size - TRAILER_BYTES - self.places_length - self.ids_length


@dataclass(frozen=True, slots=True)
class PackSummary:
    """A pack in the index: its ends, how many chunks it has, and its hooks, each once."""

    ends: PackEnds
    chunks: int
    hooks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SealedIndex:
    """A parsed index object, nothing verified or opened yet."""

    index: bytes
    writer: bytes
    signature: bytes
    _signed: memoryview = field(repr=False)
    _index: memoryview = field(repr=False)
    _hooks: memoryview = field(repr=False)

    def verify(self, key: VerifyingKey, scope: bytes) -> None:
        """Raise `Malformed` unless `key` signed it under this name in this domain."""
        if not key.verify(self.signature, message("index", scope, self.index, self._signed)):
            raise Malformed("invalid signature")

    def open_ends(self, layout_sealer: Sealer, scope: bytes) -> tuple[tuple[PackEnds, ...], tuple[bytes, ...]]:
        """The packs' ends, and the index objects that it replaces; raises `Malformed`."""
        plain = open_padded(self._index, _LIMIT, layout_sealer, message("index", scope, self.index))
        header, body = decode_record(plain)
        rows = header.get("packs")
        if not isinstance(rows, list) or len(body):
            raise Malformed("the index is incomplete")
        try:
            ends = tuple(
                PackEnds(id_from_hex(pack), whole(size), whole(ids), whole(places), ids_from_hex(origins))
                for pack, size, ids, places, origins in rows
            )
        except (TypeError, ValueError) as error:
            raise error if isinstance(error, Malformed) else Malformed("the index is incomplete") from None
        return ends, ids_from_hex(header.get("replaces"))

    def open_summaries(self, layout_sealer: Sealer, id_sealer: Sealer, scope: bytes) -> list[PackSummary]:
        """The packs with their hooks; raises `Malformed`."""
        ends, _ = self.open_ends(layout_sealer, scope)
        plain = memoryview(open_padded(self._hooks, _LIMIT, id_sealer, message("hooks", scope, self.index)))
        at = len(ends) * _COUNTS.size
        counts = list(_COUNTS.iter_unpack(plain[:at])) if at <= len(plain) else []
        if len(counts) != len(ends) or len(plain) != at + CHUNK_ID_BYTES * sum(number for _, number in counts):
            raise Malformed("the number of hooks differs from what the index says")
        packs = []
        for one, (chunks, number) in zip(ends, counts, strict=True):
            end = at + number * CHUNK_ID_BYTES
            found = tuple(bytes(plain[start : start + CHUNK_ID_BYTES]) for start in range(at, end, CHUNK_ID_BYTES))
            at = end
            packs.append(PackSummary(one, chunks, found))
        return packs


def hooks_of(ids: bytes) -> tuple[bytes, ...]:
    """The hooks among concatenated chunk ids, each once, in their order."""
    return tuple(dict.fromkeys(hooks(ids)))


def encode_index(
    index: bytes,
    packs: Sequence[PackSummary],
    *,
    replaces: Sequence[bytes] = (),
    scope: bytes,
    writer: bytes,
    layout_sealer: Sealer,
    id_sealer: Sealer,
    signer: SigningKey,
) -> bytes:
    """The bytes of the object `index/<id>`."""
    rows = [_row(pack.ends) for pack in packs]
    record = encode_record({"packs": rows, "replaces": [replaced.hex() for replaced in replaces]})
    counts = [_COUNTS.pack(pack.chunks, len(pack.hooks)) for pack in packs]
    found = b"".join((*counts, *(hook for pack in packs for hook in pack.hooks)))
    sealed = seal_padded(record, _LEVEL, layout_sealer, message("index", scope, index), limit=_LIMIT)
    sealed_hooks = seal_padded(found, _LEVEL, id_sealer, message("hooks", scope, index), limit=_LIMIT)
    signed = b"".join((_HEADER.pack(MAGIC, writer, len(sealed)), sealed, sealed_hooks))
    return signed + signer.sign(message("index", scope, index, signed))


def _row(ends: PackEnds) -> list[object]:
    origins = [origin.hex() for origin in ends.origins]
    return [ends.pack.hex(), ends.size, ends.ids_length, ends.places_length, origins]


def decode_index(index: bytes, data: bytes | memoryview) -> SealedIndex:
    """Parse the object `index/<id>`; raises `Malformed`."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _SIGNATURE_BYTES:
        raise Malformed("truncated")
    magic, writer, length = _HEADER.unpack_from(view)
    middle, end = _HEADER.size + length, len(view) - _SIGNATURE_BYTES
    if magic != MAGIC or middle > end:
        raise Malformed("not an index object")
    return SealedIndex(index, writer, bytes(view[end:]), view[:end], view[_HEADER.size : middle], view[middle:end])
