"""Content-defined chunking: FastCDC (Xia et al., USENIX ATC 2016; the 2020 variant of IEEE TPDS 31(9)), seeded.

The seed comes from the repository's secret, so that chunk lengths tell a stranger nothing about known content.
Only writers need to cut; a reader of the repository never does.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from zlib import crc32

from pyfastcdc import FastCDC

from penstock.format.encoding import Malformed, integer

__all__ = ["Chunker", "ChunkerParameters"]

_ALGORITHM = "fastcdc-2020"
#: Chunk lengths are stored in two bytes.
_LARGEST = 0xFFFF
_REQUIRED = ("minimum", "average", "maximum", "normalization")
_OPTIONAL = ("joined_below", "split_above")
#: Seeds of the second and third cutter: so much more than the one before (2**64 by the golden ratio), of 63 bits, odd.
_SEED_STEP = 0x9E3779B97F4A7C15
_SEEDS = 3
_length = attrgetter("length")
#: Of a piece's CRC-32: none of these bits set, and it is not joined.
_JOINED = 15


@dataclass(frozen=True, slots=True)
class ChunkerParameters:
    """Sizes in bytes; they are fixed when a repository is made, for other sizes would find no common chunks.

    The algorithm looks at two bytes at a time, so an odd `minimum` allows chunks of one byte less.

    Dumps are full of text that repeats, where few windows differ: FastCDC's cuts are then in every row of a table, or
    nowhere. A piece longer than `split_above` (0: none) is cut again under the next of three seeds, with `average` for
    the minimum; and of two short pieces (`joined_below`; 0: none) that follow one another, the first goes with the
    second, but for one in sixteen, which its own content chooses. A larger `minimum` does not serve the second purpose:
    it skips some of those cuts, and then all cuts behind a change depend on where it was. (In a piece that is cut again
    that ends with the piece.)

    The defaults give chunks of 1 to 2 KiB on average on database dumps (0.6 KiB on random bytes): see
    docs/adr/0002-chunk-size.md for the measurement.
    """

    minimum: int = 64
    average: int = 512
    maximum: int = 32768
    normalization: int = 0
    split_above: int = 3072
    joined_below: int = 256

    def __post_init__(self) -> None:
        if not (64 <= self.minimum <= self.average <= self.maximum <= _LARGEST and self.average >= 256):
            raise Malformed("chunker parameters are out of range")
        if self.normalization not in (0, 1, 2, 3) or self.maximum < 1024:
            raise Malformed("chunker parameters are out of range")
        if not (0 <= self.joined_below <= _LARGEST and 0 <= self.split_above <= _LARGEST):
            raise Malformed("chunker parameters are out of range")
        if 0 < self.split_above < self.joined_below:
            raise Malformed("chunker parameters are out of range")

    def to_json(self) -> dict[str, Any]:
        """As they stand in penstock.json."""
        optional = {name: value for name in _OPTIONAL if (value := getattr(self, name))}
        return {"algorithm": _ALGORITHM, **{name: getattr(self, name) for name in _REQUIRED}, **optional}

    @classmethod
    def from_json(cls, value: Any) -> "ChunkerParameters":
        """The reverse of `to_json`; raises `Malformed`."""
        if not isinstance(value, dict) or value.get("algorithm") != _ALGORITHM:
            raise Malformed("an unknown chunking algorithm")
        required = {name: integer(value, name) for name in _REQUIRED}
        optional = {name: integer(value, name) if name in value else 0 for name in _OPTIONAL}
        if not all(optional[name] for name in _OPTIONAL if name in value):
            raise Malformed("a chunker parameter that stands for nothing is left out")
        return cls(**required, **optional)


class Chunker:
    """Cuts one buffer after the other. Not to be shared between threads."""

    def __init__(self, parameters: ChunkerParameters, seed: int) -> None:
        self._parameters = parameters
        self._join_key = seed & 0xFFFFFFFF
        self._cutters = [
            FastCDC(
                parameters.average,
                min_size=parameters.average if number else parameters.minimum,
                max_size=parameters.maximum,
                normalized_chunking=parameters.normalization,  # type: ignore[arg-type]  # range checked there
                seed=(seed + number * _SEED_STEP) % 2**63 | 1,
            )
            for number in range(_SEEDS if parameters.split_above else 1)
        ]

    @property
    def longest_rest(self) -> int:
        """What a caller must be ready to carry from one buffer to the next, in bytes."""
        parameters = self._parameters
        return 2 * parameters.maximum if parameters.joined_below else parameters.maximum

    def cut(self, data: memoryview, *, last: bool) -> list[int]:
        """The lengths of the chunks that `data` begins with.

        The rest (not longer than `longest_rest`) is left for the caller to put in front of the next buffer, because
        where it is cut depends on what follows; with `last` it is a chunk too. The cuts do not depend on how a stream
        was divided into buffers.
        """
        pieces = [*map(_length, self._cutters[0].cut_buf(data))]
        if pieces and not last:
            # The final cut may only be there because the buffer ends.
            pieces.pop()
        parameters = self._parameters
        above, below, maximum = parameters.split_above, parameters.joined_below, parameters.maximum
        key = self._join_key
        if not pieces or not (above or below):
            return pieces
        long = above and max(pieces) > above
        following = [*pieces[1:], maximum if last else 0]
        lengths: list[int] = []
        length = end = 0
        for piece, after in zip(pieces, following, strict=True):
            end += piece
            if long and piece > above:
                lengths += self._split(data[end - piece : end])
                continue
            length += piece
            # Asked in the order of what the answers cost.
            if (
                piece < below
                and after < below
                and length + after <= maximum
                and crc32(data[end - piece : end], key) & _JOINED
            ):
                continue
            lengths.append(length)
            length = 0
        return lengths

    def _split(self, data: memoryview) -> list[int]:
        """Cut a long piece again under the second seed, and what is still too long under the third."""
        _, second, third = self._cutters
        above = self._parameters.split_above
        pieces = [*map(_length, second.cut_buf(data))]
        if max(pieces) <= above:
            return pieces
        lengths: list[int] = []
        start = 0
        for piece in pieces:
            if piece <= above:
                lengths.append(piece)
            else:
                lengths += map(_length, third.cut_buf(data[start : start + piece]))
            start += piece
        return lengths
