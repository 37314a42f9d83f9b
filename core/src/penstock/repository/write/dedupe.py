"""Deduplication: a batch of a stream goes in, and the places of its chunks come out, stored before or now."""

from collections.abc import Iterator, Sequence

from penstock.format.chunker import Chunker
from penstock.format.ids import chunk_ids, hooks
from penstock.format.pack import SegmentId
from penstock.repository.known.sparse_index import KnownPack, SparseIndex
from penstock.repository.write.packer import Packer

__all__ = ["Deduplicator"]

#: Less of a batch than one in so many, by number and by bytes, is little.
_LITTLE_CHUNKS = 16
_LITTLE_BYTES = 128
_SAMPLE = 512

#: Chunks of a pack: the pack, the first one, the one after the last.
_Run = tuple[KnownPack, int, int]


class Deduplicator:
    """Cuts batches into chunks, finds those that are known and stores the others. Used by one thread.

    `sessions` are those under whose keys the chunks that it has placed so far are sealed.
    """

    def __init__(self, chunker: Chunker, id_key: bytes, index: SparseIndex, packer: Packer) -> None:
        self._chunker = chunker
        self._id_key = id_key
        self._index = index
        self._packer = packer
        self.sessions: set[bytes] = set()
        #: How many bytes at the end of the last batch belong to a chunk that goes on in the next.
        self.rest = 0

    def extents(self, data: memoryview, *, last: bool) -> Iterator[tuple[SegmentId, int, int]]:
        """(segment, its first chunk, chunks) for one run of chunks after the other, to the end of the batch.

        `data` begins with the `rest` of the batch before. After the iteration `rest` is that of this one.
        """
        lengths = self._chunker.cut(data, last=last)
        ids = chunk_ids(self._id_key, data, lengths)
        used = sum(lengths)
        for pack, first, end in self._placed(ids, lengths, data):
            self.sessions |= pack.sessions
            yield from pack.extents(first, end)
        self._packer.passed(used)
        self.rest = len(data) - used

    def _placed(self, ids: list[bytes], lengths: list[int], data: memoryview) -> Iterator[_Run]:
        packs = self._index.packs_for(hooks(b"".join(ids)))
        if _little_known(ids, lengths, (*packs, self._packer.known)):
            return self._packer.add(ids, lengths, data)
        return _Placing(self._packer, packs, ids, lengths, data).runs()


def _little_known(ids: list[bytes], lengths: list[int], packs: Sequence[KnownPack]) -> bool:
    """Whether so little of a batch is known, or comes twice in it, that all of it is best stored as new.

    A chunk here and there breaks the runs that a recipe is made of, and saves next to nothing: what the segment before
    it holds, too, compresses to little more than its entry in the directory.
    """
    distinct = set(ids)
    twice = len(ids) - len(distinct)
    if not twice:
        # Of a large batch a sample tells, since what is known comes in runs.
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
    """Finds or stores the chunks of one batch, in order, and gives their runs.

    Runs are what makes it quick: chunks that follow one another where they are known, and new ones that are stored
    together.
    """

    def __init__(
        self, packer: Packer, packs: Sequence[KnownPack], ids: list[bytes], lengths: list[int], data: memoryview
    ) -> None:
        self._packer = packer
        self._packs = packs
        self._ids = ids
        self._lengths = lengths
        self._data = data
        #: What is new and not stored yet: the ids, the first one's number in the batch, and where its bytes begin.
        self._new: set[bytes] = set()
        self._new_from = self._new_start = 0

    def runs(self) -> Iterator[_Run]:
        """Every run, in the order of the batch."""
        new = self._new
        run: KnownPack | None = None
        first = following = start = 0
        for at, (chunk, length) in enumerate(zip(self._ids, self._lengths, strict=True)):
            # The usual case by far on a later night: the chunk goes on where the run before it ended.
            if run is not None and run.chunks.get(chunk) == following:
                following += 1
                start += length
                continue
            if run is not None:
                yield run, first, following
            if chunk in new:
                # It has to be stored before it can be found; which may close the pack, and then it is new again.
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
        """Store what is new, up to the chunk `end` of the batch, which begins at `stop`."""
        begin = self._new_from
        yield from self._packer.add(self._ids[begin:end], self._lengths[begin:end], self._data[self._new_start : stop])
        self._new.clear()
