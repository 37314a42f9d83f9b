"""Deduplication: takes a batch of a stream and gives the places of its bytes, whether known or newly stored.

Chunks are looked for in the past stream, then in all packs; in those that are new, records are looked for among those
of the past chunks in whose place they stand.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.format.ids import hooks
from penstock.repository.extents import I64, U64, Extents, Laid
from penstock.repository.known.frames import Frame
from penstock.repository.known.known_pack import KnownPack
from penstock.repository.known.past import Recorder
from penstock.repository.known.sparse_index import SparseIndex
from penstock.repository.known.window import Window
from penstock.repository.write.cutting import ChunkCutter, Chunks
from penstock.repository.write.intake import Batch
from penstock.repository.write.packer import Packer
from penstock.repository.write.placing import PAST, Finder, Place, Run, little_known
from penstock.repository.write.records import RecordCutter, Records
from penstock.repository.write.table import TableBuilder

__all__ = ["Deduplicator"]

#: How many past chunks are looked at in whose place new ones stand, beside as many as these are, where it is not clear.
_MORE = 32


class _Span(NamedTuple):
    """Chunks of a batch, from `first` to before `end`; `past` is the number of the first as a past chunk, or -1."""

    first: int
    end: int
    past: int


class Deduplicator:
    """Finds what is known of batches of one stream and stores the rest. Used by one thread.

    `window` is the past stream, `recorder` what will be the next one's.
    """

    def __init__(
        self,
        cutter: ChunkCutter,
        record_cutter: RecordCutter,
        index: SparseIndex,
        packer: Packer,
        table: TableBuilder,
        *,
        recorder: Recorder,
        window: Window | None,
    ) -> None:
        self._cutter = cutter
        self._record_cutter = record_cutter
        self._index = index
        self._packer = packer
        self._table = table
        self._recorder = recorder
        self._window = window

    def runs(self, batch: Batch) -> tuple[list[Run], Extents]:
        """What makes the chunks of a batch, joined where it lies together; and the same in segments alone.

        The batch begins with the cutter's `rest` of the previous one.
        """
        before = self._cutter.last
        chunks = self._cutter.cut(batch.data, last=batch.last)
        spans = list(_spans(chunks.numbers))
        records = self._records(batch, spans, chunks)
        finder = self._finder(chunks, spans, records)
        runs = _joined(self._placed(finder, chunks, spans, before))
        self._packer.passed(chunks.starts[-1] - chunks.starts[0], self._window.segments if self._window else 0)
        extents = self._resolved(runs)
        self._table.use(set(extents.segments.tolist()))
        if chunks.ids:
            self._tell(finder.whole, chunks, spans, extents)
            self._record(records, chunks, spans, extents)
        return runs, extents

    def _records(self, batch: Batch, spans: Sequence[_Span], chunks: Chunks) -> Records | None:
        """The records of all chunks that are not past ones; None if nobody needs them."""
        unknown = [span for span in spans if span.past < 0]
        if not unknown or not (self._recorder.takes_records or self._window is not None):
            return None
        return self._record_cutter.records(
            np.frombuffer(batch.spared, dtype=np.uint8),
            [(chunks.starts[span.first], chunks.starts[span.end]) for span in unknown],
            [length for span in unknown for length in chunks.lengths[span.first : span.end]],
        )

    def _placed(self, finder: Finder, chunks: Chunks, spans: Sequence[_Span], last: int) -> Iterator[Run]:
        """What makes the chunks; `last` is the last past chunk that was found again before them."""
        window = self._window
        taken = 0
        for at, span in enumerate(spans):
            if span.past >= 0:
                assert window is not None
                last = span.past + span.end - span.first - 1
                yield Run(PAST, window.start(span.past), chunks.starts[span.end] - chunks.starts[span.first])
                continue
            place = None
            if window is not None:
                following = spans[at + 1].past if at + 1 < len(spans) else -1
                clear = last < following <= last + 4 * (span.end - span.first + _MORE)
                end = following if clear else last + 1 + span.end - span.first + _MORE
                place = Place(window, last + 1, end, closed=clear)
            yield from finder.placed(span.first, span.end, taken - span.first, place)
            taken += span.end - span.first

    def _finder(self, chunks: Chunks, spans: Sequence[_Span], records: Records | None) -> Finder:
        unknown = [at for span in spans if span.past < 0 for at in range(span.first, span.end)]
        packs: Sequence[KnownPack] | None = ()
        if unknown:
            ids = [chunks.ids[at] for at in unknown]
            packs = self._index.packs_for(hooks(b"".join(ids)))
            if little_known(ids, [chunks.lengths[at] for at in unknown], (*packs, self._packer.known)):
                packs = None
        return Finder(self._packer, packs, self._table, chunks, records, self._index.distrust)

    def _resolved(self, runs: Sequence[Run]) -> Extents:
        """The runs as extents of segments, joined."""
        columns = np.array(runs, dtype=np.int64).reshape(-1, 3)
        extents = Extents(columns[:, 0], columns[:, 1], columns[:, 2])
        past = extents.segments == PAST
        if self._window is None or not past.any():
            return extents
        found, counts = self._window.resolved(extents.starts[past], extents.lengths[past])
        return extents.with_in_place(past, found, counts).joined()

    def _tell(self, whole: bytearray, chunks: Chunks, spans: Sequence[_Span], extents: Extents) -> None:
        """Let others find the chunks that are in pieces, too."""
        pieces = [at for span in spans if span.past < 0 for at in range(span.first, span.end) if not whole[at]]
        if not pieces:
            return
        starts = np.array(chunks.starts, dtype=np.int64)
        which = np.array(pieces, dtype=np.int64)
        made, _ = Laid(chunks.starts[0], extents).cut(starts[which], starts[which + 1])
        lengths = [chunks.lengths[at] for at in pieces]
        self._packer.add_assembled([chunks.ids[at] for at in pieces], lengths, made.joined())

    def _record(self, own: Records | None, chunks: Chunks, spans: Sequence[_Span], extents: Extents) -> None:
        """Note what this batch was for the next run."""
        pieces: list[tuple[U64, NDArray[np.uint16], I64]] = []
        taken = records = 0
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
                chunks=chunks.ids,
                chunk_lengths=np.array(chunks.lengths, dtype=np.int64),
                lags=np.array(chunks.lags, dtype=np.uint16),
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
