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
    """The recipe of one stream, in blocks: pieces of parts."""

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._extents: list[Extent] = []
        self._start = self._size = 0
        self._open: Extent | None = None

    def add(self, segment: int, start: int, length: int) -> Iterator[Piece]:
        """The next bytes of the stream; gives a block when it is full. Bytes that follow one another are one extent."""
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

    def finish(self) -> Iterator[Piece]:
        """The last block."""
        if self._open is not None:
            self._extents.append(self._open)
            self._size += self._open.length
            self._open = None
        if self._extents:
            yield self._block()

    def _block(self) -> Piece:
        data = self._stream.to_bytes(_STREAM_BYTES, "little") + encode_block(self._start, self._extents)
        self._start += self._size
        self._size = 0
        self._extents = []
        return Piece(Kind.RECIPE, data, self._stream)
