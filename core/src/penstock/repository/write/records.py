"""Records: the pieces of a chunk that a writer finds again one by one, by a keyed hash of each.

Where a source names its separator (the end of a row), a record ends behind it; else where the content itself says. In
arrays, not in loops of Python: a dump has millions of them.

The hash decides alone, without the bytes it stands for, whether a record is known; so nobody who writes rows into the
database may find two with one hash. It is multilinear over words of 32 bits (Lemire and Kaser, *Strongly universal
string hashing is fast*, The Computer Journal 57(11), 2014), twice, under independent secret keys: two different records
have one hash of 64 bits with a probability of 2^-64, whatever they are. See docs/adr/0017-records.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from penstock.repository.extents import I64, U64, within

__all__ = ["BLOCK", "LONGEST", "RecordCutter", "Records"]

#: Bytes of a record at most: longer ones are cut after every so many. Hashing takes a step for each eight.
LONGEST = 1024
#: A cut so many bytes after the one before stays; of those that follow sooner, one in four does, as its content says.
#: Cuts that the content chose all stay: the same bits have chosen them.
_NEAR = 64
#: Bytes before a place that choose whether it is one.
_SEEN = 8
#: More than one record in so many bytes: then no record of the batch is worth its entry.
_DENSEST = 24
#: Where no separator is named: one place in so many, about, ends a record.
_CHOSEN = np.uint64(2**64 // 128)
#: So many places are looked at together.
_PIECE = 1 << 15
_CONTEXT = "penstock/1 record hashes"
#: Bytes that are hashed in one step: `data` must go on for so many behind what is cut.
BLOCK = 128
_HALVES = BLOCK // 4
_KEYS = LONGEST // BLOCK * _HALVES
#: Records that are hashed together.
_GROUP = 2048

_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
#: For each number of bytes, what keeps so many of a block.
_MASKS = np.tril(np.full((BLOCK + 1, BLOCK), 255, dtype=np.uint8), -1).view(f"V{BLOCK}").reshape(-1)


class Records(NamedTuple):
    """Records of consecutive chunks: the hash and the length of each, and how many each chunk has."""

    hashes: U64
    lengths: NDArray[np.uint16]
    counts: I64


class RecordCutter:
    """Cuts chunks into records and hashes these, under keys that come from a secret of the domain."""

    def __init__(self, chunk_key: bytes, separator: bytes) -> None:
        secret = blake3(chunk_key, derive_key_context=_CONTEXT).digest((2 * _KEYS + 5) * 8)
        keys = np.frombuffer(secret, dtype="<u8")
        self._keys = keys[: 2 * _KEYS].reshape(2, _KEYS)
        #: For the number of bytes, and to begin with: a pair of each.
        self._of_length, self._first = keys[2 * _KEYS : -1].reshape(2, 2)
        self._mixer, self._added = keys[-1] | np.uint64(1), self._first[0]
        self._separator = separator

    def records(self, data: NDArray[np.uint8], spans: Sequence[tuple[int, int]], lengths: Sequence[int]) -> Records:
        """The records of chunks of these `lengths`, which fill the `spans` (start, end) of `data` one after another.

        `data` goes on for `BLOCK` bytes or more after the last span. What records a chunk has depends on nothing else.
        """
        if len(spans) == 1:
            data = data[spans[0][0] :]
        else:
            data = np.concatenate([*(data[start:end] for start, end in spans), np.zeros(BLOCK, dtype=np.uint8)])
        chunk_ends = np.cumsum(lengths, dtype=np.int64)
        size = int(chunk_ends[-1])
        cuts, counts = self._thinned(data, self._cuts(data[:size]), chunk_ends)
        if len(cuts) > len(chunk_ends) and len(cuts) * _DENSEST > size:
            return Records(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint16), np.zeros_like(chunk_ends))
        lengths_of = np.diff(cuts, prepend=0)
        return Records(self._hashes(data, cuts - lengths_of, lengths_of), lengths_of.astype(np.uint16), counts)

    def _cuts(self, data: NDArray[np.uint8]) -> I64:
        """Where records end, wherever chunks do."""
        separator = self._separator
        if not separator:
            return self._by_content(data)
        found = np.flatnonzero(data == separator[-1])
        for back in range(1, len(separator)):
            found = found[found >= back]
            found = found[data[found - back] == separator[-1 - back]]
        return found + 1

    def _by_content(self, data: NDArray[np.uint8]) -> I64:
        """Cuts behind places that the eight bytes before choose."""
        found = [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(data) - 7, _PIECE):
            places = min(_PIECE, len(data) - 7 - start)
            words = np.ndarray((places,), dtype="<u8", buffer=data[start:].data, strides=(1,))
            found.append(np.flatnonzero((words + self._added) * self._mixer < _CHOSEN) + (start + 8))
        return np.concatenate(found)

    def _thinned(self, data: NDArray[np.uint8], cuts: I64, chunk_ends: I64) -> tuple[I64, I64]:
        """Where records end at last, chunks included, and how many each chunk has.

        Of cuts that lie close together most go: the content decides, so that a change moves no other cut. Records that
        are too long are cut.
        """
        # What lies before a chunk has no say in it: cuts that saw some of that go.
        chunk_starts = np.concatenate((np.zeros(1, dtype=np.int64), chunk_ends[:-1]))
        first = np.searchsorted(cuts, chunk_starts, side="right")
        early = np.searchsorted(cuts, chunk_starts + max(_SEEN, len(self._separator))) - first
        if early.any():
            cuts = np.delete(cuts, np.repeat(first, early) + within(early))
        places = np.searchsorted(cuts, chunk_ends)
        new = np.ones(len(places), dtype=np.bool_)
        inside = places < len(cuts)
        new[inside] = cuts[places[inside]] != chunk_ends[inside]
        cuts = np.insert(cuts, places[new], chunk_ends[new])
        # The numbers of the last cut of each chunk, as they are now.
        last = places + np.cumsum(new) - new
        near = np.diff(cuts, prepend=-_NEAR) < _NEAR
        near[last] = near[np.minimum(last + 1, len(cuts) - 1)] = False
        some = np.flatnonzero(near)
        if len(some):
            words = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data.data, strides=(1,))
            mixed = (words[cuts[some] - _SEEN] + self._added) * self._mixer >> np.uint64(62)
            near[some] = mixed != 0
            cuts = cuts[~near]
            last -= np.cumsum(near)[last]
        pieces = (np.diff(cuts, prepend=0) - 1) // LONGEST + 1
        if len(pieces) and int(pieces.max()) > 1:
            first = cuts - np.diff(cuts, prepend=0)
            number = within(pieces)
            cuts = np.minimum(np.repeat(first, pieces) + (number + 1) * LONGEST, np.repeat(cuts, pieces))
            last = np.cumsum(pieces)[last] - 1
        return cuts, np.diff(last, prepend=-1)

    def _hashes(self, data: NDArray[np.uint8], starts: I64, lengths: I64) -> U64:
        hashes: U64 = np.empty(len(starts), dtype=np.uint64)
        blocks = np.ndarray((len(data) - BLOCK + 1,), dtype=f"V{BLOCK}", buffer=data.data, strides=(1,))
        for first in range(0, len(starts), _GROUP):
            some = slice(first, first + _GROUP)
            hashes[some] = self._hashes_of(blocks, starts[some], lengths[some])
        return hashes

    def _hashes_of(self, blocks: NDArray[np.void], starts: I64, lengths: I64) -> U64:
        sizes = lengths.astype(np.uint64)
        sums = [first + factor * sizes for first, factor in zip(self._first, self._of_length, strict=True)]
        rows: I64 | slice = slice(None)
        left = lengths
        for step in range(LONGEST // BLOCK):
            # The next block of those that have one, filled up with zeroes.
            words = blocks[starts[rows] + BLOCK * step].view("<u8").reshape(-1, BLOCK // 8)
            words &= _MASKS.take(left, mode="clip").view("<u8").reshape(-1, BLOCK // 8)
            halves = words.view("<u4").astype(np.uint64)
            for total, keys in zip(sums, self._keys, strict=True):
                total[rows] += np.vecdot(halves, keys[step * _HALVES : (step + 1) * _HALVES])
            rows = np.flatnonzero(lengths > BLOCK * (step + 1))
            if not len(rows):
                break
            left = lengths[rows] - BLOCK * (step + 1)
        one, two = sums
        joined: U64 = one & ~_LOW | two >> _HIGH
        return joined
