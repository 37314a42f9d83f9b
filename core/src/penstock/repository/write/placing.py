"""Which chunks of a batch are known, and where the new ones come to lie: what becomes the extents of a recipe."""

from collections.abc import Callable, Sequence

from penstock.repository.known.sparse_index import KnownPack
from penstock.repository.write.packer import Packer

__all__ = ["Placing"]


class Placing:
    """Places the chunks of one batch, in order; `note` is told of each run of them: (pack, first chunk, end).

    Runs are what makes it quick: chunks that follow one another where they are known, and new ones that are stored
    together.
    """

    def __init__(self, packer: Packer, packs: Sequence[KnownPack], note: Callable[[KnownPack, int, int], None]) -> None:
        self._packer = packer
        self._packs = packs
        self._note = note
        #: What is new and not stored yet: the ids, the first one's number in the batch, and where its bytes begin.
        self._new: set[bytes] = set()
        self._new_from = self._new_start = 0

    def place(self, ids: list[bytes], lengths: list[int], data: memoryview) -> None:
        """Find or store the chunks, which lie in `data` one after the other."""
        new = self._new
        run: KnownPack | None = None
        first = following = start = 0
        for at, (chunk, length) in enumerate(zip(ids, lengths, strict=True)):
            # The usual case by far on a later night: the chunk goes on where the run before it ended.
            if run is not None and run.chunks.get(chunk) == following:
                following += 1
                start += length
                continue
            if run is not None:
                self._note(run, first, following)
            if chunk in new:
                # It has to be stored before it can be found; which may close the pack, and then it is new again.
                self._store(ids, lengths, data, at, start)
            run, first = self._find(chunk)
            if run is None:
                if not new:
                    self._new_from, self._new_start = at, start
                new.add(chunk)
            elif new:
                self._store(ids, lengths, data, at, start)
            following = first + 1
            start += length
        if new:
            self._store(ids, lengths, data, len(ids), start)
        if run is not None:
            self._note(run, first, following)

    def _find(self, chunk: bytes) -> tuple[KnownPack | None, int]:
        for pack in self._packs:
            if (number := pack.chunks.get(chunk)) is not None:
                return pack, number
        own = self._packer.known
        if (number := own.chunks.get(chunk)) is not None:
            return own, number
        return None, 0

    def _store(self, ids: list[bytes], lengths: list[int], data: memoryview, end: int, stop: int) -> None:
        """Store what is new, up to the chunk `end` of the batch, which begins at `stop`."""
        begin = self._new_from
        for pack, first, past in self._packer.add(ids[begin:end], lengths[begin:end], data[self._new_start : stop]):
            self._note(pack, first, past)
        self._new.clear()
