"""Chunks of a stream: cut, or compared with those of the past stream where it goes on like that."""

from itertools import accumulate
from typing import NamedTuple

from penstock.format.chunker import Chunker
from penstock.format.ids import ChunkNamer
from penstock.repository.known.frames import NO_CUT
from penstock.repository.known.window import Window

__all__ = ["ChunkCutter", "Chunks"]

#: Past chunks that are asked for at once, to compare what follows with them.
_TOGETHER = 64


class Chunks(NamedTuple):
    """The chunks of a batch: lengths, lags (as in a `Frame`), ids, and numbers as past chunks or -1.

    `starts` says where each begins in `data`, and where the last one ends.
    """

    lengths: list[int]
    lags: list[int]
    ids: list[bytes]
    numbers: list[int]
    starts: list[int]
    data: memoryview


class ChunkCutter:
    """Cuts batches of one stream into chunks, and names them. Used by one thread. `window` is the past stream."""

    def __init__(self, chunker: Chunker, namer: ChunkNamer, window: Window | None) -> None:
        self._chunker = chunker
        self._namer = namer
        self._window = window
        #: The number of the last past chunk that was found again; -1 before the first.
        self.last = -1
        #: Bytes at the end of the last batch with which the next one begins: in no chunk yet, and the lag before them.
        self.rest = 0

    def cut(self, data: memoryview, *, last: bool) -> Chunks:
        """The next chunks; `data` begins with the `rest` of the previous batch."""
        lead = self._chunker.lag
        if self._window is not None:
            self._window.advance(self._window.start(self.last + 1) if self.last >= 0 else 0)
            lengths, lags, ids, numbers = self._compared(self._window, data, last=last)
        else:
            cuts = list(self._chunker.each(data, last=last))
            lengths, lags = [length for length, _ in cuts], [lag for _, lag in cuts]
            ids = self._namer.ids(data[lead:], lengths)
            numbers = [-1] * len(ids)
        if last and lags:
            lags[-1] = NO_CUT
        starts = list(accumulate(lengths, initial=lead))
        self.rest = len(data) - starts[-1] + self._chunker.lag
        return Chunks(lengths, lags, ids, numbers, starts, data)

    def _compared(
        self, window: Window, data: memoryview, *, last: bool
    ) -> tuple[list[int], list[int], list[bytes], list[int]]:
        """Lengths, lags, ids and numbers of the next chunks.

        What follows is mostly what followed in the past: then it is not cut, but compared with the past chunks by their
        lengths and ids. That finds the cuts which cutting would have found, as these depend on the bytes that follow
        and on the `lag` alone: where it is another than in the past, chunks are cut until it is the same.

        A chunk that ends at its cut is what it was only if the next one is, too: whether there is a cut depends on the
        byte behind it, and that no row ends soon, on some more.
        """
        lengths: list[int] = []
        lags: list[int] = []
        ids: list[bytes] = []
        numbers: list[int] = []
        namer, chunker = self._namer, self._chunker
        at, number = chunker.lag, self.last
        while at < len(data):
            alike = window.lag(number) == chunker.lag
            names, sizes, behind = window.following(number, _TOGETHER if alike else 0)
            compared = same = namer.alike(data[at:], names, sizes)
            if same and not behind[same - 1]:
                same -= 1
            if same:
                lengths += sizes[:same]
                lags += behind[:same]
                ids += names[:same]
                numbers += range(number + 1, number + 1 + same)
                at += sum(sizes[:same])
                number += same
                chunker.lag = lags[-1]
                if compared == _TOGETHER:
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
        self.last = number
        return lengths, lags, ids, numbers
