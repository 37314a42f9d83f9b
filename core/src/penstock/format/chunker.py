"""Content-defined chunking: FastCDC (Xia et al., USENIX ATC 2016; the 2020 variant of IEEE TPDS 31(9)), seeded.

The seed derives from the repository's secret, so chunk lengths reveal nothing about known content to outsiders.
Only writers cut; readers of a repository never do.
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
#: Difference between the seeds of successive cutters (2**64 over the golden ratio); seeds have 63 bits and are odd.
_SEED_STEP = 0x9E3779B97F4A7C15
_SEEDS = 3
_length = attrgetter("length")
#: A piece is not joined if none of these bits of its CRC-32 is set.
_JOINED = 15


@dataclass(frozen=True, slots=True)
class ChunkerParameters:
    """Sizes in bytes, fixed when a repository is created: different sizes would find no common chunks.

    The algorithm looks at two bytes at a time, so an odd `minimum` allows chunks one byte shorter.

    Dumps are full of repetitive text with few distinct windows, so FastCDC cuts in every row of a table, or nowhere.
    A piece longer than `split_above` (0: off) is cut again under the next of three seeds, with `average` as the
    minimum. Of two consecutive pieces shorter than `joined_below` (0: off), the first is joined to the second, except
    for one in sixteen, chosen by its own content. A larger `minimum` is no substitute for joining: it skips some of
    those cuts, and then every cut after a change depends on where the change was. (In a piece that is cut again, this
    effect ends with the piece.)

    The defaults average 1 to 2 KiB a chunk on database dumps, and 0.6 KiB on random bytes: see
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
        """The form stored in penstock.json."""
        optional = {name: value for name in _OPTIONAL if (value := getattr(self, name))}
        return {"algorithm": _ALGORITHM, **{name: getattr(self, name) for name in _REQUIRED}, **optional}

    @classmethod
    def from_json(cls, value: Any) -> "ChunkerParameters":
        """The reverse of `to_json`; raises `Malformed`."""
        if not isinstance(value, dict) or value.get("algorithm") != _ALGORITHM:
            raise Malformed("unknown chunking algorithm")
        required = {name: integer(value, name) for name in _REQUIRED}
        optional = {name: integer(value, name) if name in value else 0 for name in _OPTIONAL}
        if not all(optional[name] for name in _OPTIONAL if name in value):
            raise Malformed("an optional chunker parameter is 0: it must be left out")
        return cls(**required, **optional)


class Chunker:
    """Cuts one buffer after another. Not thread-safe."""

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
        """The most that a caller must be ready to carry from one buffer to the next, in bytes."""
        parameters = self._parameters
        return 2 * parameters.maximum if parameters.joined_below else parameters.maximum

    def cut(self, data: memoryview, *, last: bool) -> list[int]:
        """The lengths of the chunks at the start of `data`.

        The caller puts the rest (at most `longest_rest`) in front of the next buffer, because its cuts depend on what
        follows; with `last`, the rest is a chunk too. The cuts do not depend on how a stream is divided into buffers.
        """
        pieces = [*map(_length, self._cutters[0].cut_buf(data))]
        if pieces and not last:
            # The final cut may only come from the end of the buffer.
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
            # Cheapest condition first.
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
        """Cut a long piece again under the second seed, and whatever is still too long under the third."""
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
