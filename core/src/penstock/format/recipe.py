"""Recipes: the extents that rebuild one stream, in the order of the stream.

An extent is a run of bytes: of a segment, or of a stream of an earlier snapshot, the base. After a night nearly all
bytes are the base's, so a night's recipe costs what the night changed. A block can be read alone: it says which bytes
of the stream it makes, and where in the base it begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.format.encoding import Malformed, decode_varints, encode_varints

__all__ = [
    "EXTENTS_A_BLOCK",
    "MAX_RUNS",
    "Block",
    "Columns",
    "Extent",
    "decode_block",
    "decode_columns",
    "encode_block",
    "range_of",
]

EXTENTS_A_BLOCK = 32768
#: What a stream may need of the streams of one base, in runs of bytes.
MAX_RUNS = 1 << 20
#: start, size, base, from, number of extents
_FIELDS = 5
#: In bytes, at most.
_VARINT_BYTES = 9
#: No stream is so long, and no place so far.
_FAR = 1 << 61


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


@dataclass(frozen=True, slots=True)
class Columns:
    """A block as arrays of as many numbers as it has extents; the segment is -1 where an extent is of the base."""

    start: int
    size: int
    base: int
    segments: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _unzigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return values >> 1 ^ -(values & 1)


def encode_block(start: int, extents: Sequence[Extent], base: int = 0) -> bytes:
    """A block of at most `EXTENTS_A_BLOCK` extents. Raises `ValueError` for what a reader would refuse."""
    if not 0 < len(extents) <= EXTENTS_A_BLOCK:
        raise ValueError("impossible number of extents in a block")
    lengths, segments, places, jumps = [], [], [], []
    ends: dict[int, int] = {}
    segment = 0
    begin = at = next((extent.start for extent in extents if extent.segment is None), 0)
    for extent in extents:
        end = extent.start + extent.length
        if extent.length < 1 or extent.start < 0 or end > _FAR or (extent.segment or 0) < 0:
            raise ValueError("impossible extent in a recipe")
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
    if start + size > _FAR:
        raise ValueError("a block of a recipe is too far from the beginning of its stream")
    return encode_varints((start, size, base, begin, len(extents), *lengths, *segments, *places, *jumps))


def range_of(plain: bytes | memoryview) -> tuple[int, int]:
    """Where a block begins in its stream, and how many bytes it makes, without reading the rest; raises `Malformed`."""
    last = 0
    for end, byte in enumerate(plain[: 2 * _VARINT_BYTES], start=1):
        if byte < 128 and (last := last + 1) == 2:
            start, size = decode_varints(plain[:end])
            return start, size
    raise Malformed("truncated recipe")


def decode_block(plain: bytes | memoryview) -> Block:
    """Reverse `encode_block`; raises `Malformed`."""
    found = decode_columns(plain)
    columns = (found.segments.tolist(), found.starts.tolist(), found.lengths.tolist())
    extents = (Extent(None if one < 0 else one, start, length) for one, start, length in zip(*columns, strict=True))
    return Block(found.start, found.size, found.base, tuple(extents))


def decode_columns(plain: bytes | memoryview) -> Columns:
    """As `decode_block`, in arrays."""
    values = _varints(plain)
    if len(values) < _FIELDS:
        raise Malformed("truncated recipe")
    start, size, base, begin, count = values[:_FIELDS].tolist()
    words = values[_FIELDS : _FIELDS + count]
    of_base = words & 1 == 1
    bases = int(of_base.sum())
    own = count - bases
    if not 0 < count <= EXTENTS_A_BLOCK or len(values) != _FIELDS + count + 2 * own + bases:
        raise Malformed("the columns of a recipe do not match")
    columns = _unzigzag(values[_FIELDS + count :])
    lengths = words >> 1
    segments = np.full(count, -1, dtype=np.int64)
    starts = np.empty(count, dtype=np.int64)
    segments[~of_base] = numbers = np.cumsum(columns[:own])
    # Sums of numbers below 2^62 that went astray, beyond 2^63 even, are negative or too large as soon as they do.
    if (numbers < 0).any():
        raise Malformed("impossible extent in a recipe")
    starts[~of_base] = _places(numbers, columns[own : 2 * own], lengths[~of_base])
    jumps, runs = columns[2 * own :], lengths[of_base]
    starts[of_base] = begin + np.cumsum(jumps) + np.cumsum(runs) - runs
    if (starts < 0).any() or (starts > _FAR - lengths).any() or (lengths < 1).any():
        raise Malformed("impossible extent in a recipe")
    if start + size > _FAR or int(np.sum(lengths, dtype=np.float64)) > 2 * _FAR or int(lengths.sum()) != size:
        raise Malformed("a block of a recipe makes another size than it says")
    return Columns(start, size, base, segments, starts, lengths)


def _varints(data: bytes | memoryview) -> NDArray[np.int64]:
    """As `decode_varints`, without a loop for each of them."""
    found = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(found < 128)
    if len(found) != (int(ends[-1]) + 1 if len(ends) else 0):
        raise Malformed("truncated varint")
    starts = np.concatenate((np.zeros(min(1, len(ends)), dtype=np.int64), ends[:-1] + 1))
    sizes = ends - starts + 1
    if (sizes > _VARINT_BYTES).any():
        raise Malformed("varint too large")
    if ((found[ends] == 0) & (sizes > 1)).any():
        raise Malformed("varint not in its shortest form")
    values = (found[starts] & 127).astype(np.int64)
    for at in range(1, int(sizes.max()) if len(sizes) else 0):
        longer = np.flatnonzero(sizes > at)
        values[longer] |= (found[starts[longer] + at] & 127).astype(np.int64) << 7 * at
    return values


def _places(segments: NDArray[np.int64], jumps: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each extent begins in its segment: so far behind the end of the one before it of the same segment."""
    order = np.argsort(segments, kind="stable")
    in_order = segments[order]
    ends = np.cumsum(jumps[order] + lengths[order])
    firsts = np.flatnonzero(np.diff(in_order, prepend=-1))
    before = np.where(firsts, ends[firsts - 1], 0)
    sizes = np.diff(firsts, append=len(order))
    starts = np.empty(len(order), dtype=np.int64)
    starts[order] = ends - lengths[order] - np.repeat(before, sizes)
    return starts
