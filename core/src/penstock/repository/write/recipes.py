"""Recipes on their way: extents are joined, and gathered into blocks."""

from collections.abc import Iterator

from penstock.format.part import Kind
from penstock.format.recipe import Extent, encode_block
from penstock.repository.write.parts import Piece

__all__ = ["RecipeWriter"]

#: Fewer than a reader takes: a block exists as Python's numbers while it is written and read, at 300 bytes an extent.
EXTENTS_A_BLOCK = 4096
_STREAM_BYTES = 4


class RecipeWriter:
    """The recipe of one stream, in blocks: pieces of parts. `base` is the number of the base's stream."""

    def __init__(self, stream: int, base: int = 0) -> None:
        self._stream = stream
        self._base = base
        self._extents: list[Extent] = []
        self._start = self._size = 0
        self._open: Extent | None = None
        #: How many of its extents are of the base.
        self.of_base = 0

    def add(self, segment: int | None, start: int, length: int) -> Iterator[Piece]:
        """The next bytes of the stream; gives a block when it is full. Bytes that follow one another are one extent.

        Without a segment, they are the base's.
        """
        last = self._open
        if last is not None and last.segment == segment and last.start + last.length == start:
            self._open = Extent(segment, last.start, last.length + length)
            return
        if last is not None:
            self._extents.append(last)
            self._size += last.length
            if len(self._extents) == EXTENTS_A_BLOCK:
                yield self._block()
        self._open = Extent(segment, start, length)
        self.of_base += segment is None

    def finish(self) -> Iterator[Piece]:
        """The last block."""
        if self._open is not None:
            self._extents.append(self._open)
            self._size += self._open.length
            self._open = None
        if self._extents:
            yield self._block()

    def _block(self) -> Piece:
        block = encode_block(self._start, self._extents, self._base)
        self._start += self._size
        self._size = 0
        self._extents = []
        return Piece(Kind.RECIPE, self._stream.to_bytes(_STREAM_BYTES, "little") + block, self._stream)
