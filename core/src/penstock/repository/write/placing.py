"""The places of chunks: found in packs, made of records of the past stream, or stored."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from penstock.repository.known.known_pack import KnownPack
from penstock.repository.known.window import Window
from penstock.repository.write.cutting import Chunks
from penstock.repository.write.matching import match
from penstock.repository.write.packer import Packer, Stored
from penstock.repository.write.records import Records
from penstock.repository.write.table import TableBuilder

__all__ = ["PAST", "Finder", "Place", "Run", "little_known"]

#: A batch of which at most one chunk in 16, and one byte in 128, is known or repeated counts as little known.
_LITTLE_CHUNKS = 16
_LITTLE_BYTES = 128
_SAMPLE = 512

#: In the place of a segment's number: the bytes are of the past stream.
PAST = -1


class Run(NamedTuple):
    """Bytes of a segment, by its number in the segment table, or of the past stream (`PAST`)."""

    segment: int
    start: int
    length: int


class Place(NamedTuple):
    """Past chunks in whose place new ones stand; `closed` if the one behind them was found again."""

    window: Window
    first: int
    end: int
    closed: bool


class Finder:
    """Finds or stores those chunks of one batch that are no past ones. With None for `packs`, all are stored.

    Runs make it fast: known chunks that follow one another in their pack, and new ones that are stored together.
    `distrust` is told of packs that turn out to lie about lengths of chunks.
    """

    def __init__(
        self,
        packer: Packer,
        packs: Sequence[KnownPack] | None,
        table: TableBuilder,
        chunks: Chunks,
        records: Records | None,
        distrust: Callable[[KnownPack], None],
    ) -> None:
        self._packer = packer
        self._packs = packs
        self._table = table
        self._chunks = chunks
        self._records = records
        self._distrust = distrust
        #: 1 for each chunk that turned out to lie in one piece in a pack, or that others can find there all the same.
        self.whole = bytearray(len(chunks.ids))
        self._firsts = np.concatenate(([0], np.cumsum(records.counts))) if records is not None else None

    def placed(self, begin: int, end: int, shift: int, place: Place | None) -> Iterator[Run]:
        """Where chunks are, from `begin` to before `end`; the first is number `begin + shift` of those with records."""
        if self._packs is None:
            yield from self._stored(begin, end, shift, place)
            return
        ids = self._chunks.ids
        new: set[bytes] = set()
        run: KnownPack | None = None
        first = following = 0
        for at in range(begin, end):
            chunk = ids[at]
            if run is not None and run.chunks.get(chunk) == following:
                self.whole[at] = 1
                following += 1
                continue
            if run is not None:
                yield from self._known(run, first, following, at, shift, place)
            if chunk in new:
                # Store it so that it can be found. That may close the pack, and then it is new again.
                yield from self._stored(begin, at, shift, place)
                new.clear()
            run, first = self._find(chunk)
            if run is None:
                if not new:
                    begin = at
                new.add(chunk)
            else:
                self.whole[at] = 1
                if new:
                    yield from self._stored(begin, at, shift, place)
                    new.clear()
            following = first + 1
        if new:
            yield from self._stored(begin, end, shift, place)
        if run is not None:
            yield from self._known(run, first, following, end, shift, place)

    def _find(self, chunk: bytes) -> tuple[KnownPack | None, int]:
        for pack in self._packs or ():
            if (number := pack.chunks.get(chunk)) is not None:
                return pack, number
        own = self._packer.known
        if (number := own.chunks.get(chunk)) is not None:
            return own, number
        return None, 0

    def _known(
        self, pack: KnownPack, first: int, end: int, stop: int, shift: int, place: Place | None
    ) -> Iterator[Run]:
        """Where the chunks before number `stop` of the batch are: those from `first` to before `end` of a pack."""
        begin = stop - (end - first)
        starts = self._chunks.starts
        extents = list(pack.extents(first, end))
        if sum(length for *_, length in extents) == starts[stop] - starts[begin]:
            for origin, segment, start, length in extents:
                yield Run(self._table.number(origin, segment), start, length)
            return
        # Whoever wrote it lies about lengths: what follows would lie elsewhere in the stream.
        self._distrust(pack)
        self._packs = [one for one in self._packs or () if one is not pack]
        self.whole[begin:stop] = bytes(stop - begin)
        yield from self._stored(begin, stop, shift, place)

    def _stored(self, begin: int, end: int, shift: int, place: Place | None) -> Iterator[Run]:
        """Store chunks, or those of their records that are not in their place."""
        starts, data, records = self._chunks.starts, self._chunks.data, self._records
        if place is None or records is None or self._firsts is None:
            yield from self._added(begin, end)
            return
        some = slice(self._firsts[begin + shift], self._firsts[end + shift])
        if some.start == some.stop:
            yield from self._added(begin, end)
            return
        past = place.window.records(place.first, place.end)
        edges = (place.window.start(place.first), place.window.start(place.end) if place.closed else -1)
        at = starts[begin]
        chunk = begin
        for where, length in match(records.hashes[some], records.lengths[some], past, edges):
            if where >= 0:
                yield Run(PAST, where, length)
                at += length
                continue
            # Whole chunks can be found again by anybody; pieces of chunks only by the cache.
            stop = at + length
            while starts[chunk] < at:
                chunk += 1
            last = chunk
            while last < end and starts[last + 1] <= stop:
                last += 1
            if last == chunk:
                yield from self._numbered(self._packer.add_loose(data[at:stop]))
            else:
                yield from self._numbered(self._packer.add_loose(data[at : starts[chunk]]))
                yield from self._added(chunk, last)
                yield from self._numbered(self._packer.add_loose(data[starts[last] : stop]))
            at = stop

    def _added(self, begin: int, end: int) -> Iterator[Run]:
        if begin == end:
            return
        self.whole[begin:end] = bytes([1]) * (end - begin)
        chunks = self._chunks
        data = chunks.data[chunks.starts[begin] : chunks.starts[end]]
        yield from self._numbered(self._packer.add(chunks.ids[begin:end], chunks.lengths[begin:end], data))

    def _numbered(self, stored: Iterator[Stored]) -> Iterator[Run]:
        for pack, segment, start, length in stored:
            yield Run(self._table.number(pack, segment), start, length)


def little_known(ids: list[bytes], lengths: list[int], packs: Sequence[KnownPack]) -> bool:
    """Whether so little of these chunks is known or repeated that all of them are best stored as new.

    Known chunks here and there break up the runs that make a recipe, and save next to nothing: a chunk that its segment
    already holds compresses to little more than its entry in the directory.
    """
    distinct = set(ids)
    twice = len(ids) - len(distinct)
    if not twice:
        # For a large batch a sample suffices, since known chunks come in runs.
        sample = ids[:: max(1, len(ids) // _SAMPLE)]
        if all(pack.chunks.keys().isdisjoint(sample) for pack in packs):
            return True
    known: set[bytes] = set()
    for pack in packs:
        known |= pack.chunks.keys() & distinct
    if _LITTLE_CHUNKS * (len(known) + twice) > len(ids):
        return False
    spared = 0
    new = distinct - known
    for chunk, length in zip(ids, lengths, strict=True):
        if chunk in new:
            new.remove(chunk)
        else:
            spared += length
    return _LITTLE_BYTES * spared <= sum(lengths)
