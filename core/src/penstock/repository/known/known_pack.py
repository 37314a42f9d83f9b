"""Packs as a writer knows them: which chunks one has, and where their bytes are."""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, compress
from typing import NamedTuple, Protocol

import numpy as np

from penstock.format.assembled import Assembled
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.format.pack import MAX_SEGMENTS, Place, SegmentId
from penstock.repository.budget import PACK_CHUNKS
from penstock.repository.extents import I64, Extents, Laid, edges
from penstock.repository.read.copies import carried
from penstock.repository.read.ends import PackEnd

__all__ = ["KnownPack", "Lender", "Origin"]

_ID = struct.Struct(f"{CHUNK_ID_BYTES}s")
#: Shared by all directories, so that each number takes memory only once.
_NUMBERS = tuple(range(2 * PACK_CHUNKS))
#: So many extents take about as much memory as a chunk.
_EXTENTS_A_CHUNK = 4


class Origin(Protocol):
    """What a segment table says of a pack that segments were written to; the pin is None while that goes on."""

    @property
    def pack(self) -> bytes:
        """Its id."""

    @property
    def pin(self) -> bytes | None:
        """The digest of its sealed places."""

    @property
    def sessions(self) -> frozenset[bytes]:
        """Whose keys seal its segments."""

    @property
    def writer(self) -> bytes:
        """Whose key signs it."""

    @property
    def segments(self) -> int:
        """How many it has."""


class Lender(NamedTuple):
    """A pack whose segments may be used, as far as they are at hand: in it, or as copies.

    `sizes` are the bytes of the segments that were written to it, by ordinal, -1 for those that are not at hand.
    """

    pack: bytes
    pin: bytes
    sessions: frozenset[bytes]
    writer: bytes
    segments: int
    sizes: I64

    @classmethod
    def of(cls, end: PackEnd) -> "Lender":
        """From its end; the ids of its chunks need not have been read."""
        places = end.places.places
        own = [place for place in places if place.id.pack == end.places.pack]
        return cls._with(end.places.pack, end.pin, own, end.trailer.signer, len(places))

    @classmethod
    def of_copies(cls, end: PackEnd, origin: bytes) -> "Lender":
        """From the end of a pack that has copies of segments of `origin`, and was looked at; raises `Malformed`."""
        found = carried(end.domain, end.places, origin)
        # What this pack says otherwise than the places that it carries is not a copy of what was written.
        here = set(end.places.places).intersection(found.places)
        return cls._with(origin, found.pin, here, end.places.carried[origin].signer, found.segments)

    @classmethod
    def _with(cls, pack: bytes, pin: bytes, here: Collection[Place], writer: bytes, segments: int) -> "Lender":
        sizes = np.full(segments, -1, dtype=np.int64)
        for place in here:
            sizes[place.id.ordinal] = place.plain_length
        return cls(pack, pin, frozenset(place.session for place in here), writer, segments, sizes)

    def held(self) -> int:
        """A bit for each segment that is at hand, by ordinal."""
        return int.from_bytes(np.packbits(self.sizes >= 0, bitorder="little").tobytes(), "little")


class _Lent(NamedTuple):
    """The pieces of assembled chunks: `first` is the number of the first chunk, `starts` say where each begins."""

    first: int
    starts: I64
    laid: Laid
    lenders: Sequence[Lender | None]


class KnownPack:
    """The chunks of one pack by id: `chunks` gives a chunk's number in the pack, `extents` the places of runs.

    `sessions` are those whose keys seal its segments, `writer` is whose key signs it; `pin` is None while the pack is
    being written.
    """

    __slots__ = (
        "_ends",
        "_lent",
        "_origins",
        "_segments",
        "_starts",
        "assembled",
        "chunks",
        "pack",
        "pin",
        "sessions",
        "writer",
    )

    def __init__(
        self, pack: bytes, sessions: Iterable[bytes], pin: bytes | None = None, *, writer: bytes = b""
    ) -> None:
        self.pack = pack
        self.pin = pin
        self.writer = writer
        self.chunks: dict[bytes, int] = {}
        self.sessions = frozenset(sessions)
        self._segments: list[SegmentId] = []
        self._starts: list[int] = []
        #: Where each chunk ends, counted through the plain bytes of the whole pack.
        self._ends = array("Q")
        #: Chunks that are in pieces, until it is known who lends these.
        self.assembled = Assembled()
        self._lent: _Lent | None = None
        #: The packs that its segments were written to first, but for itself.
        self._origins: Mapping[bytes, Origin] = {}

    @classmethod
    def of(cls, end: PackEnd, lenders: Mapping[bytes, Lender]) -> "KnownPack":
        """The chunks of a pack whose end was read, as far as the segments may be used; raises `Malformed`.

        `lenders` are the packs that these were written to first, itself among them; a row of a segment table names
        those, with their pins. Chunks that are in pieces can only be found once it is known who lends these: see
        `lend`.
        """
        found = end.chunks()
        own_sessions = lenders[end.places.pack].sessions if end.places.pack in lenders else ()
        known = cls(end.places.pack, own_sessions, end.pin, writer=end.trailer.signer)
        known._origins = {name: one for name, one in lenders.items() if name != known.pack}
        ids = [chunk for (chunk,) in _ID.iter_unpack(found.ids)]
        numbers: Sequence[int] = _NUMBERS if len(ids) <= len(_NUMBERS) else range(len(ids))
        known._ends = array("Q", accumulate(found.lengths))
        start = 0
        own = []
        for place, count in zip(end.places.places, found.counts, strict=True):
            known.begin_segment(place.id, start)
            lender = lenders.get(place.id.pack)
            if lender is not None and lender.sizes[place.id.ordinal] >= 0:
                own.append(slice(start, start + count))
            start += count
        # If a pack holds a chunk twice, use the first place.
        for some in reversed(own):
            known.chunks.update(zip(reversed(ids[some]), reversed(numbers[some]), strict=True))
        known.assembled = found.assembled
        return known

    def lend(self, lenders: Sequence[Lender | None]) -> None:
        """Let assembled chunks be found, too, whose pieces are all there; `lenders` are the packs by their numbers."""
        assembled, self.assembled = self.assembled, Assembled()
        pieces = assembled.pieces()
        starts = edges(0, [np.array(assembled.lengths, dtype=np.int64)])
        laid = Laid(0, Extents(pieces.packs * MAX_SEGMENTS + pieces.ordinals, pieces.starts, pieces.lengths))
        sound = np.zeros(len(pieces.packs), dtype=np.bool_)
        for number, lender in enumerate(lenders):
            if lender is not None:
                some = np.flatnonzero((pieces.packs == number) & (pieces.ordinals < len(lender.sizes)))
                sound[some] = pieces.starts[some] + pieces.lengths[some] <= lender.sizes[pieces.ordinals[some]]
        firsts, counts = laid.touched(starts[:-1], starts[1:])
        missing = np.concatenate(([0], np.cumsum(~sound)))
        whole = missing[firsts + counts] == missing[firsts]
        first = len(self._ends)
        ids = [chunk for (chunk,) in _ID.iter_unpack(assembled.ids)]
        found = list(compress(zip(ids, range(first, first + len(ids)), strict=True), whole.tolist()))
        # Own chunks come first, and of equal ones the first.
        self.chunks = dict(reversed(found)) | self.chunks
        self._lent = _Lent(first, starts, laid, lenders)

    @property
    def weight(self) -> int:
        """How many chunks take as much memory."""
        extents = len(self._lent.laid.edges) if self._lent else 0
        return len(self.chunks) + extents // _EXTENTS_A_CHUNK

    @property
    def segments(self) -> int:
        """How many segments it has."""
        return len(self._segments)

    def begin_segment(self, segment: SegmentId, start: int) -> None:
        """The next segment begins with chunk `start`."""
        self._segments.append(segment)
        self._starts.append(start)

    def add_chunks(self, ids: Sequence[bytes], lengths: Iterable[int]) -> None:
        """Add chunks of these lengths (bytes)."""
        first = len(self._ends)
        ends = accumulate(lengths, initial=self._ends[-1] if first else 0)
        next(ends)  # where the first begins
        self._ends.extend(ends)
        self.chunks.update(zip(ids, range(first, first + len(ids)), strict=True))

    def extents(self, first: int, end: int) -> Iterator[tuple[Origin, SegmentId, int, int]]:
        """(pack that it was written to, segment, offset in it, bytes) for the chunks `first` to `end`."""
        if self._lent is not None and end > self._lent.first:
            yield from self._own(first, self._lent.first)
            yield from self._borrowed(self._lent, max(first, self._lent.first), end)
        else:
            yield from self._own(first, end)

    def _own(self, first: int, end: int) -> Iterator[tuple[Origin, SegmentId, int, int]]:
        at = bisect_right(self._starts, first) - 1
        while first < end:
            start = self._starts[at]
            stop = min(end, self._starts[at + 1]) if at + 1 < len(self._starts) else end
            begin = self._ends[start - 1] if start else 0
            offset = (self._ends[first - 1] if first else 0) - begin
            segment = self._segments[at]
            yield self._origins.get(segment.pack, self), segment, offset, self._ends[stop - 1] - begin - offset
            first = stop
            at += 1

    def _borrowed(self, lent: _Lent, first: int, end: int) -> Iterator[tuple[Origin, SegmentId, int, int]]:
        run = slice(first - lent.first, end - lent.first)
        cut, _ = lent.laid.cut(lent.starts[run.start : run.start + 1], lent.starts[run.stop : run.stop + 1])
        for segment, start, length in zip(*(column.tolist() for column in cut), strict=True):
            number, ordinal = divmod(segment, MAX_SEGMENTS)
            lender = lent.lenders[number]
            assert lender is not None
            yield lender, SegmentId(lender.pack, ordinal), start, length
