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
#: A chunk ends with a row that ends within so many bytes of its cut; fewer, where chunks may be smaller than that.
_REACH = 1024
_NAMES = ("minimum", "average", "maximum", "normalization")
_length = attrgetter("length")


@dataclass(frozen=True, slots=True)
class ChunkerParameters:
    """Sizes in bytes, fixed when a domain is created: different sizes would find no common chunks.

    The algorithm looks at two bytes at a time, so an odd `minimum` allows chunks one byte shorter.

    The defaults average 3 to 5 KiB a chunk on database dumps, and 2.4 KiB on random bytes: see
    docs/adr/0002-chunk-size.md for the measurement.
    """

    minimum: int = 1024
    average: int = 1536
    maximum: int = 65535
    normalization: int = 1

    def __post_init__(self) -> None:
        if not (64 <= self.minimum <= self.average <= self.maximum <= _LARGEST and self.average >= 256):
            raise Malformed("chunker parameters are out of range")
        if self.normalization not in (0, 1, 2, 3) or self.maximum < 1024:
            raise Malformed("chunker parameters are out of range")

    @property
    def reach(self) -> int:
        """How far behind a cut a chunk may end, in bytes. FastCDC looks at none of so many bytes behind its cuts."""
        return min(_REACH, self.minimum // 2 * 2)

    @property
    def longest_rest(self) -> int:
        """The most that whoever cuts must be ready to carry from one buffer to the next, in bytes."""
        return self.maximum + 2 * self.reach

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
    """Cuts a stream, one buffer after another. Not thread-safe.

    With a `separator`, a chunk ends behind the first one that ends at FastCDC's cut or soon after it, at most `reach`
    of the parameters, and the next chunk begins there. It ends at the cut if there is none, or if it would get too
    long. FastCDC itself goes on from its cut: one pass over a buffer finds all cuts.
    """

    def __init__(self, parameters: ChunkerParameters, seed: int, separator: bytes = b"") -> None:
        self._separator = separator
        self._reach = parameters.reach
        self._cutter = FastCDC(
            parameters.average,
            min_size=parameters.minimum,
            max_size=parameters.maximum,
            normalized_chunking=parameters.normalization,  # type: ignore[arg-type]  # range checked there
            seed=seed,
        )
        #: How many bytes before the end of the last chunk its cut was. The next chunks depend on it and on their bytes.
        self.lag = 0

    def cut(self, data: memoryview, *, last: bool) -> list[int]:
        """The lengths of the next chunks, of which the first begins `lag` bytes behind the start of `data`.

        The caller puts the rest, from the last chunk's cut on (at most `longest_rest` of the parameters), in front of
        the next buffer, because its cuts depend on what follows; with `last`, the rest is a chunk too. The cuts do not
        depend on how a stream is divided into buffers.
        """
        return [length for length, _ in self.each(data, last=last)]

    def each(self, data: memoryview, *, last: bool) -> Iterator[tuple[int, int]]:
        """As `cut`, each length with its `lag` when it is asked for: whoever stops early spares the rest."""
        separator, longest, size = self._separator, self._reach, len(data)
        around = len(separator)
        begin, cut = self.lag, 0
        for length in map(_length, self._cutter.cut_buf(data)):
            cut += length
            if cut <= begin:
                continue  # the row before went on beyond it
            end = cut
            if separator and cut < size:
                back = min(around, cut - begin)
                reach = min(longest, _LARGEST - (cut - begin))
                found = data[cut - back : cut + reach].tobytes().find(separator)
                if found >= 0:
                    end = cut + found - back + around
                elif cut + reach > size and not last:
                    return  # what follows decides
            if end >= size and not last:
                return  # the final cut may only come from the end of the buffer
            self.lag = end - cut
            yield end - begin, end - cut
            begin = end
        if last:
            self.lag = 0
