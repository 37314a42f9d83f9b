"""Deduplication: takes a batch of a stream and gives the places of its bytes, whether known or newly stored.

Chunks are looked for in the past stream, then in all packs; in those that are new, records are looked for among those
of the past chunks in whose place they stand.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.format.chunker import Chunker
from penstock.format.ids import ChunkNamer, hooks
from penstock.repository.extents import I64, U64, Extents, Laid
from penstock.repository.known.frames import Frame
from penstock.repository.known.known_pack import KnownPack
from penstock.repository.known.past import Recorder
from penstock.repository.known.sparse_index import SparseIndex
from penstock.repository.known.window import Window
from penstock.repository.write.intake import Batch
from penstock.repository.write.matching import match
from penstock.repository.write.packer import Packer, Stored
from penstock.repository.write.records import RecordCutter, Records
from penstock.repository.write.table import TableBuilder

__all__ = ["PAST", "Deduplicator", "Run"]

#: A batch of which at most one chunk in 16, and one byte in 128, is known or repeated counts as little known.
_LITTLE_CHUNKS = 16
_LITTLE_BYTES = 128
_SAMPLE = 512
#: How many past chunks are looked at in whose place new ones stand, beside as many as these are, where it is not clear.
_MORE = 32
#: Past chunks that are asked for at once, to compare what follows with them.
_TOGETHER = 64

#: In the place of a segment's number: the bytes are of the past stream.
PAST = -1


class Run(NamedTuple):
    """Bytes of a segment, by its number in the segment table, or of the past stream (`PAST`)."""

    segment: int
    start: int
    length: int


class _Span(NamedTuple):
    """Chunks of a batch, from `first` to before `end`; `past` is the number of the first as a past chunk, or -1."""

    first: int
    end: int
    past: int


class Deduplicator:
    """Cuts batches of one stream into chunks, finds what is known and stores the rest. Used by one thread.

    `window` is the past stream, `recorder` what will be the next one's. `cutter` cuts as the source's rows end.
    """

    def __init__(
        self,
        chunker: Chunker,
        chunk_key: bytes,
        index: SparseIndex,
        packer: Packer,
        table: TableBuilder,
        *,
        cutter: RecordCutter,
        recorder: Recorder,
        window: Window | None,
    ) -> None:
        self._chunker = chunker
        self._namer = ChunkNamer(chunk_key)
        self._index = index
        self._packer = packer
        self._table = table
        self._cutter = cutter
        self._recorder = recorder
        self._window = window
        #: The number of the last past chunk that was found again.
        self._last = -1
        #: Bytes at the end of the last batch with which the next one begins.
        self.rest = 0

    def runs(self, batch: Batch) -> tuple[list[Run], Extents]:
        """What makes the chunks of a batch, joined where it lies together; and the same in segments alone.

        The batch begins with the `rest` of the previous one; afterwards, `rest` is that of this one: bytes that are in
        no chunk yet, and those before them that the cutter asks for.
        """
        data, lead = batch.data, self._chunker.lag
        if self._window is not None:
            self._window.advance(self._window.start(self._last + 1) if self._last >= 0 else 0)
            lengths, lags, ids, numbers = self._compared(self._window, data, last=batch.last)
        else:
            cuts = list(self._chunker.each(data, last=batch.last))
            lengths, lags = [length for length, _ in cuts], [lag for _, lag in cuts]
            ids = self._namer.ids(data[lead:], lengths)
            numbers = [-1] * len(ids)
        starts = list(accumulate(lengths, initial=lead))
        spans = list(_spans(numbers))
        records = self._records(batch, spans, lengths, starts)
        placing = _Batch(ids, lengths, lags, starts, data, records, bytearray(len(ids)))
        runs = _joined(self._placed(placing, spans))
        self._packer.passed(starts[-1] - lead, self._window.segments if self._window is not None else 0)
        self.rest = len(data) - starts[-1] + self._chunker.lag
        extents = self._resolved(runs)
        self._table.use(set(extents.segments.tolist()))
        if ids:
            self._tell(placing, spans, extents)
            self._record(placing, spans, extents)
        return runs, extents

    def _compared(self, window: Window, data: memoryview, *, last: bool) -> "_Compared":
        """The chunks, and their numbers as past chunks, or -1.

        What follows is mostly what followed in the past: then it is not cut, but compared with the past chunks by their
        lengths and ids. That finds the cuts which cutting would have found, as these depend on the bytes that follow
        and on the `lag` alone: where it is another than in the past, chunks are cut until it is the same.
        """
        lengths: list[int] = []
        lags: list[int] = []
        ids: list[bytes] = []
        numbers: list[int] = []
        namer, chunker = self._namer, self._chunker
        at, number = chunker.lag, self._last
        while at < len(data):
            alike = window.lag(number) == chunker.lag
            names, sizes, behind = window.following(number, _TOGETHER if alike else 0)
            same = namer.alike(data[at:], names, sizes)
            if same:
                lengths += sizes[:same]
                lags += behind[:same]
                ids += names[:same]
                numbers += range(number + 1, number + 1 + same)
                at += sum(sizes[:same])
                number += same
                chunker.lag = lags[-1]
                if same == _TOGETHER:
                    continue
            for length, lag in chunker.each(data[at - chunker.lag :], last=last):
                chunk = namer.id(data[at : at + length])
                past = window.find(chunk, number)
                lengths.append(length)
                lags.append(lag)
                ids.append(chunk)
                numbers.append(past)
                at += length
                if past >= 0:
                    number = past
                    if window.lag(past) == lag:
                        break
            else:
                break
        return _Compared(lengths, lags, ids, numbers)

    def _records(
        self, batch: Batch, spans: Sequence[_Span], lengths: list[int], starts: Sequence[int]
    ) -> Records | None:
        """The records of all chunks that are not past ones; None if nobody needs them."""
        unknown = [span for span in spans if span.past < 0]
        if not unknown or not (self._recorder.takes_records or self._window is not None):
            return None
        return self._cutter.records(
            np.frombuffer(batch.spared, dtype=np.uint8),
            [(starts[span.first], starts[span.end]) for span in unknown],
            [length for span in unknown for length in lengths[span.first : span.end]],
        )

    def _placed(self, batch: "_Batch", spans: Sequence[_Span]) -> Iterator[Run]:
        window, last = self._window, self._last
        finder = self._finder(batch, spans)
        taken = 0
        for at, span in enumerate(spans):
            if span.past >= 0:
                assert window is not None
                last = span.past + span.end - span.first - 1
                yield Run(PAST, window.start(span.past), batch.starts[span.end] - batch.starts[span.first])
                continue
            place = None
            if window is not None:
                following = spans[at + 1].past if at + 1 < len(spans) else -1
                clear = last < following <= last + 4 * (span.end - span.first + _MORE)
                end = following if clear else last + 1 + span.end - span.first + _MORE
                place = _Place(window, last + 1, end, closed=clear)
            yield from finder.placed(span, taken, place)
            taken += span.end - span.first
        self._last = last

    def _finder(self, batch: "_Batch", spans: Sequence[_Span]) -> "_Finder":
        unknown = [at for span in spans if span.past < 0 for at in range(span.first, span.end)]
        if not unknown:
            return _Finder(self._packer, (), self._table, batch)
        ids = [batch.ids[at] for at in unknown]
        packs: Sequence[KnownPack] = self._index.packs_for(hooks(b"".join(ids)))
        own = self._packer.known
        if _little_known(ids, [batch.lengths[at] for at in unknown], (*packs, own)):
            return _Finder(self._packer, None, self._table, batch)
        return _Finder(self._packer, packs, self._table, batch)

    def _resolved(self, runs: Sequence[Run]) -> Extents:
        """The runs as extents of segments, joined."""
        columns = np.array(runs, dtype=np.int64).reshape(-1, 3)
        extents = Extents(columns[:, 0], columns[:, 1], columns[:, 2])
        past = extents.segments == PAST
        if self._window is None or not past.any():
            return extents
        found, counts = self._window.resolved(extents.starts[past], extents.lengths[past])
        return extents.with_in_place(past, found, counts).joined()

    def _tell(self, batch: "_Batch", spans: Sequence[_Span], extents: Extents) -> None:
        """Let others find the chunks that are in pieces, too."""
        whole = batch.whole
        pieces = [at for span in spans if span.past < 0 for at in range(span.first, span.end) if not whole[at]]
        if not pieces:
            return
        starts = np.array(batch.starts, dtype=np.int64)
        which = np.array(pieces, dtype=np.int64)
        made, _ = Laid(batch.starts[0], extents).cut(starts[which], starts[which + 1])
        lengths = [batch.lengths[at] for at in pieces]
        self._packer.add_assembled([batch.ids[at] for at in pieces], lengths, made.joined())

    def _record(self, batch: "_Batch", spans: Sequence[_Span], extents: Extents) -> None:
        """Note what this batch was for the next run."""
        pieces: list[tuple[U64, NDArray[np.uint16], I64]] = []
        taken = records = 0
        own = batch.records
        for span in spans:
            size = span.end - span.first
            if span.past >= 0:
                assert self._window is not None
                pieces.extend(self._window.copied(span.past, span.past + size))
            elif own is None:
                none = np.zeros(0, dtype=np.uint64)
                pieces.append((none, none.astype(np.uint16), np.zeros(size, dtype=np.int64)))
            else:
                some = own.counts[taken : taken + size]
                end = records + int(some.sum())
                pieces.append((own.hashes[records:end], own.lengths[records:end], some))
                records = end
                taken += size
        hashes, lengths, counts = zip(*pieces, strict=True)
        keep = self._recorder.takes_records
        count = np.concatenate(counts)
        self._recorder.add(
            Frame(
                chunks=batch.ids,
                chunk_lengths=np.array(batch.lengths, dtype=np.int64),
                lags=np.array(batch.lags, dtype=np.uint16),
                counts=count if keep else np.zeros_like(count),
                hashes=np.concatenate(hashes) if keep else np.zeros(0, dtype=np.uint64),
                record_lengths=np.concatenate(lengths) if keep else np.zeros(0, dtype=np.uint16),
                extents=extents,
            )
        )


def _spans(numbers: Sequence[int]) -> Iterator[_Span]:
    """The chunks of a batch as runs of past chunks, and of others."""
    first = 0
    for at in range(1, len(numbers)):
        before, number = numbers[at - 1], numbers[at]
        if number != before + 1 if before >= 0 else number >= 0:
            yield _Span(first, at, numbers[first])
            first = at
    if numbers:
        yield _Span(first, len(numbers), numbers[first])


class _Compared(NamedTuple):
    """The chunks of a batch: lengths, how far before its end each was cut, ids, and numbers as past chunks or -1."""

    lengths: list[int]
    lags: list[int]
    ids: list[bytes]
    numbers: list[int]


class _Batch(NamedTuple):
    """The chunks of a batch: ids, lengths, lags, where each begins (and the last ends), their bytes; new ones' records.

    `whole` is 1 for those that turned out to lie in one piece in a pack, or that others can find there all the same.
    """

    ids: list[bytes]
    lengths: list[int]
    lags: list[int]
    starts: list[int]
    data: memoryview
    records: Records | None
    whole: bytearray


class _Place(NamedTuple):
    """Past chunks in whose place new ones stand; `closed` if the one behind them was found again."""

    window: Window
    first: int
    end: int
    closed: bool


class _Finder:
    """Finds or stores those chunks of one batch that are no past ones. With None for `packs`, all are stored.

    Runs make it fast: known chunks that follow one another in their pack, and new ones that are stored together.
    """

    def __init__(self, packer: Packer, packs: Sequence[KnownPack] | None, table: TableBuilder, batch: _Batch) -> None:
        self._packer = packer
        self._packs = packs
        self._table = table
        self._batch = batch
        records = batch.records
        self._firsts = np.concatenate(([0], np.cumsum(records.counts))) if records is not None else None

    def placed(self, span: _Span, taken: int, place: _Place | None) -> Iterator[Run]:
        """Where the chunks of a span are. `taken` of those before it have records, too."""
        if self._packs is None:
            yield from self._stored(span.first, span.end, taken - span.first, place)
            return
        shift = taken - span.first
        ids = self._batch.ids
        new: set[bytes] = set()
        run: KnownPack | None = None
        first = following = begin = 0
        for at in range(span.first, span.end):
            chunk = ids[at]
            if run is not None and run.chunks.get(chunk) == following:
                self._batch.whole[at] = 1
                following += 1
                continue
            if run is not None:
                yield from self._known(run, first, following)
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
                self._batch.whole[at] = 1
                if new:
                    yield from self._stored(begin, at, shift, place)
                    new.clear()
            following = first + 1
        if new:
            yield from self._stored(begin, span.end, shift, place)
        if run is not None:
            yield from self._known(run, first, following)

    def _find(self, chunk: bytes) -> tuple[KnownPack | None, int]:
        for pack in self._packs or ():
            if (number := pack.chunks.get(chunk)) is not None:
                return pack, number
        own = self._packer.known
        if (number := own.chunks.get(chunk)) is not None:
            return own, number
        return None, 0

    def _known(self, pack: KnownPack, first: int, end: int) -> Iterator[Run]:
        for origin, segment, start, length in pack.extents(first, end):
            yield Run(self._table.number(origin, segment), start, length)

    def _stored(self, begin: int, end: int, shift: int, place: _Place | None) -> Iterator[Run]:
        """Store chunks, or those of their records that are not in their place."""
        batch = self._batch
        starts, records = batch.starts, batch.records
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
                yield from self._numbered(self._packer.add_loose(batch.data[at:stop]))
            else:
                yield from self._numbered(self._packer.add_loose(batch.data[at : starts[chunk]]))
                yield from self._added(chunk, last)
                yield from self._numbered(self._packer.add_loose(batch.data[starts[last] : stop]))
            at = stop

    def _added(self, begin: int, end: int) -> Iterator[Run]:
        if begin == end:
            return
        batch = self._batch
        batch.whole[begin:end] = bytes([1]) * (end - begin)
        data = batch.data[batch.starts[begin] : batch.starts[end]]
        yield from self._numbered(self._packer.add(batch.ids[begin:end], batch.lengths[begin:end], data))

    def _numbered(self, stored: Iterator[Stored]) -> Iterator[Run]:
        for pack, segment, start, length in stored:
            yield Run(self._table.number(pack, segment), start, length)


def _joined(runs: Iterator[Run]) -> list[Run]:
    """The same runs, those joined that lie one behind the other."""
    joined: list[Run] = []
    segment, start, length = PAST - 1, 0, 0
    for run in runs:
        if run.segment == segment and run.start == start + length:
            length += run.length
            joined[-1] = Run(segment, start, length)
        else:
            segment, start, length = run
            joined.append(run)
    return joined


def _little_known(ids: list[bytes], lengths: list[int], packs: Sequence[KnownPack]) -> bool:
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
