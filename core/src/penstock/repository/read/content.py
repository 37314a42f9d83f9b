"""What a head pins: the parts of a snapshot, its segment table, its manifest and its recipes."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.encoding import Malformed
from penstock.format.manifest import MAX_MANIFEST, Manifest, StreamRecord, decode_manifest
from penstock.format.part import (
    MAX_PLAIN,
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
from penstock.format.recipe import Extent
from penstock.format.sealing import Sealer
from penstock.repository.extents import Extents
from penstock.repository.fetching import fetch
from penstock.repository.read.parts import OpenedPart
from penstock.repository.read.recipes import Layers, Recipe, Runs, each_extent
from penstock.repository.read.table import SegmentTable
from penstock.repository.snapshots import SnapshotEntry

__all__ = [
    "PARTS_KEPT",
    "Content",
    "SegmentTable",
    "add_sessions",
    "each_row",
    "layout_sections",
    "parts_of",
    "sessions_of",
]

#: Opened parts that are kept; or more of them, as many bytes as so many of the largest have: streams that go back many
#: nights come back to small parts again and again.
PARTS_KEPT = 3
_KEPT_BYTES = PARTS_KEPT * MAX_PLAIN


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


class Content:
    """The opened parts of a snapshot. Needs the owner's access; used by one thread at a time.

    `sealer_of` gives what opens a session's data, by the session's id and the digest that is pinned. `sessions` are
    those that are needed. Raises `DamagedObject`, `MissingObject`.
    """

    def __init__(self, entry: SnapshotEntry, sealer_of: Callable[[bytes, bytes], Sealer]) -> None:
        self.entry = entry
        self._sealer_of = sealer_of
        #: The session and the parts of the snapshot (layer 0), and of each of its bases.
        self.layers = [(entry.session, self._parts(entry.head.parts))]
        self.layers += [(base.session, self._parts(base.parts)) for base in entry.head.bases]
        self._opened: OrderedDict[bytes, OpenedPart] = OrderedDict()
        self._opened_size = 0
        #: That of the head, which all of it is pinned by.
        self.key = entry.domain.at.snapshot_key(entry.id)
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
            raise DamagedObject(self.key, str(error)) from None

    def _rows(self) -> Iterator[Row]:
        for section in layout_sections(self.entry):
            if section.kind is Kind.TABLE:
                yield from decode_rows(section.data)
            else:
                add_sessions(self.sessions, section)

    def _parts(self, refs: Sequence[PartRef]) -> list[PartRef]:
        return list(_resolved(self.entry, refs))

    def _read_manifest(self) -> Manifest:
        plain = bytearray()
        for number, ref in enumerate(self.layers[0][1]):
            if ref.key is Key.DATA and number >= self.entry.head.manifest:
                for piece in self.part(0, number).of_kind(Kind.MANIFEST):
                    plain += piece
                if len(plain) > MAX_MANIFEST:
                    raise Malformed("its manifest is larger than allowed")
        return decode_manifest(bytes(plain))

    def part(self, layer: int, number: int) -> OpenedPart:
        """A part of the snapshot (layer 0) or of one of its bases; raises `Malformed` for no part."""
        if layer >= len(self.layers) or number >= len(self.layers[layer][1]):
            raise Malformed("a recipe asks for a part that the snapshot does not name")
        session, refs = self.layers[layer]
        ref = refs[number]
        found = self._opened.get(ref.part)
        if found is None:
            sealer = self.sealer(session) if ref.key is Key.DATA else self.entry.domain.layout_sealer
            found = self._opened[ref.part] = OpenedPart(_sections(self.entry, ref, sealer))
            self._opened_size += found.size
            while len(self._opened) > PARTS_KEPT and self._opened_size > _KEPT_BYTES:
                self._opened_size -= self._opened.popitem(last=False)[1].size
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
            refs = self.layers[layer][1] if layer < len(self.layers) else ()
            if any(number >= len(refs) for number in numbers):
                raise Malformed("a recipe asks for a part that the snapshot does not name")
            found.update({(layer, number): refs[number] for number in numbers})
        return found

    def recipe_sessions(self, record: StreamRecord) -> set[bytes]:
        """The sessions whose data keys open the recipe of a stream; raises `Malformed` for no part."""
        parts = self.recipe_parts(record).items()
        return {self.layers[layer][0] for (layer, _), ref in parts if ref.key is Key.DATA}

    def runs(self, record: StreamRecord) -> Iterator[Extent]:
        """Every run of a segment's bytes that a stream needs, in no order.

        Each layer is gone through once, so that this ends in the time that the recipes' own size takes, however often
        a stream repeats what is below it. Raises `Malformed` as `extents` does.
        """
        needed = {self.number(record): [(0, record.size)]} if record.size else {}
        for layer in range(len(self.layers) + 1):
            below = Runs()
            for stream, runs in needed.items():
                recipe = Recipe(self.part, record, layer, stream)
                columns = np.array(runs, dtype=np.int64)
                for cut in recipe.cut(columns[:, 0], columns[:, 1] - columns[:, 0]):
                    for extent in each_extent(cut.extents):
                        if extent.segment is None:
                            below.add(cut.base, extent.start, extent.start + extent.length)
                        else:
                            yield extent
            needed = below.merged()
            if not needed:
                return

    def extents(self, record: StreamRecord) -> Iterator[Extent]:
        """The extents of a stream, all of segments; raises `Malformed` as soon as they cannot make it."""
        for cut in self.cuts(record):
            yield from each_extent(cut)

    def cuts(self, record: StreamRecord) -> Iterator[Extents]:
        """The same, many at once."""
        return self.recipe(record).cuts()

    def recipe(self, record: StreamRecord, floor: int | None = None) -> Layers:
        """The recipe of a stream, through the layers above `floor`."""
        return Layers(self.part, record, self.number(record), floor)

    def number(self, record: StreamRecord) -> int:
        """Which of the streams it is."""
        return self._numbers[id(record)]
