"""Opened parts: their sections, and which of them hold a stream's recipe."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from penstock.format.part import Kind, Section

__all__ = ["STREAM_BYTES", "OpenedPart"]

#: A block of a recipe begins with the number of its stream, in so many bytes.
STREAM_BYTES = 4


class OpenedPart:
    """The sections of an opened part, in little memory however many they are."""

    def __init__(self, sections: Iterator[Section]) -> None:
        self._plain = bytearray()
        self._kinds = bytearray()
        self._ends = array("I")
        #: The streams of those that hold blocks of recipes, and the numbers of these sections, in the order of streams.
        self._streams = array("I")
        self._blocks = array("I")
        for number, section in enumerate(sections):
            self._plain += section.data
            self._kinds.append(section.kind)
            self._ends.append(len(self._plain))
            if section.kind is Kind.RECIPE:
                self._streams.append(int.from_bytes(section.data[:STREAM_BYTES], "little"))
                self._blocks.append(number)
        if any(after < before for before, after in pairwise(self._streams)):
            order = sorted(range(len(self._streams)), key=self._streams.__getitem__)
            self._streams = array("I", map(self._streams.__getitem__, order))
            self._blocks = array("I", map(self._blocks.__getitem__, order))

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        tables = (self._ends, self._streams, self._blocks)
        return len(self._plain) + len(self._kinds) + sum(len(table) * table.itemsize for table in tables)

    def data(self, number: int) -> memoryview:
        """The bytes of a section."""
        return memoryview(self._plain)[self._ends[number - 1] if number else 0 : self._ends[number]]

    def of_kind(self, kind: Kind) -> Iterator[memoryview]:
        """The bytes of each section of a kind."""
        return (self.data(number) for number, one in enumerate(self._kinds) if one == kind)

    def blocks(self, stream: int) -> Sequence[int]:
        """The numbers of the sections that hold blocks of a stream's recipe."""
        return self._blocks[bisect_left(self._streams, stream) : bisect_right(self._streams, stream)]
