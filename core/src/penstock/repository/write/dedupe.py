"""Deduplication: takes a batch of a stream and gives the places of its chunks, whether known or newly stored."""

from collections.abc import Iterator, Sequence

from penstock.format.chunker import Chunker
from penstock.format.ids import chunk_ids, hooks
from penstock.format.pack import SegmentId
from penstock.repository.known.sparse_index import KnownPack, SparseIndex
from penstock.repository.write.packer import Packer

__all__ = ["Deduplicator"]

#: A batch of which at most one chunk in 16, and one byte in 128, is known or repeated counts as little known.
_LITTLE_CHUNKS = 16
_LITTLE_BYTES = 128
_SAMPLE = 512

#: Chunks of a pack: the pack, the first one, the one after the last.
_Run = tuple[KnownPack, int, int]


class Deduplicator:
    """Cuts batches into chunks, finds the known ones and stores the others. Used by one thread."""

    def __init__(self, chunker: Chunker, chunk_key: bytes, index: SparseIndex, packer: Packer) -> None:
        self._chunker = chunker
        self._chunk_key = chunk_key
        self._index = index
        self._packer = packer
        #: Bytes at the end of the last batch that belong to a chunk continuing in the next.
        self.rest = 0

    def extents(self, data: memoryview, *, last: bool) -> Iterator[tuple[KnownPack, SegmentId, int, int]]:
        """(pack, segment, offset in it, bytes) for each run of chunks, to the end of the batch.

        `data` begins with the `rest` of the previous batch. After the iteration, `rest` is that of this one.
        """
        lengths = self._chunker.cut(data, last=last)
        ids = chunk_ids(self._chunk_key, data, lengths)
        used = sum(lengths)
        for pack, first, end in self._placed(ids, lengths, data):
            for segment, offset, size in pack.extents(first, end):
                yield pack, segment, offset, size
        self._packer.passed(used)
        self.rest = len(data) - used

    def _placed(self, ids: list[bytes], lengths: list[int], data: memoryview) -> Iterator[_Run]:
        packs = self._index.packs_for(hooks(b"".join(ids)))
        if _little_known(ids, lengths, (*packs, self._packer.known)):
            return self._packer.add(ids, lengths, data)
        return _Placing(self._packer, packs, ids, lengths, data).runs()


def _little_known(ids: list[bytes], lengths: list[int], packs: Sequence[KnownPack]) -> bool:
    """Whether so little of a batch is known or repeated that all of it is best stored as new.

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


class _Placing:
    """Finds or stores the chunks of one batch, in order, and yields their runs.

    Runs make it fast: known chunks that follow one another in their pack, and new ones that are stored together.
    """

    def __init__(
        self, packer: Packer, packs: Sequence[KnownPack], ids: list[bytes], lengths: list[int], data: memoryview
    ) -> None:
        self._packer = packer
        self._packs = packs
        self._ids = ids
        self._lengths = lengths
        self._data = data
        #: New chunks not stored yet: their ids, the number of the first in the batch, and the offset of its bytes.
        self._new: set[bytes] = set()
        self._new_from = self._new_start = 0

    def runs(self) -> Iterator[_Run]:
        """Every run, in the order of the batch."""
        new = self._new
        run: KnownPack | None = None
        first = following = start = 0
        for at, (chunk, length) in enumerate(zip(self._ids, self._lengths, strict=True)):
            # By far the most common case on a later night: the chunk continues the run.
            if run is not None and run.chunks.get(chunk) == following:
                following += 1
                start += length
                continue
            if run is not None:
                yield run, first, following
            if chunk in new:
                # Store it so that it can be found. That may close the pack, and then it is new again.
                yield from self._stored(at, start)
            run, first = self._find(chunk)
            if run is None:
                if not new:
                    self._new_from, self._new_start = at, start
                new.add(chunk)
            elif new:
                yield from self._stored(at, start)
            following = first + 1
            start += length
        if new:
            yield from self._stored(len(self._ids), start)
        if run is not None:
            yield run, first, following

    def _find(self, chunk: bytes) -> tuple[KnownPack | None, int]:
        for pack in self._packs:
            if (number := pack.chunks.get(chunk)) is not None:
                return pack, number
        own = self._packer.known
        if (number := own.chunks.get(chunk)) is not None:
            return own, number
        return None, 0

    def _stored(self, end: int, stop: int) -> Iterator[_Run]:
        """Store the new chunks up to chunk `end` of the batch, which begins at offset `stop`."""
        begin = self._new_from
        yield from self._packer.add(self._ids[begin:end], self._lengths[begin:end], self._data[self._new_start : stop])
        self._new.clear()
