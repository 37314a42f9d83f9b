"""Index objects: where the ends of packs are, and the hooks of each. Hints for writers; rebuilt from the packs at need.

index  := magic(8) ‖ signer(16) ‖ u32 length ‖ sealed index ‖ sealed hooks … ‖ zeroes ‖ Ed25519 signature(64)
index  record header: {"packs": [[id, size, length of ids, length of places, [origin, …], [[pack, length], …]], …],
       "replaces": [id, …]}
hooks  u32 chunks ‖ hooks, 12 bytes each; bound to the pack that the chunks were written to first
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.format.encoding import Malformed, decode_record, encode_record, id_from_hex, ids_from_hex, whole
from penstock.format.ids import CHUNK_ID_BYTES, hooks
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.pack import TRAILER_BYTES
from penstock.format.padding import LEAST_OF_MANY, open_padded, padded, seal_padded
from penstock.format.sealing import Sealer, message

__all__ = [
    "IndexedPack",
    "PackEnds",
    "PackSummary",
    "SealedHooks",
    "SealedIndex",
    "decode_index",
    "encode_index",
    "hooks_of",
    "seal_hooks",
]

MAGIC = b"PSINDX\x01\0"
_HEADER = struct.Struct("<8s16sI")
_COUNT = struct.Struct("<I")
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
class SealedHooks:
    """The hooks of chunks that were written to `pack` first: copying them to another index object takes no key."""

    pack: bytes
    sealed: bytes = field(repr=False)


class IndexedPack(NamedTuple):
    """A pack in the index as a maintainer sees it: its ends, and hooks that stay sealed."""

    ends: PackEnds
    hooks: tuple[SealedHooks, ...]


@dataclass(frozen=True, slots=True)
class SealedIndex:
    """A parsed index object, nothing verified or opened yet."""

    index: bytes
    signer: bytes
    signature: bytes
    _signed: memoryview = field(repr=False)
    _index: memoryview = field(repr=False)
    _hooks: memoryview = field(repr=False)

    def verify(self, key: VerifyingKey, scope: bytes) -> None:
        """Raise `Malformed` unless `key` signed it under this name in this domain."""
        if not key.verify(self.signature, message("index", scope, self.index, self._signed)):
            raise Malformed("invalid signature")

    def open_packs(self, layout_sealer: Sealer, scope: bytes) -> tuple[list[IndexedPack], tuple[bytes, ...]]:
        """The packs, and the index objects that it replaces; raises `Malformed`."""
        plain = open_padded(self._index, _LIMIT, layout_sealer, message("index", scope, self.index))
        header, body = decode_record(plain)
        rows = header.get("packs")
        if not isinstance(rows, list) or len(body):
            raise Malformed("the index is incomplete")
        packs, start = [], 0
        try:
            for pack, size, ids, places, origins, hooks in rows:
                ends = PackEnds(id_from_hex(pack), whole(size), whole(ids), whole(places), ids_from_hex(origins))
                sealed = []
                for born, length in hooks:
                    end = start + whole(length)
                    sealed.append(SealedHooks(id_from_hex(born), bytes(self._hooks[start:end])))
                    start = end
                packs.append(IndexedPack(ends, tuple(sealed)))
        except (TypeError, ValueError) as error:
            raise error if isinstance(error, Malformed) else Malformed("the index is incomplete") from None
        if start > len(self._hooks) or len(self._hooks) != padded(start) or any(self._hooks[start:]):
            raise Malformed("the hooks have another length than the index says")
        return packs, ids_from_hex(header.get("replaces"))

    def open_summaries(self, layout_sealer: Sealer, id_sealer: Sealer, scope: bytes) -> list[PackSummary]:
        """The packs with their hooks; raises `Malformed`."""
        packs, room = [], _LIMIT
        for found in self.open_packs(layout_sealer, scope)[0]:
            chunks, hooks = 0, dict[bytes, None]()
            for one in found.hooks:
                plain = open_padded(one.sealed, room, id_sealer, message("hooks", scope, one.pack))
                room -= len(plain)
                if len(plain) < _COUNT.size or (len(plain) - _COUNT.size) % CHUNK_ID_BYTES:
                    raise Malformed("the hooks are incomplete")
                chunks += _COUNT.unpack_from(plain)[0]
                starts = range(_COUNT.size, len(plain), CHUNK_ID_BYTES)
                hooks.update(dict.fromkeys(plain[start : start + CHUNK_ID_BYTES] for start in starts))
            if found.ends.origins:
                # It has not all of them, and not more than fit into its ids.
                chunks = min(chunks, found.ends.ids_length // CHUNK_ID_BYTES)
            packs.append(PackSummary(found.ends, chunks, tuple(hooks)))
        return packs


def hooks_of(ids: bytes) -> tuple[bytes, ...]:
    """The hooks among concatenated chunk ids, each once, in their order."""
    return tuple(dict.fromkeys(hooks(ids)))


def seal_hooks(pack: PackSummary, id_sealer: Sealer, scope: bytes) -> IndexedPack:
    """The pack as an index object lists it. Raises `ValueError` for more hooks than a reader takes."""
    plain = b"".join((_COUNT.pack(pack.chunks), *pack.hooks))
    place = message("hooks", scope, pack.ends.pack)
    sealed = seal_padded(plain, _LEVEL, id_sealer, place, limit=_LIMIT, least=LEAST_OF_MANY)
    return IndexedPack(pack.ends, (SealedHooks(pack.ends.pack, sealed),))


def encode_index(
    index: bytes,
    packs: Sequence[IndexedPack],
    *,
    replaces: Sequence[bytes] = (),
    scope: bytes,
    signer: bytes,
    layout_sealer: Sealer,
    key: SigningKey,
) -> bytes:
    """The bytes of the object `index/<id>`."""
    rows = [_row(pack) for pack in packs]
    record = encode_record({"packs": rows, "replaces": [replaced.hex() for replaced in replaces]})
    sealed = seal_padded(record, _LEVEL, layout_sealer, message("index", scope, index), limit=_LIMIT)
    hooks = b"".join(one.sealed for pack in packs for one in pack.hooks)
    # The size of an object tells little of what is in it.
    zeroes = bytes(padded(len(hooks)) - len(hooks))
    signed = b"".join((_HEADER.pack(MAGIC, signer, len(sealed)), sealed, hooks, zeroes))
    return signed + key.sign(message("index", scope, index, signed))


def _row(pack: IndexedPack) -> list[object]:
    ends = pack.ends
    origins = [origin.hex() for origin in ends.origins]
    hooks = [[one.pack.hex(), len(one.sealed)] for one in pack.hooks]
    return [ends.pack.hex(), ends.size, ends.ids_length, ends.places_length, origins, hooks]


def decode_index(index: bytes, data: bytes | memoryview) -> SealedIndex:
    """Parse the object `index/<id>`; raises `Malformed`."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _SIGNATURE_BYTES:
        raise Malformed("truncated")
    magic, signer, length = _HEADER.unpack_from(view)
    middle, end = _HEADER.size + length, len(view) - _SIGNATURE_BYTES
    if magic != MAGIC or middle > end:
        raise Malformed("not an index object")
    return SealedIndex(index, signer, bytes(view[end:]), view[:end], view[_HEADER.size : middle], view[middle:end])
