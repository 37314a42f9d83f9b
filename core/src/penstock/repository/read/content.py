"""What a head pins: the parts of a snapshot, its segment table, its manifest and its recipes."""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.encoding import Malformed
from penstock.format.manifest import MAX_MANIFEST, Manifest, StreamRecord, decode_manifest
from penstock.format.part import (
    Key,
    Kind,
    PartRef,
    Row,
    Section,
    decode_refs,
    decode_rows,
    decode_sessions,
    open_part,
)
from penstock.format.recipe import MAX_RUNS, Extent, decode_columns, range_of
from penstock.format.sealing import Sealer
from penstock.repository.fetching import fetch
from penstock.repository.read.table import SegmentTable
from penstock.repository.snapshots import SnapshotEntry

__all__ = [
    "PARTS_KEPT",
    "Content",
    "Recipe",
    "SegmentTable",
    "add_sessions",
    "each_row",
    "layout_sections",
    "parts_of",
    "sessions_of",
]

#: A block of a recipe begins with the number of its stream, in so many bytes.
_STREAM_BYTES = 4
#: Opened parts that are kept, of 4 MiB at most each; and blocks of recipes, of less than 1 MiB, for each stream.
PARTS_KEPT = 3
_BLOCKS = 2
#: Extents that are resolved at once: at most, and if layers often end sooner.
_MANY = 1 << 16
_FEW = 64

I64 = NDArray[np.int64]


def parts_of(entry: SnapshotEntry) -> Iterator[PartRef]:
    """All parts that a snapshot needs, those of its bases included, each as the head or another part pins it.

    Raises `DamagedObject`, `MissingObject`.
    """
    for refs in (entry.head.parts, *(base.parts for base in entry.head.bases)):
        yield from (ref for ref in refs if ref.key is Key.REFS)
        yield from _resolved(entry, refs)


def each_row(entry: SnapshotEntry) -> Iterator[Row]:
    """The rows of the segment table, for every role. Raises `DamagedObject`, `MissingObject`, `Malformed`."""
    for section in layout_sections(entry):
        if section.kind is Kind.TABLE:
            yield from decode_rows(section.data)


def sessions_of(entry: SnapshotEntry) -> dict[bytes, bytes]:
    """The sessions whose data keys are needed, with the digests of their objects, for every role.

    Raises `DamagedObject`, `MissingObject`, `Malformed`.
    """
    sessions: dict[bytes, bytes] = {}
    for section in layout_sections(entry):
        if section.kind is Kind.SESSIONS:
            add_sessions(sessions, section)
    return sessions


def add_sessions(sessions: dict[bytes, bytes], section: Section) -> None:
    """Add those of a section; raises `Malformed` for two digests of one."""
    for session, digest in decode_sessions(section.data).items():
        if sessions.setdefault(session, digest) != digest:
            raise Malformed("two digests of one session")


def layout_sections(entry: SnapshotEntry) -> Iterator[Section]:
    """The sections that every role can open: of the segment table, and of sessions. Raises as `each_row`."""
    for ref in _resolved(entry, entry.head.parts):
        if ref.key is Key.LAYOUT:
            yield from _sections(entry, ref, entry.domain.layout_sealer)


def _resolved(entry: SnapshotEntry, refs: Sequence[PartRef]) -> Iterator[PartRef]:
    """The parts in order, with those that others refer to in their places."""
    met: set[bytes] = set()
    for ref in _flattened(entry, refs):
        if ref.part in met:
            # A few references could name so many that nobody would come to their end.
            raise DamagedObject(entry.domain.at.snapshot_key(entry.id), "it names a part twice")
        met.add(ref.part)
        yield ref


def _flattened(entry: SnapshotEntry, refs: Sequence[PartRef]) -> Iterator[PartRef]:
    for ref in refs:
        if ref.key is not Key.REFS:
            yield ref
            continue
        for section in _sections(entry, ref, entry.domain.layout_sealer):
            further = decode_refs(section.data)
            if any(one.key is Key.REFS for one in further):
                raise DamagedObject(entry.domain.at.part_key(ref.part), "it refers to parts that refer to others")
            yield from further


def _sections(entry: SnapshotEntry, ref: PartRef, sealer: Sealer) -> Iterator[Section]:
    domain = entry.domain
    key = domain.at.part_key(ref.part)
    try:
        yield from open_part(ref, fetch(domain.sink, key), sealer, domain.scope)
    except ObjectMissing:
        head = domain.at.snapshot_key(entry.id)
        raise MissingObject(key, f"gone: {head} needs it") from None
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None


class _Opened:
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
                self._streams.append(int.from_bytes(section.data[:_STREAM_BYTES], "little"))
                self._blocks.append(number)
        if any(after < before for before, after in pairwise(self._streams)):
            order = sorted(range(len(self._streams)), key=self._streams.__getitem__)
            self._streams = array("I", map(self._streams.__getitem__, order))
            self._blocks = array("I", map(self._blocks.__getitem__, order))

    def data(self, number: int) -> memoryview:
        """The bytes of a section."""
        return memoryview(self._plain)[self._ends[number - 1] if number else 0 : self._ends[number]]

    def of_kind(self, kind: Kind) -> Iterator[memoryview]:
        """The bytes of each section of a kind."""
        return (self.data(number) for number, one in enumerate(self._kinds) if one == kind)

    def blocks(self, stream: int) -> Sequence[int]:
        """The numbers of the sections that hold blocks of a stream's recipe."""
        return self._blocks[bisect_left(self._streams, stream) : bisect_right(self._streams, stream)]


class Content:
    """The opened parts of a snapshot. Needs the owner's access; used by one thread at a time.

    `sealer_of` gives what opens a session's data, by the session's id and the digest that is pinned. `sessions` are
    those that are needed. Raises `DamagedObject`, `MissingObject`.
    """

    def __init__(self, entry: SnapshotEntry, sealer_of: Callable[[bytes, bytes], Sealer]) -> None:
        self._entry = entry
        self._sealer_of = sealer_of
        self._layers = [(entry.session, self._parts(entry.head.parts))]
        self._layers += [(base.session, self._parts(base.parts)) for base in entry.head.bases]
        self._opened: OrderedDict[bytes, _Opened] = OrderedDict()
        head = entry.domain.at.snapshot_key(entry.id)
        self.sessions: dict[bytes, bytes] = {}
        try:
            self.table = SegmentTable(self._rows())
            if entry.session not in self.sessions:
                raise Malformed("it does not pin its own session")
            self.manifest = self._read_manifest()
            self._numbers = {id(record): number for number, record in enumerate(self.manifest.streams)}
            total = sum(record.size for record in self.manifest.streams)
            if (total, len(self.manifest.streams)) != (entry.head.size, entry.head.streams):
                raise Malformed("its head has other sizes than its manifest")
        except Malformed as error:
            raise DamagedObject(head, str(error)) from None

    def _rows(self) -> Iterator[Row]:
        for section in layout_sections(self._entry):
            if section.kind is Kind.TABLE:
                yield from decode_rows(section.data)
            else:
                add_sessions(self.sessions, section)

    def _parts(self, refs: Sequence[PartRef]) -> list[PartRef]:
        return list(_resolved(self._entry, refs))

    def _read_manifest(self) -> Manifest:
        plain = bytearray()
        for number, ref in enumerate(self._layers[0][1]):
            if ref.key is Key.DATA and number >= self._entry.head.manifest:
                for piece in self.part(0, number).of_kind(Kind.MANIFEST):
                    plain += piece
                if len(plain) > MAX_MANIFEST:
                    raise Malformed("its manifest is larger than allowed")
        return decode_manifest(bytes(plain))

    def part(self, layer: int, number: int) -> _Opened:
        """A part of the snapshot (layer 0) or of one of its bases; raises `Malformed` for no part."""
        if layer >= len(self._layers) or number >= len(self._layers[layer][1]):
            raise Malformed("a recipe asks for a part that the snapshot does not name")
        session, refs = self._layers[layer]
        ref = refs[number]
        found = self._opened.get(ref.part)
        if found is None:
            sealer = self.sealer(session) if ref.key is Key.DATA else self._entry.domain.layout_sealer
            found = self._opened[ref.part] = _Opened(_sections(self._entry, ref, sealer))
            if len(self._opened) > PARTS_KEPT:
                self._opened.popitem(last=False)
        self._opened.move_to_end(ref.part)
        return found

    def sealer(self, session: bytes) -> Sealer:
        """What opens the data of a session; raises `Malformed` for one that the snapshot does not pin."""
        pinned = self.sessions.get(session)
        if pinned is None:
            raise Malformed("it needs a session that it does not pin")
        return self._sealer_of(session, pinned)

    def recipe_parts(self, record: StreamRecord) -> dict[tuple[int, int], PartRef]:
        """The parts that the recipe of a stream is in, by layer and number; raises `Malformed` for no part."""
        found = {}
        for layer, numbers in enumerate(record.recipe):
            refs = self._layers[layer][1] if layer < len(self._layers) else ()
            if any(number >= len(refs) for number in numbers):
                raise Malformed("a recipe asks for a part that the snapshot does not name")
            found.update({(layer, number): refs[number] for number in numbers})
        return found

    def runs(self, record: StreamRecord) -> Iterator[Extent]:
        """Every run of a segment's bytes that a stream needs, in no order.

        Each layer is gone through once, so that this ends in the time that the recipes' own size takes, however often
        a stream repeats what is below it. Raises `Malformed` as `extents` does.
        """
        needed = {self._numbers[id(record)]: [(0, record.size)]} if record.size else {}
        for layer in range(len(self._layers) + 1):
            below = _Runs()
            for stream, runs in needed.items():
                recipe = Recipe(self, record, layer, stream)
                columns = np.array(runs, dtype=np.int64)
                for base, cut in recipe.cut(columns[:, 0], columns[:, 1] - columns[:, 0]):
                    for extent in cut.extents():
                        if extent.segment is None:
                            below.add(base, extent.start, extent.start + extent.length)
                        else:
                            yield extent
            needed = below.merged()
            if not needed:
                return

    def extents(self, record: StreamRecord) -> Iterator[Extent]:
        """The extents of a stream, all of segments; raises `Malformed` as soon as they cannot make it."""
        for cut in self.cuts(record):
            yield from cut.extents()

    def cuts(self, record: StreamRecord) -> Iterator["Cut"]:
        """The same, many at once."""
        recipe = Recipe(self, record, 0, self._numbers[id(record)])
        position = 0
        while position < record.size:
            cut = recipe.resolved(np.array([position]), np.array([record.size - position]))
            yield cut
            position += cut.size


class Recipe:
    """The recipe of one stream in one layer, whose extents are resolved through the layers below it."""

    def __init__(self, content: Content, record: StreamRecord, layer: int, stream: int) -> None:
        self._content = content
        self._record = record
        self._layer = layer
        self._stream = stream
        self._parts = iter(record.recipe[layer] if layer < len(record.recipe) else ())
        #: Where the blocks begin that were met so far, and where each is: part, section.
        self._starts: list[int] = []
        self._places: list[tuple[int, int]] = []
        self._end = 0
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._below: dict[int, Recipe] = {}
        #: How many extents are cut at once.
        self._many = _MANY

    def resolved(self, starts: I64, lengths: I64) -> "Cut":
        """What makes these runs of the stream, or a piece of them at the beginning, in extents of segments.

        Raises `Malformed`.
        """
        block, cut = self._first(starts, lengths)
        base = cut.segments < 0
        if not base.any():
            return cut
        below = self._below.get(block.base)
        if below is None:
            below = self._below[block.base] = Recipe(self._content, self._record, self._layer + 1, block.base)
        found = below.resolved(cut.starts[base], cut.lengths[base])
        ends = np.cumsum(cut.lengths[base])
        if found.size < ends[-1]:
            # Up to where the layer below came. What was cut beyond it was in vain: less of it the next time.
            last = int(np.searchsorted(ends, found.size))
            count = int(np.flatnonzero(base)[last]) + 1
            self._many = max(_FEW, min(self._many, 2 * count))
            cut, base, ends = cut.before(count), base[:count], ends[: last + 1]
            cut.lengths[-1] -= ends[-1] - found.size
            ends[-1] = found.size
        else:
            self._many = min(2 * self._many, _MANY)
        counts = np.diff(np.searchsorted(np.cumsum(found.lengths), ends) + 1, prepend=0)
        return cut.with_in_place(base, found, counts)

    def cut(self, starts: I64, lengths: I64) -> Iterator[tuple[int, "Cut"]]:
        """What makes these runs in this layer, with the stream of the base that extents may be of."""
        while len(starts):
            block, cut = self._first(starts, lengths)
            yield block.base, cut
            ends = np.cumsum(lengths)
            done = int(np.searchsorted(ends, cut.size, side="right"))
            starts, lengths, ends = starts[done:], lengths[done:], ends[done:]
            if len(starts):
                left = ends[0] - cut.size
                starts = np.concatenate((starts[:1] + lengths[:1] - left, starts[1:]))
                lengths = np.concatenate(([left], lengths[1:]))

    def _first(self, starts: I64, lengths: I64) -> "tuple[_Block, Cut]":
        """As many of these runs as lie in the block of the first one, cut to its extents."""
        block = self._block_at(int(starts[0]))
        end = block.start + block.size
        outside = (starts < block.start) | (starts >= end)
        beyond = starts + lengths > end
        count = len(starts)
        if outside.any():
            count = int(np.argmax(outside))
        if beyond[:count].any():
            count = int(np.argmax(beyond)) + 1
        return block, block.cut(starts[:count], np.minimum(starts[:count] + lengths[:count], end), self._many)

    def _block_at(self, position: int) -> "_Block":
        while position >= self._end:
            self._meet_next_part()
        number = bisect_right(self._starts, position) - 1
        block = self._blocks.get(number)
        if block is None:
            part, section = self._places[number]
            block = _Block(self._content.part(self._layer, part).data(section))
            self._blocks[number] = block
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return block

    def _meet_next_part(self) -> None:
        part = next(self._parts, None)
        if part is None:
            raise Malformed("a recipe ends before its stream")
        opened = self._content.part(self._layer, part)
        for number in opened.blocks(self._stream):
            start, size = range_of(opened.data(number)[_STREAM_BYTES:])
            if start != self._end or not size:
                raise Malformed("the blocks of a recipe do not follow one another")
            self._starts.append(start)
            self._places.append((part, number))
            self._end += size


class Cut(NamedTuple):
    """Extents one after the other: segments (-1 for the base), where each begins, and their lengths."""

    segments: I64
    starts: I64
    lengths: I64

    @property
    def size(self) -> int:
        """How many bytes they make."""
        return int(self.lengths.sum())

    def extents(self) -> Iterator[Extent]:
        """The same, one by one."""
        columns = (self.segments.tolist(), self.starts.tolist(), self.lengths.tolist())
        return (Extent(None if one < 0 else one, start, length) for one, start, length in zip(*columns, strict=True))

    def before(self, count: int) -> "Cut":
        """The first so many, to be changed."""
        return Cut(self.segments[:count], self.starts[:count], self.lengths[:count].copy())

    def with_in_place(self, base: NDArray[np.bool_], found: "Cut", counts: I64) -> "Cut":
        """The same with `found` in the place of those where `base` is true; so many for each of them."""
        many = np.ones(len(base), dtype=np.int64)
        many[base] = counts
        which = np.repeat(base, many)
        columns = [np.empty(len(which), dtype=np.int64) for _ in self]
        for column, own, other in zip(columns, self, found, strict=True):
            column[which] = other
            column[~which] = own[~base]
        return Cut(*columns)


class _Block:
    """A decoded block."""

    def __init__(self, data: memoryview) -> None:
        found = decode_columns(data[_STREAM_BYTES:])
        self.start, self.size, self.base = found.start, found.size, found.base
        self._segments, self._starts = found.segments, found.starts
        self._edges = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(found.lengths)))

    def cut(self, starts: I64, ends: I64, most: int) -> Cut:
        """The extents of these runs of the stream, all within the block; of some at the beginning where it is too many.

        That is, more than `most`, but never less than those of one run.
        """
        starts, ends = starts - self.start, ends - self.start
        edges = self._edges
        first = np.searchsorted(edges, starts, side="right") - 1
        counts = np.searchsorted(edges, ends) - first
        total = np.cumsum(counts)
        if total[-1] > most:
            count = max(1, int(np.searchsorted(total, most, side="right")))
            starts, ends, first, counts = starts[:count], ends[:count], first[:count], counts[:count]
        which = np.repeat(first, counts) + np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = np.maximum(edges[which], np.repeat(starts, counts))
        stops = np.minimum(edges[which + 1], np.repeat(ends, counts))
        return Cut(self._segments[which], self._starts[which] + begins - edges[which], stops - begins)


class _Runs:
    """Runs of bytes of streams, those that adjoin or overlap joined now and then, so that memory stays bounded."""

    def __init__(self) -> None:
        self._runs: dict[int, list[tuple[int, int]]] = {}
        self._count = 0
        self._enough = 2 * MAX_RUNS

    def add(self, stream: int, start: int, end: int) -> None:
        """Raises `Malformed` for more than a snapshot may need."""
        self._runs.setdefault(stream, []).append((start, end))
        self._count += 1
        if self._count > self._enough:
            self._runs = self.merged()
            self._count = sum(map(len, self._runs.values()))
            if self._count > MAX_RUNS:
                raise Malformed("a recipe needs more runs of bytes of its base than allowed")

    def merged(self) -> dict[int, list[tuple[int, int]]]:
        """The runs of each stream, in order."""
        merged = {}
        for stream, runs in self._runs.items():
            runs.sort()
            joined = [runs[0]]
            for start, end in runs:
                if start > joined[-1][1]:
                    joined.append((start, end))
                elif end > joined[-1][1]:
                    joined[-1] = (joined[-1][0], end)
            merged[stream] = joined
        return merged
