"""Matching: which records of new chunks are those of past chunks in their place."""

from collections.abc import Sequence

from penstock.repository.known.window import PastRecords

__all__ = ["match"]

#: Fewer known bytes between new ones are stored again: they cost less than what says where they are.
_FEWEST = 48


def match(
    hashes: Sequence[int], lengths: Sequence[int], past: PastRecords, edges: tuple[int, int]
) -> list[tuple[int, int]]:
    """Runs of bytes that make these records: where each begins in the past stream, or -1 for new ones; and its length.

    `edges` are where the past chunks begin, and where they end or -1: what adjoins them there costs nothing.
    """
    found: list[tuple[int, int]] = []
    numbers: dict[int, int] | None = None
    known, starts = past.hashes, past.starts
    following, end = 0, len(known)
    where, size = -1, 0
    for one, length in zip(hashes, lengths, strict=True):
        # The next in the past, or any: rows may be repeated.
        if following < end and known[following] == one:
            number = following
        else:
            if numbers is None:
                numbers = dict(zip(known, range(end), strict=True))
            number = numbers.get(one, -1)
        start = -1
        if number >= 0:
            start = starts[number]
            following = number + 1
        if start == (where + size if where >= 0 else -1):
            size += length
        else:
            if size:
                found.append((where, size))
            where, size = start, length
    if size:
        found.append((where, size))
    return _without_few(found, edges)


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
