"""Content-defined chunking: FastCDC (Xia et al., USENIX ATC 2016; the 2020 variant of IEEE TPDS 31(9)), seeded.

The seed derives from the repository's secret, so chunk lengths reveal nothing about known content to outsiders.
Only writers cut; readers of a repository never do.

Where a stream has a separator, chunks end with a row: a cut that moves splits no other row than the one that changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pyfastcdc import FastCDC

from penstock.format.encoding import Malformed, integer

__all__ = ["Chunker", "ChunkerParameters"]

_ALGORITHM = "fastcdc-2020"
#: Chunk lengths are stored in two bytes.
_LARGEST = 0xFFFF
#: A cut moves on to the end of a row, if one ends within so many bytes.
_REACH = 1024
_NAMES = ("minimum", "average", "maximum", "normalization")
_length = attrgetter("length")


@dataclass(frozen=True, slots=True)
class ChunkerParameters:
    """Sizes in bytes, fixed when a domain is created: different sizes would find no common chunks.

    The algorithm looks at two bytes at a time, so an odd `minimum` allows chunks one byte shorter.

    The defaults average 3 to 6 KiB a chunk on database dumps, and 3 KiB on random bytes: see
    docs/adr/0002-chunk-size.md for the measurement.
    """

    minimum: int = 1024
    average: int = 2048
    maximum: int = 65535
    normalization: int = 0

    def __post_init__(self) -> None:
        if not (64 <= self.minimum <= self.average <= self.maximum <= _LARGEST and self.average >= 256):
            raise Malformed("chunker parameters are out of range")
        if self.normalization not in (0, 1, 2, 3) or self.maximum < 1024:
            raise Malformed("chunker parameters are out of range")

    @property
    def longest_rest(self) -> int:
        """The most that whoever cuts must be ready to carry from one buffer to the next, in bytes."""
        return self.maximum + _REACH

    def to_json(self) -> dict[str, Any]:
        """The form stored in the owner's log."""
        return {"algorithm": _ALGORITHM, **{name: getattr(self, name) for name in _NAMES}}

    @classmethod
    def from_json(cls, value: Any) -> "ChunkerParameters":
        """The reverse of `to_json`; raises `Malformed`."""
        if not isinstance(value, dict) or value.get("algorithm") != _ALGORITHM:
            raise Malformed("unknown chunking algorithm")
        return cls(**{name: integer(value, name) for name in _NAMES})


class Chunker:
    """Cuts one buffer after another. Not thread-safe.

    With a `separator`, a chunk ends behind the first one that ends at FastCDC's cut or up to 1,024 bytes after it, and
    the next chunk begins there. The cut stays where it is if there is none, or if the chunk would get too long.
    """

    def __init__(self, parameters: ChunkerParameters, seed: int, separator: bytes = b"") -> None:
        self._separator = separator
        self._cutter = FastCDC(
            parameters.average,
            min_size=parameters.minimum,
            max_size=parameters.maximum,
            normalized_chunking=parameters.normalization,  # type: ignore[arg-type]  # range checked there
            seed=seed,
        )

    def cut(self, data: memoryview, *, last: bool) -> list[int]:
        """The lengths of the chunks at the start of `data`.

        The caller puts the rest (at most `longest_rest` of the parameters) in front of the next buffer, because its
        cuts depend on what follows; with `last`, the rest is a chunk too. The cuts do not depend on how a stream is
        divided into buffers.
        """
        if self._separator:
            return list(self.each(data, last=last))
        lengths = [*map(_length, self._cutter.cut_buf(data))]
        if lengths and not last:
            # The final cut may only come from the end of the buffer.
            lengths.pop()
        return lengths

    def each(self, data: memoryview, *, last: bool) -> Iterator[int]:
        """As `cut`, each length when it is asked for: whoever stops early spares the rest."""
        cut, separator, size = self._cutter.cut_buf, self._separator, len(data)
        around = len(separator)
        begin = 0
        while begin < size:
            length = next(cut(data[begin:])).length
            end = begin + length
            if separator and end < size:
                back = min(around, length)
                reach = min(_REACH, _LARGEST - length)
                found = data[end - back : end + reach].tobytes().find(separator)
                if found >= 0:
                    end += found - back + around
                elif end + reach > size and not last:
                    return  # what follows decides
            if end >= size and not last:
                return
            yield end - begin
            begin = end
