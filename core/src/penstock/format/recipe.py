"""Recipes: the extents that rebuild one stream, in the order of the stream.

An extent is a run of chunks: (segment, first chunk, number of chunks), where `segment` is the number of the segment in
the snapshot's segment table. Counting chunks takes a third of the space that counting bytes would
(docs/adr/0005-recipes.md); lengths in bytes come from the packs' directories, which a restore reads anyway.

A recipe is a sequence of blocks, so neither writing nor reading it needs memory proportional to the stream:

    block := u32 length ‖ codec byte ‖ payload of three columns, each: varint length in bytes ‖ varints

The columns: segment, as the zigzag difference to the previous extent; first chunk, as the zigzag difference to the end
of the previous extent of the same segment in the block, or to 0; number of chunks. Every block starts again from 0.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from penstock.format.codec import compress, decompress
from penstock.format.encoding import Malformed, decode_varints, encode_varints

__all__ = ["Extent", "RecipeEncoder", "decode_recipe"]

_LENGTH = struct.Struct("<I")
_EXTENTS_A_BLOCK = 32768
_LEVEL = 9
#: More than the three columns of the largest block can take.
_MAX_BLOCK = 3 * 9 * _EXTENTS_A_BLOCK + 64


class Extent(NamedTuple):
    """A run of chunks in one segment."""

    segment: int
    first: int
    chunks: int


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


class RecipeEncoder:
    """Takes extents in stream order, joins adjacent ones, and encodes them incrementally."""

    def __init__(self) -> None:
        self._blocks = bytearray()
        self._extents: list[Extent] = []
        self._segment = -1
        self._first = 0
        self._end = 0

    def add(self, segment: int, first: int, count: int) -> None:
        """Append these chunks to the stream."""
        if segment == self._segment and first == self._end:
            self._end += count
            return
        self._settle()
        self._segment, self._first, self._end = segment, first, first + count

    def finish(self) -> bytes:
        """The recipe. The encoder cannot be used afterwards."""
        self._settle()
        self._flush()
        return bytes(self._blocks)

    def _settle(self) -> None:
        if self._segment >= 0:
            self._extents.append(Extent(self._segment, self._first, self._end - self._first))
            if len(self._extents) == _EXTENTS_A_BLOCK:
                self._flush()

    def _flush(self) -> None:
        if not self._extents:
            return
        columns: tuple[list[int], list[int], list[int]] = ([], [], [])
        ends: dict[int, int] = {}
        previous = 0
        for segment, first, count in self._extents:
            columns[0].append(_zigzag(segment - previous))
            columns[1].append(_zigzag(first - ends.get(segment, 0)))
            columns[2].append(count)
            previous = segment
            ends[segment] = first + count
        plain = bytearray()
        for column in columns:
            encoded = encode_varints(column)
            plain += encode_varints((len(encoded),)) + encoded
        packed = compress(plain, _LEVEL)
        self._blocks += _LENGTH.pack(len(packed)) + packed
        self._extents.clear()


def decode_recipe(data: bytes | memoryview) -> Iterator[Extent]:
    """The extents of a recipe, in order; raises `Malformed`."""
    view = memoryview(data)
    while view:
        if len(view) < _LENGTH.size:
            raise Malformed("truncated recipe")
        (length,) = _LENGTH.unpack_from(view)
        block, view = view[_LENGTH.size : _LENGTH.size + length], view[_LENGTH.size + length :]
        if len(block) < length:
            raise Malformed("truncated recipe")
        yield from _decode_block(memoryview(decompress(block, _MAX_BLOCK)))


def _decode_block(plain: memoryview) -> Iterator[Extent]:
    columns = []
    for _ in range(3):
        length, plain = _leading_varint(plain)
        if length > len(plain):
            raise Malformed("truncated column in a recipe")
        columns.append(decode_varints(plain[:length]))
        plain = plain[length:]
    if len(plain) or len({len(column) for column in columns}) != 1:
        raise Malformed("the columns of a recipe differ in length")
    if not 0 < len(columns[0]) <= _EXTENTS_A_BLOCK:
        raise Malformed("a block of a recipe has no extents, or too many")
    ends: dict[int, int] = {}
    segment = 0
    for step, jump, count in zip(*columns, strict=True):
        segment += _unzigzag(step)
        first = ends.get(segment, 0) + _unzigzag(jump)
        if segment < 0 or first < 0 or not count:
            raise Malformed("impossible extent in a recipe")
        ends[segment] = first + count
        yield Extent(segment, first, count)


def _leading_varint(data: memoryview) -> tuple[int, memoryview]:
    for size in range(1, 10):
        if len(data) >= size and not data[size - 1] & 0x80:
            return decode_varints(data[:size])[0], data[size:]
    raise Malformed("truncated recipe")
