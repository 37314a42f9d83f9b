"""Segments: where packs have them, and the buffers that they are opened into."""

from collections.abc import Container, Iterator, Sequence
from mmap import mmap
from threading import Lock

from penstock.api.errors import MissingObject
from penstock.format.pack import Place, SegmentId
from penstock.repository.budget import new_buffer

__all__ = ["SMALLEST", "Buffers", "PlacedPack", "Segment"]

#: Bytes of a buffer at least.
SMALLEST = 64 * 1024


class Segment:
    """One opened segment: its bytes, in a buffer that goes round."""

    __slots__ = ("buffer", "data")

    def __init__(self, buffer: mmap, size: int) -> None:
        self.buffer = buffer
        self.data = memoryview(buffer)[:size]


class Buffers:
    """Buffers for opened segments, each made when it is first needed, and used again.

    Segments live until others push them out. In memory of malloc's, with all that is fetched and opened between them,
    they would leave holes, more and more of them the longer a restore takes.
    """

    def __init__(self, spare: int) -> None:
        """`spare` is how many bytes of buffers may wait for their next use."""
        self._lock = Lock()
        self._spare = spare
        #: By their sizes, and how many bytes all of them have.
        self._free: dict[int, list[mmap]] = {}
        self._size = 0

    def filled(self, data: bytes) -> Segment:
        """The segment, its bytes copied into a buffer: of a power of two, so that few sizes go round."""
        size = max(SMALLEST, 1 << max(0, len(data) - 1).bit_length())
        buffer = None
        with self._lock:
            if free := self._free.get(size):
                buffer = free.pop()
                self._size -= size
        buffer = buffer or new_buffer(size)
        buffer[: len(data)] = data
        return Segment(buffer, len(data))

    def give_back(self, segment: Segment) -> None:
        """Nobody uses the segment any more."""
        size = len(segment.buffer)
        with self._lock:
            if self._size + size <= self._spare:
                self._free.setdefault(size, []).append(segment.buffer)
                self._size += size


class PlacedPack:
    """Segments that are in one pack, which has `key`: where, and whose runs they are of."""

    __slots__ = ("_numbers", "_places", "key", "sessions")

    def __init__(self, places: Sequence[Place], key: str) -> None:
        """The places in the order of their offsets."""
        self.key = key
        self._places = places
        self._numbers = {place.id: number for number, place in enumerate(places)}
        self.sessions = {place.session for place in places}

    def __iter__(self) -> Iterator[SegmentId]:
        return iter(self._numbers)

    def find(self, segment: SegmentId) -> Place:
        """Where the segment is; raises `MissingObject`."""
        number = self._numbers.get(segment)
        if number is None:
            raise MissingObject(self.key, f"segment {segment.ordinal} is not in it")
        return self._places[number]

    def end_of_run(self, segment: SegmentId, wanted: Container[SegmentId], most: int) -> int:
        """Where those end that adjoin `segment` in the pack and are wanted, `most` bytes from its start at most."""
        number = self._numbers[segment]
        first = self._places[number]
        end = first.offset + first.sealed_length
        for place in self._places[number + 1 :]:
            stop = place.offset + place.sealed_length
            if place.offset != end or place.id not in wanted or stop - first.offset > most:
                break
            end = stop
        return end
