"""Recipes: the extents that rebuild one stream, in the order of the stream.

An extent is a run of bytes: of a segment, or of a stream of an earlier snapshot, the base. After a night nearly all
bytes are the base's, so a night's recipe costs what the night changed. A block can be read alone: it says which bytes
of the stream it makes, and where in the base it begins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.format.encoding import Malformed, decode_varints, encode_varints

__all__ = ["EXTENTS_A_BLOCK", "Block", "Extent", "decode_block", "encode_block", "range_of"]

EXTENTS_A_BLOCK = 32768
#: start, size, base, from, number of extents
_FIELDS = 5
#: In bytes, at most.
_TWO_VARINTS = 18


class Extent(NamedTuple):
    """`length` bytes from `start`, of a segment of the table or, where `segment` is None, of the base's stream."""

    segment: int | None
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Block:
    """What makes `size` bytes of a stream from `start` on; `base` is the number of a stream of the base."""

    start: int
    size: int
    base: int
    extents: tuple[Extent, ...]


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def encode_block(start: int, extents: Sequence[Extent], base: int = 0) -> bytes:
    """A block of at most `EXTENTS_A_BLOCK` extents. Raises `ValueError` for what a reader would refuse."""
    if not 0 < len(extents) <= EXTENTS_A_BLOCK:
        raise ValueError("impossible number of extents in a block")
    lengths, segments, places, jumps = [], [], [], []
    ends: dict[int, int] = {}
    segment = 0
    begin = at = next((extent.start for extent in extents if extent.segment is None), 0)
    for extent in extents:
        if extent.length < 1 or extent.start < 0 or (extent.segment or 0) < 0:
            raise ValueError("impossible extent in a recipe")
        end = extent.start + extent.length
        if extent.segment is None:
            lengths.append(extent.length << 1 | 1)
            jumps.append(_zigzag(extent.start - at))
            at = end
        else:
            lengths.append(extent.length << 1)
            segments.append(_zigzag(extent.segment - segment))
            places.append(_zigzag(extent.start - ends.get(extent.segment, 0)))
            segment = extent.segment
            ends[segment] = end
    size = sum(extent.length for extent in extents)
    return encode_varints((start, size, base, begin, len(extents), *lengths, *segments, *places, *jumps))


def range_of(plain: bytes | memoryview) -> tuple[int, int]:
    """Where a block begins in its stream, and how many bytes it makes, without reading the rest; raises `Malformed`."""
    last = 0
    for end, byte in enumerate(plain[:_TWO_VARINTS], start=1):
        if byte < 128 and (last := last + 1) == 2:
            start, size = decode_varints(plain[:end])
            return start, size
    raise Malformed("truncated recipe")


def decode_block(plain: bytes | memoryview) -> Block:
    """Reverse `encode_block`; raises `Malformed`."""
    values = decode_varints(plain)
    if len(values) < _FIELDS:
        raise Malformed("truncated recipe")
    start, size, base, begin, count = values[:_FIELDS]
    lengths = values[_FIELDS : _FIELDS + count]
    of_base = sum(length & 1 for length in lengths)
    of_segments = count - of_base
    if not 0 < count <= EXTENTS_A_BLOCK or len(values) != _FIELDS + count + 2 * of_segments + of_base:
        raise Malformed("the columns of a recipe do not match")
    columns = iter(values[_FIELDS + count :])
    segments = [next(columns) for _ in range(of_segments)]
    places = [next(columns) for _ in range(of_segments)]
    extents = tuple(_extents(lengths, iter(segments), iter(places), columns, begin))
    if sum(extent.length for extent in extents) != size:
        raise Malformed("a block of a recipe makes another size than it says")
    return Block(start, size, base, extents)


def _extents(
    lengths: Sequence[int], segments: Iterator[int], places: Iterator[int], jumps: Iterator[int], at: int
) -> Iterator[Extent]:
    ends: dict[int, int] = {}
    segment = 0
    for word in lengths:
        length = word >> 1
        if word & 1:
            start = at + _unzigzag(next(jumps))
            at = start + length
            extent = Extent(None, start, length)
        else:
            segment += _unzigzag(next(segments))
            start = ends.get(segment, 0) + _unzigzag(next(places))
            ends[segment] = start + length
            extent = Extent(segment, start, length)
        if segment < 0 or start < 0 or not length:
            raise Malformed("impossible extent in a recipe")
        yield extent
