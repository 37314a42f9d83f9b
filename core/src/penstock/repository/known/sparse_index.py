"""The sparse index as a writer uses it: maps a batch's hooks to the packs worth searching.

After Lillibridge et al., "Sparse Indexing" (FAST 2009): only a sample of each pack's ids is indexed; the packs that
a batch's sampled ids point at are loaded whole, and the batch is deduplicated against them.
"""

import struct
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import accumulate

from penstock.api.errors import DamagedObject, MissingObject, RepositoryError
from penstock.format.encoding import ID_BYTES, Malformed
from penstock.format.index import PackEnds
from penstock.format.pack import SegmentId
from penstock.repository.budget import PACK_CHUNKS
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.known.past import PastRow
from penstock.repository.pool import Workers
from penstock.repository.read.ends import PLACES_TAIL, PackEnd, read_end, read_known_end
from penstock.repository.sessions import require_usable

__all__ = ["KnownPack", "SparseIndex"]

_ID = struct.Struct(f"{ID_BYTES}s")
#: Shared by all directories, so that each number takes memory only once.
_NUMBERS = tuple(range(2 * PACK_CHUNKS))
#: New directories that one batch may load.
_LOADS_A_BATCH = 12
#: How many packs of the run itself stay loaded although no hook pointed at them.
_FRESH = 1


class KnownPack:
    """The chunks of one pack by id: `chunks` gives a chunk's number in the pack, `extents` the places of runs.

    `sessions` are those whose keys seal its segments, `writer` is whose key signs it; `pin` is None while the pack is
    being written.
    """

    __slots__ = ("_ends", "_segments", "_starts", "chunks", "pack", "pin", "sessions", "writer")

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
        self._ends = array("I")

    @classmethod
    def of(cls, end: PackEnd) -> "KnownPack":
        """The chunks of a pack whose end was read, and whose writer was looked at; raises `Malformed`.

        Those of segments that were copied from other packs are left out: a row names the pack that they were written
        to first, with its pin, and that pack may be gone.
        """
        found = end.chunks()
        known = cls(end.places.pack, (place.session for place in end.places.places), end.pin, writer=end.trailer.writer)
        ids = [chunk for (chunk,) in _ID.iter_unpack(found.ids)]
        numbers: Sequence[int] = _NUMBERS if len(ids) <= len(_NUMBERS) else range(len(ids))
        known._ends = array("I", accumulate(found.lengths))
        start = 0
        own = []
        for place, count in zip(end.places.places, found.counts, strict=True):
            known.begin_segment(place.id, start)
            if place.id.pack == known.pack:
                own.append(slice(start, start + count))
            start += count
        # If a pack holds a chunk twice, use the first place.
        for some in reversed(own):
            known.chunks.update(zip(reversed(ids[some]), reversed(numbers[some]), strict=True))
        return known

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

    def extents(self, first: int, end: int) -> Iterable[tuple[SegmentId, int, int]]:
        """(segment, offset in it, bytes) for the chunks `first` to `end` of the pack."""
        at = bisect_right(self._starts, first) - 1
        while first < end:
            start = self._starts[at]
            stop = min(end, self._starts[at + 1]) if at + 1 < len(self._starts) else end
            begin = self._ends[start - 1] if start else 0
            offset = (self._ends[first - 1] if first else 0) - begin
            yield self._segments[at], offset, self._ends[stop - 1] - begin - offset
            first = stop
            at += 1


class SparseIndex:
    """Finds the packs that may hold a batch's chunks. Not thread-safe; holds at most `directory_chunks` chunks.

    `workers` make its requests, so that a stop ends its waits. A pack is used only if an unrevoked writer of the domain
    signed it, if each of its segments is of one of the `sessions`, which were verified and still are what they were,
    if `pin` knows no other pin of it, and if it is not among `unusable` (numbers). `on_damage` is told of packs that
    turn out not to be what was written; `damaged` keeps them.
    """

    def __init__(
        self,
        domain: Domain,
        cache: Cache,
        workers: Workers,
        *,
        directory_chunks: int,
        sessions: Container[bytes],
        unusable: Container[int],
        on_damage: Callable[[RepositoryError], None],
        pin: Callable[[bytes], bytes | None],
    ) -> None:
        self._domain = domain
        self._cache = cache
        self._workers = workers
        self._limit = directory_chunks
        self._sessions = sessions
        self._unusable = unusable
        self._on_damage = on_damage
        self._pin = pin
        #: In order of last use, most recent last.
        self._loaded: OrderedDict[bytes, KnownPack] = OrderedDict()
        self._held = 0
        #: Packs of this run that no hook has pointed at yet, oldest first.
        self._fresh: list[bytes] = []
        self._bad: set[int] = set()
        #: Whether the sessions that were met can be relied on.
        self._met: dict[bytes, bool] = {}
        #: Packs found damaged, and why.
        self.damaged: dict[bytes, str] = {}

    def add(self, known: KnownPack) -> None:
        """Add a pack that was just written.

        A dump of new data finds next to nothing in its own earlier packs. Only the latest stay loaded without a hook
        pointing at them, so that they take no memory and do not evict packs of earlier nights. A hook reloads others.
        """
        self._make_room(len(known.chunks), ())
        self._take_in(known)
        self._fresh.append(known.pack)
        if len(self._fresh) > _FRESH:
            self._drop(self._fresh[0])

    def warm_up(self) -> None:
        """Load the latest packs into half of the space: last night's changes are the likeliest to recur."""
        for number in reversed(self._cache.latest(self._limit // 2)):
            if number not in self._unusable:
                self._load(number, ())

    def packs_for(self, hooks: Sequence[bytes]) -> list[KnownPack]:
        """The packs to search for a batch with these hooks, likeliest first; loads missing ones."""
        merits: dict[bytes, int] = {}
        missing = []
        for hook in hooks:
            for pack, known in self._loaded.items():
                if hook in known.chunks:
                    merits[pack] = merits.get(pack, 0) + 1
                    break
            else:
                missing.append(hook)
        for pack in sorted(merits, key=merits.__getitem__):
            self._loaded.move_to_end(pack)
            if pack in self._fresh:
                self._fresh.remove(pack)
        if missing:
            self._load_for(missing, merits)
        return list(reversed(self._loaded.values()))

    def vouches(self, row: PastRow) -> bool:
        """Whether a pack that was used before may be used again: it is there, is what it was, and nobody doubts it."""
        pack = row.pack
        found = self._cache.find_pack(pack)
        if found is None or found[0] in self._bad or found[0] in self._unusable:
            return False
        if self._domain.log.revoked(row.writer) or not all(map(self._usable, row.each_session())):
            return False
        number, ends = found
        try:
            end = self._workers.call(read_end, self._domain, pack, ends.size, PLACES_TAIL, with_ids=False)
            if end.pin != row.pin:
                raise DamagedObject(self._domain.at.pack_key(pack), "not the pack that was used before")
        except (DamagedObject, MissingObject) as error:
            self._doubt(number, pack, error)
            return False
        return True

    def _doubt(self, number: int, pack: bytes, error: DamagedObject | MissingObject) -> None:
        """Its chunks are stored again: damage must not spread to new snapshots."""
        self._bad.add(number)
        if isinstance(error, DamagedObject):
            self.damaged[pack] = error.reason
        self._on_damage(error)

    def _load_for(self, missing: Sequence[bytes], merits: dict[bytes, int]) -> None:
        """Load the packs that most of these hooks point at, as many as fit beside those already in `merits`."""
        found: dict[int, set[bytes]] = {}
        for hook, number in self._cache.find(missing):
            if number not in self._bad and number not in self._unusable:
                found.setdefault(number, set()).add(hook)
        loaded = []
        for _ in range(_LOADS_A_BATCH):
            if not found:
                break
            best = max(found, key=lambda number: (len(found[number]), number))
            covered = found.pop(best)
            pack = self._load(best, merits)
            if pack is not None:
                merits[pack] = len(covered)
                loaded.append(pack)
                found = {number: rest for number, held in found.items() if (rest := held - covered)}
        for pack in sorted(loaded, key=merits.__getitem__):
            self._loaded.move_to_end(pack)

    def _load(self, number: int, keep: Container[bytes]) -> bytes | None:
        """Load a pack if it fits beside those in `keep`; returns its id, or None."""
        place = self._cache.place(number)
        if place is None or place[0].pack in self._loaded or not self._make_room(place[1], keep):
            return None
        ends = place[0]
        try:
            known = self._workers.call(self._read, ends)
            if known is not None and self._pin(ends.pack) not in (None, known.pin):
                raise DamagedObject(self._domain.at.pack_key(ends.pack), "not the pack that was used before")
        except (DamagedObject, MissingObject) as error:
            self._doubt(number, ends.pack, error)
            return None
        if known is None:
            self._bad.add(number)
            return None
        self._take_in(known)
        return ends.pack

    def _read(self, ends: PackEnds) -> KnownPack | None:
        """The pack, or None if it is sound, but must not be used; raises `DamagedObject`, `MissingObject`."""
        end = read_known_end(self._domain, ends)
        try:
            writer = end.require_writer()
            known = KnownPack.of(end)
        except Malformed as error:
            raise DamagedObject(self._domain.at.pack_key(ends.pack), str(error)) from None
        if self._domain.log.revoked(writer) or not all(map(self._usable, known.sessions)):
            return None
        return known

    def _usable(self, session: bytes) -> bool:
        """Whether a session can be relied on: read once in each run, for it may have changed since it was seen."""
        if session not in self._met:
            self._met[session] = session in self._sessions
            try:
                if self._met[session]:
                    require_usable(self._domain, session)
            except (DamagedObject, MissingObject) as error:
                self._met[session] = False
                self._on_damage(error)
        return self._met[session]

    def _make_room(self, chunks: int, keep: Container[bytes]) -> bool:
        """Drop the least recently used packs not in `keep`; returns whether the new chunks fit."""
        for pack in [pack for pack in self._loaded if pack not in keep]:
            if self._held + chunks <= self._limit:
                break
            self._drop(pack)
        # One pack may always be loaded, however large.
        return self._held + chunks <= self._limit or not self._loaded

    def _take_in(self, known: KnownPack) -> None:
        self._loaded[known.pack] = known
        self._held += len(known.chunks)

    def _drop(self, pack: bytes) -> None:
        self._held -= len(self._loaded.pop(pack).chunks)
        if pack in self._fresh:
            self._fresh.remove(pack)
