"""The id of a new domain, chosen so that its chunker cuts tables of padded rows evenly.

Such tables have few distinct windows. A seed that does not cut in the padding rarely cuts at all: long chunks, and a
changed row spoils a whole one. A seed that does could cut in every row: chunks of the minimum, whose entries cost more
than they find, and every cut after a change depends on where the change was. Several candidates cut a table of
generated rows, and the best is taken; the choice is worth five bits of 256 to an attacker.
"""

from collections.abc import Iterator

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.encoding import new_id
from penstock.format.keys import RootSecret

__all__ = ["even_domain"]

_CANDIDATES = 32
#: Bytes. Chunks smaller than this on average cost more in directories and CPU than they save.
_SMALLEST_MEAN = 5000
#: Bytes that fill unused space in files and tables.
_FILLINGS = (b"\0", b" ", b"0", b"\xff")
_FILLED = 16 * 1024


def even_domain(root: RootSecret, parameters: ChunkerParameters) -> bytes:
    """The id of a new domain: under its seed, the chunk around a changed byte is small on average."""
    table = memoryview(b"".join(_rows()))
    fillings = [memoryview(filling * _FILLED) for filling in _FILLINGS]
    best: tuple[bool, float, bytes] | None = None
    for _ in range(_CANDIDATES):
        domain = new_id()
        chunker = Chunker(parameters, root.domain(domain).chunker_seed)
        lengths = chunker.cut(table, last=True)
        spoiled = sum(length * length for length in lengths) / len(table)
        small = _small(lengths, table)
        if best is not None and (small, spoiled) >= best[:2]:
            continue
        # Each filling separately: taken together, the uncut ones would hide one that is cut to pieces.
        small = small or any(_small(chunker.cut(filling, last=True), filling) for filling in fillings)
        candidate = (small, spoiled, domain)
        best = candidate if best is None else min(best, candidate)
    assert best is not None
    return best[2]


def _small(lengths: list[int], data: memoryview) -> bool:
    return len(lengths) * _SMALLEST_MEAN > len(data)


def _rows() -> Iterator[bytes]:
    """A megabyte in COPY format: a number, two small ones, and padding."""
    for first in range(7_000, 3_000_000, 28_789):
        for number in range(first, first + 100):
            yield b"%d\t%d\t0\t%84s\n" % (number, number // 100_000 + 1, b"")
