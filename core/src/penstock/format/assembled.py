"""Chunks that no segment holds in one piece: a night put them together from pieces of the segments of several packs.

assembled := u32 chunks ‖ u16 length of each ‖ id of each(12) ‖ u32 packs ‖ (id(16) ‖ pin(32)) … ‖ (u32 size ‖ block) …

The blocks are those of a recipe (section 8 of docs/format.md) that makes these chunks, one behind the other, from
segments alone: number 4096 * the number of the pack + the ordinal in it. The pack that has this list is number 0, those
in the list are numbered from 1.
"""

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.format.encoding import ID_BYTES, Malformed, little_endian
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.format.recipe import EXTENTS_A_BLOCK, Extent, decode_columns, encode_block

__all__ = ["MAX_EXTENTS", "MAX_PACKS", "MAX_SEGMENTS", "Assembled", "Pieces"]

#: Segments of a pack: numbers of segments, and so recipes, count on it.
MAX_SEGMENTS = 4096
#: Limits on the packs and on the extents of one list: a writer needs no more memory, and no more requests.
MAX_PACKS = 4096
MAX_EXTENTS = 1 << 18
#: Three numbers an extent and five for the block, of nine bytes at most.
_LARGEST_BLOCK = 9 * (3 * EXTENTS_A_BLOCK + 5)
_COUNT = struct.Struct("<I")
_PACK = struct.Struct(f"{ID_BYTES}s32s")


class Pieces(NamedTuple):
    """Extents in arrays: the number of the pack, the ordinal of the segment in it, start and length."""

    packs: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Assembled:
    """Ids and lengths of such chunks, and what makes them; `packs` are the other ones that have pieces, with pins."""

    #: In bytes.
    lengths: "array[int]" = field(default_factory=lambda: array("H"))
    #: `CHUNK_ID_BYTES` each.
    ids: bytes = field(default=b"", repr=False)
    packs: tuple[tuple[bytes, bytes], ...] = ()
    blocks: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        lengths: "array[int]",
        ids: bytes,
        packs: Sequence[tuple[bytes, bytes]],
        extents: Iterable[tuple[int, int, int]],
    ) -> "Assembled":
        """From extents: number of the segment, start, length. Raises `ValueError` for what a reader would refuse."""
        rest = iter(extents)
        blocks, start = [], 0
        while some := [Extent(*extent) for extent in islice(rest, EXTENTS_A_BLOCK)]:
            blocks.append(encode_block(start, some))
            start += sum(extent.length for extent in some)
        made = cls(lengths, ids, tuple(packs), tuple(blocks))
        try:
            made.pieces()
        except Malformed as error:
            raise ValueError(str(error)) from None
        return made

    def encode(self) -> bytes:
        """Their form in the ids of a pack; none where there are no such chunks."""
        if not self.lengths:
            return b""
        blocks = (_COUNT.pack(len(block)) + block for block in self.blocks)
        chunks = (_COUNT.pack(len(self.lengths)), little_endian(self.lengths), self.ids)
        return b"".join((*chunks, _COUNT.pack(len(self.packs)), *(pack + pin for pack, pin in self.packs), *blocks))

    @classmethod
    def decode(cls, plain: memoryview) -> "Assembled":
        """Reverse `encode`; raises `Malformed`."""
        if not plain:
            return cls()
        count, rest = _counted(plain, 2 + CHUNK_ID_BYTES)
        lengths = array("H")
        lengths.frombytes(rest[: 2 * count])
        if sys.byteorder == "big":  # pragma: no cover - no such machine in the tests
            lengths.byteswap()
        ids = bytes(rest[2 * count : (2 + CHUNK_ID_BYTES) * count])
        many, rest = _counted(rest[(2 + CHUNK_ID_BYTES) * count :], _PACK.size)
        packs = tuple(_PACK.iter_unpack(rest[: many * _PACK.size]))
        rest = rest[many * _PACK.size :]
        blocks = []
        while rest:
            size, rest = _counted(rest, 1)
            if size > _LARGEST_BLOCK:
                raise Malformed("the list of assembled chunks has an impossible block")
            blocks.append(bytes(rest[:size]))
            rest = rest[size:]
        made = cls(lengths, ids, packs, tuple(blocks))
        made.pieces()
        return made

    def pieces(self) -> Pieces:
        """The extents that make all of the chunks, one behind the other; raises `Malformed`."""
        if not self.lengths and not (self.ids or self.packs or self.blocks):
            none = np.zeros(0, dtype=np.int64)
            return Pieces(none, none, none, none)
        if (
            not (self.lengths and self.blocks)
            or not min(self.lengths)
            or len(self.ids) != len(self.lengths) * CHUNK_ID_BYTES
        ):
            raise Malformed("the list of assembled chunks is incomplete")
        if not len(dict(self.packs)) == len(self.packs) < MAX_PACKS:
            raise Malformed("the list of assembled chunks has impossible packs")
        columns, end, count = [], 0, 0
        for block in self.blocks:
            found = decode_columns(block)
            count += len(found.segments)
            if found.start != end or found.base or (found.segments < 0).any() or count > MAX_EXTENTS:
                raise Malformed("the pieces of assembled chunks are not one behind the other")
            columns.append((found.segments, found.starts, found.lengths))
            end += found.size
        segments, starts, lengths = map(np.concatenate, zip(*columns, strict=True))
        if end != sum(self.lengths) or (segments >= (1 + len(self.packs)) * MAX_SEGMENTS).any():
            raise Malformed("the pieces of assembled chunks make something else")
        return Pieces(segments // MAX_SEGMENTS, segments % MAX_SEGMENTS, starts, lengths)


def _counted(plain: memoryview, size: int) -> tuple[int, memoryview]:
    """A number, and what follows: so many items of `size` bytes at least."""
    if len(plain) < _COUNT.size:
        raise Malformed("the list of assembled chunks is incomplete")
    (count,) = _COUNT.unpack_from(plain)
    rest = plain[_COUNT.size :]
    if count > len(rest) // size:
        raise Malformed("the list of assembled chunks is incomplete")
    return count, rest
