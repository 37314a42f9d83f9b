"""Matching: which records of new chunks are those of past chunks in their place."""

import numpy as np
from numpy.typing import NDArray

from penstock.repository.extents import I64, U64
from penstock.repository.known.window import PastRecords

__all__ = ["match"]

#: Fewer known bytes between new ones are stored again: they cost less than what says where they are.
_FEWEST = 48


def match(hashes: U64, lengths: NDArray[np.uint16], past: PastRecords, edges: tuple[int, int]) -> list[tuple[int, int]]:
    """Runs of bytes that make these records: where each begins in the past stream, or -1 for new ones; and its length.

    `edges` are where the past chunks begin, and where they end or -1: what adjoins them there costs nothing.
    """
    runs = _Runs()
    # Most is as it was, in front of what changed and behind it: found in arrays, for a loop would take far longer.
    before = _alike(hashes, past.hashes)
    after = _alike(hashes[before:][::-1], past.hashes[before:][::-1])
    end = len(hashes) - after
    runs.add_past(past.starts[:before], lengths[:before])
    if before < end:
        _search(hashes[before:end].tolist(), lengths[before:end], past, before, runs)
    runs.add_past(past.starts[len(past.starts) - after :], lengths[end:])
    return _without_few(runs.found, edges)


def _alike(one: U64, other: U64) -> int:
    """How many of both are the same from the beginning on."""
    size = min(len(one), len(other))
    if not size:
        return 0
    differing = one[:size] != other[:size]
    first = int(differing.argmax())
    return first if differing[first] else size


def _search(hashes: list[int], lengths: NDArray[np.uint16], past: PastRecords, following: int, runs: "_Runs") -> None:
    """Look for each of these: it is the next one of the past, `following` at first, or any, since rows are repeated."""
    known = past.hashes.tolist()
    numbers: dict[int, int] | None = None
    at, size = 0, len(hashes)
    while at < size:
        first, number = at, following
        while at < size and number < len(known) and known[number] == hashes[at]:
            at += 1
            number += 1
        runs.add_past(past.starts[following:number], lengths[first:at])
        first, following = at, number
        while at < size and not (number < len(known) and known[number] == hashes[at]):
            if numbers is None:
                numbers = dict(zip(known, range(len(known)), strict=True))
            if (following := numbers.get(hashes[at], -1)) >= 0:
                break
            following = number
            at += 1
        if at > first:
            runs.add(-1, int(lengths[first:at].sum()))


class _Runs:
    """Runs that are joined where they adjoin."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int]] = []

    def add(self, start: int, size: int) -> None:
        """Bytes of the past stream, or new ones (-1)."""
        if self.found:
            where, length = self.found[-1]
            if start == (where + length if where >= 0 else -1):
                self.found[-1] = (where, length + size)
                return
        self.found.append((start, size))

    def add_past(self, starts: I64, lengths: NDArray[np.uint16]) -> None:
        """Records of the past stream, in its order; some in between may be missing."""
        if not len(starts):
            return
        size, first = int(lengths.sum()), int(starts[0])
        if first + size == int(starts[-1]) + int(lengths[-1]):
            self.add(first, size)
            return
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            self.add(start, length)


def _without_few(found: list[tuple[int, int]], edges: tuple[int, int]) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    last = len(found) - 1
    for at, (start, size) in enumerate(found):
        adjoins = (at == 0 and start == edges[0]) or (at == last and start + size == edges[1])
        where = start if size >= _FEWEST or adjoins else -1
        if where < 0 and kept and kept[-1][0] < 0:
            kept[-1] = (-1, kept[-1][1] + size)
        else:
            kept.append((where, size))
    return kept
