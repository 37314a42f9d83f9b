"""The index secret of a new repository: one whose chunker cuts tables of padded rows evenly.

In such tables few windows differ, so a seed that finds no cut in the padding sees a cut now and then, and one that does
find it sees some in every row: chunks of 5 KiB, of which a changed row spoils a whole one, or of 500 bytes, whose
entries outweigh the data, from pieces of 64, which take time to put together. Of a few secrets the best is taken, by
what it makes of made-up rows; which of them it was is worth five bits of 256 to an attacker.
"""

from collections.abc import Iterator
from dataclasses import replace

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.keys import IndexSecret, new_secret

__all__ = ["even_index_secret"]

_CANDIDATES = 32
#: Bytes. Smaller chunks on average cost more in directories and in CPU than they save, and so do smaller pieces.
_SMALLEST_MEAN = 1400
#: What fills the space in files and tables.
_FILLINGS = (b"\0", b" ", b"0", b"\xff")
_FILLED = 16 * 1024


def even_index_secret(repository: bytes, parameters: ChunkerParameters) -> bytes:
    """A new index secret for `repository`, for whose seed the chunk that a changed byte lies in is small on average."""
    table = memoryview(b"".join(_rows()))
    fillings = [memoryview(filling * _FILLED) for filling in _FILLINGS]
    first_cut = replace(parameters, joined_below=0, split_above=0)
    best: tuple[bool, float, bytes] | None = None
    for _ in range(_CANDIDATES):
        secret = new_secret()
        seed = IndexSecret(secret, repository).chunker_seed
        whole, pieces = Chunker(parameters, seed), Chunker(first_cut, seed)
        lengths = whole.cut(table, last=True)
        spoiled = sum(length * length for length in lengths) / len(table)
        if best is not None and (_small(lengths, table), spoiled) >= best[:2]:
            continue
        # Each filling by itself: of all together, those that are not cut would hide the one that is.
        cuts = [(lengths, table), (pieces.cut(table, last=True), table)]
        cuts += [(cutter.cut(filling, last=True), filling) for filling in fillings for cutter in (pieces, whole)]
        candidate = (any(_small(*cut) for cut in cuts), spoiled, secret)
        best = candidate if best is None else min(best, candidate)
    assert best is not None
    return best[2]


def _small(lengths: list[int], data: memoryview) -> bool:
    return len(lengths) * _SMALLEST_MEAN > len(data)


def _rows() -> Iterator[bytes]:
    """A megabyte in the form of COPY: a number, two small ones, and padding."""
    for first in range(7_000, 3_000_000, 28_789):
        for number in range(first, first + 100):
            yield b"%d\t%d\t0\t%84s\n" % (number, number // 100_000 + 1, b"")
