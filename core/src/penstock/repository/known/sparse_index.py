"""The sparse index as a writer uses it: maps a batch's hooks to the packs worth searching.

After Lillibridge et al., "Sparse Indexing" (FAST 2009): only a sample of each pack's ids is indexed; the packs that
a batch's sampled ids point at are loaded whole, and the batch is deduplicated against them.
"""

import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence

from penstock.api.errors import DamagedObject, MissingObject, RepositoryError
from penstock.format.encoding import ID_BYTES
from penstock.format.pack import Directory, SegmentId
from penstock.repository.budget import PACK_CHUNKS
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.read.directories import read_directory
from penstock.repository.repository import Repository

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

    `sessions` are those whose data keys seal its segments.
    """

    __slots__ = ("_segments", "_starts", "chunks", "sessions")

    def __init__(self, sessions: Iterable[bytes]) -> None:
        self.chunks: dict[bytes, int] = {}
        self.sessions = frozenset(sessions)
        self._segments: list[SegmentId] = []
        self._starts: list[int] = []

    @classmethod
    def of(cls, directory: Directory) -> "KnownPack":
        """The chunks of a directory."""
        known = cls(place.session for place in directory.segments)
        ids = [chunk for (chunk,) in _ID.iter_unpack(directory.ids)]
        numbers: Sequence[int] = _NUMBERS if len(ids) <= len(_NUMBERS) else range(len(ids))
        # If a pack holds a chunk twice, use the first place.
        known.chunks = dict(zip(reversed(ids), reversed(numbers[: len(ids)]), strict=True))
        start = 0
        for place in directory.segments:
            known.begin_segment(place.id, start)
            start += place.chunks
        return known

    def begin_segment(self, segment: SegmentId, start: int) -> None:
        """The next segment begins with chunk `start`."""
        self._segments.append(segment)
        self._starts.append(start)

    def extents(self, first: int, end: int) -> Iterable[tuple[SegmentId, int, int]]:
        """(segment, first chunk in it, chunks) for the chunks `first` to `end` of the pack."""
        at = bisect_right(self._starts, first) - 1
        while first < end:
            start = self._starts[at]
            stop = min(end, self._starts[at + 1]) if at + 1 < len(self._starts) else end
            yield self._segments[at], first - start, stop - first
            first = stop
            at += 1


class SparseIndex:
    """Finds the packs that may hold a batch's chunks. Not thread-safe; holds at most `directory_chunks` chunks.

    `workers` make its requests, so that a stop ends its waits.
    `unusable` are the numbers of packs that must not be deduplicated against. `on_damage` is told of packs that turn
    out to be unusable.
    """

    def __init__(
        self,
        repository: Repository,
        cache: Cache,
        workers: Workers,
        *,
        directory_chunks: int,
        unusable: Container[int],
        on_damage: Callable[[RepositoryError], None],
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._workers = workers
        self._limit = directory_chunks
        self._unusable = unusable
        self._on_damage = on_damage
        #: In order of last use, most recent last.
        self._loaded: OrderedDict[bytes, KnownPack] = OrderedDict()
        self._held = 0
        #: Packs of this run that no hook has pointed at yet, oldest first.
        self._fresh: list[bytes] = []
        self._bad: set[int] = set()

    def add(self, pack: bytes, known: KnownPack) -> None:
        """Add a pack that was just written.

        A dump of new data finds next to nothing in its own earlier packs. Only the latest stay loaded without a hook
        pointing at them, so that they take no memory and do not evict packs of earlier nights. A hook reloads others.
        """
        self._make_room(len(known.chunks), ())
        self._take_in(pack, known)
        self._fresh.append(pack)
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
        if place is None or place.pack in self._loaded or not self._make_room(place.chunks, keep):
            return None
        try:
            offset, length = place.directory_offset, place.directory_length
            directory = self._workers.call(read_directory, self._repository, place.pack, offset, length)
        except (DamagedObject, MissingObject) as error:
            # Its chunks are stored again: damage must not spread to new snapshots.
            self._bad.add(number)
            self._on_damage(error)
            return None
        self._take_in(place.pack, KnownPack.of(directory))
        return place.pack

    def _make_room(self, chunks: int, keep: Container[bytes]) -> bool:
        """Drop the least recently used packs not in `keep`; returns whether the new chunks fit."""
        for pack in [pack for pack in self._loaded if pack not in keep]:
            if self._held + chunks <= self._limit:
                break
            self._drop(pack)
        # One pack may always be loaded, however large.
        return self._held + chunks <= self._limit or not self._loaded

    def _take_in(self, pack: bytes, known: KnownPack) -> None:
        self._loaded[pack] = known
        self._held += len(known.chunks)

    def _drop(self, pack: bytes) -> None:
        self._held -= len(self._loaded.pop(pack).chunks)
        if pack in self._fresh:
            self._fresh.remove(pack)
