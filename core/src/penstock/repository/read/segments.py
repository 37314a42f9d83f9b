"""Segments: where packs have them, and the buffers that they are opened into."""

from collections.abc import Container, Iterable
from itertools import accumulate
from mmap import mmap
from threading import Lock

from penstock.api.errors import MissingObject
from penstock.format.pack import Directory, SegmentId, SegmentPlace
from penstock.repository import layout
from penstock.repository.budget import SEGMENT, new_buffer

__all__ = ["Buffers", "PlacedPack", "Segment"]


class Segment:
    """One opened segment: its bytes, in a buffer that goes round, and where each chunk begins."""

    __slots__ = ("buffer", "data", "starts")

    def __init__(self, buffer: mmap, size: int, lengths: Iterable[int]) -> None:
        self.buffer = buffer
        self.data = memoryview(buffer)[:size]
        self.starts = list(accumulate(lengths, initial=0))


class Buffers:
    """Buffers for opened segments, each made when it is first needed, and used again.

    Segments live until others push them out. In memory of malloc's, with all that is fetched and opened between them,
    they would leave holes, more and more of them the longer a restore takes.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._free: list[mmap] = []

    def filled(self, data: bytes, lengths: Iterable[int]) -> Segment:
        """The segment, its bytes copied into a buffer."""
        with self._lock:
            buffer = self._free.pop() if self._free and len(data) <= SEGMENT else None
        buffer = buffer or new_buffer(max(SEGMENT, len(data)))
        buffer[: len(data)] = data
        return Segment(buffer, len(data), lengths)

    def give_back(self, segment: Segment) -> None:
        """Nobody uses the segment any more."""
        if len(segment.buffer) == SEGMENT:
            with self._lock:
                self._free.append(segment.buffer)


class PlacedPack:
    """A pack's directory without its ids: places of segments, lengths of chunks, and whose runs the segments are of."""

    __slots__ = ("_lengths", "_places", "_segments", "sessions")

    def __init__(self, directory: Directory) -> None:
        self._lengths = directory.lengths
        self._segments = directory.segments
        self.sessions = {place.session for place in directory.segments}
        self._places: dict[SegmentId, tuple[int, int]] = {}
        start = 0
        for number, place in enumerate(directory.segments):
            self._places[place.id] = (number, start)
            start += place.chunks

    def find(self, segment: SegmentId) -> tuple[SegmentPlace, Iterable[int]]:
        """Where the segment is, and its chunks' lengths; raises `MissingObject`."""
        found = self._places.get(segment)
        if found is None:
            raise MissingObject(layout.pack_key(segment.pack), f"segment {segment.ordinal} is not in it")
        number, start = found
        place = self._segments[number]
        return place, self._lengths[start : start + place.chunks]

    def end_of_run(self, segment: SegmentId, wanted: Container[SegmentId], most: int) -> int:
        """Where those end that follow `segment` in the pack and are wanted, `most` bytes from its start at most."""
        number, _ = self._places[segment]
        first = self._segments[number]
        end = first.offset + first.sealed_length
        for place in self._segments[number + 1 :]:
            if place.id not in wanted or place.offset + place.sealed_length - first.offset > most:
                break
            end = place.offset + place.sealed_length
        return end
