"""The sparse index as a writer uses it: kept in step with the repository, asked for hooks, answering with chunks.

After Lillibridge et al., "Sparse Indexing" (FAST 2009): of each pack only a sample of the ids is indexed; the packs
that a batch's sampled ids point at are loaded whole, and the batch is deduplicated against those.
"""

import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, RepositoryError, UnsupportedFormat
from penstock.format.encoding import ID_BYTES, Malformed, new_id
from penstock.format.index import PackSummary, open_index, seal_index
from penstock.format.pack import Directory, SegmentId
from penstock.repository import layout
from penstock.repository.budget import PACK_CHUNKS
from penstock.repository.known.cache import Cache
from penstock.repository.read.directories import read_directory, read_pack_end
from penstock.repository.repository import Repository
from penstock.repository.sessions import read_session

__all__ = ["KnownPack", "SparseIndex", "synchronize", "write_index"]

_ID = struct.Struct(f"{ID_BYTES}s")
#: Shared by all directories: a number costs no memory a second time.
_NUMBERS = tuple(range(2 * PACK_CHUNKS))
#: New directories that one batch may load.
_LOADS_A_BATCH = 12
#: Packs of the run itself that are kept though no hook pointed at them.
_FRESH = 1


class KnownPack:
    """The chunks of one pack by id. `chunks` gives a chunk's number in the pack; `segment_of` its segment."""

    __slots__ = ("_segments", "_starts", "chunks")

    def __init__(self) -> None:
        self.chunks: dict[bytes, int] = {}
        self._segments: list[SegmentId] = []
        self._starts: list[int] = []

    @classmethod
    def of(cls, directory: Directory) -> "KnownPack":
        """The chunks of a directory."""
        known = cls()
        ids = [chunk for (chunk,) in _ID.iter_unpack(directory.ids)]
        numbers: Sequence[int] = _NUMBERS if len(ids) <= len(_NUMBERS) else range(len(ids))
        # A chunk that a pack holds twice: the first place will do.
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
    """What a writer asks whether a chunk is known. Not thread-safe; holds at most `directory_chunks` chunks."""

    def __init__(
        self,
        repository: Repository,
        cache: Cache,
        *,
        directory_chunks: int,
        usable: Callable[[int], bool],
        on_damage: Callable[[RepositoryError], None],
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._limit = directory_chunks
        self._usable = usable
        self._on_damage = on_damage
        self._loaded: OrderedDict[bytes, KnownPack] = OrderedDict()
        self._held = 0
        #: Packs of this run that no hook has pointed at yet, the oldest first.
        self._fresh: list[bytes] = []
        self._bad: set[int] = set()

    def add(self, pack: bytes, known: KnownPack) -> None:
        """Take in a pack that was just written.

        A dump that is all new finds next to nothing in its own earlier packs: only the latest are kept for nothing,
        so that they neither take memory nor push out what earlier nights have left. A hook brings others back.
        """
        self._take_in(pack, known)
        self._fresh.append(pack)
        if len(self._fresh) > _FRESH:
            self._drop(self._fresh[0])

    def _take_in(self, pack: bytes, known: KnownPack) -> None:
        self._loaded[pack] = known
        self._held += len(known.chunks)
        while self._held > self._limit and len(self._loaded) > 1:
            self._drop(next(iter(self._loaded)))

    def _drop(self, pack: bytes) -> None:
        self._held -= len(self._loaded.pop(pack).chunks)
        if pack in self._fresh:
            self._fresh.remove(pack)

    def warm_up(self) -> None:
        """Load the latest packs into half of the room: last night's changes are the likeliest to come again."""
        room = self._limit // 2
        chosen = []
        for number, _, chunks in self._cache.numbers():
            if not self._usable(number):
                continue
            room -= chunks
            if room < 0:
                break
            chosen.append(number)
        for number in reversed(chosen):
            self._load(number)

    def packs_for(self, hooks: Sequence[bytes]) -> list[KnownPack]:
        """The packs to look for a batch in that has these hooks, the likeliest first; loads those that are not."""
        missing = []
        for hook in hooks:
            for pack, known in self._loaded.items():
                if hook in known.chunks:
                    self._loaded.move_to_end(pack)
                    if pack in self._fresh:
                        self._fresh.remove(pack)
                    break
            else:
                missing.append(hook)
        if missing:
            self._load_for(missing)
        return list(reversed(self._loaded.values()))

    def _load_for(self, missing: Sequence[bytes]) -> None:
        """Load the packs that most of these hooks point at."""
        found: dict[int, set[bytes]] = {}
        for hook, number in self._cache.find(missing):
            if number not in self._bad and self._usable(number):
                found.setdefault(number, set()).add(hook)
        for _ in range(_LOADS_A_BATCH):
            if not found:
                return
            best = max(found, key=lambda number: (len(found[number]), number))
            covered = found.pop(best)
            if self._load(best):
                found = {number: rest for number, held in found.items() if (rest := held - covered)}

    def _load(self, number: int) -> bool:
        place = self._cache.place(number)
        try:
            directory = read_directory(self._repository, place.pack, place.directory_offset, place.directory_length)
        except (DamagedObject, MissingObject) as error:
            # Its chunks are stored anew: a damaged pack must not spread into new snapshots.
            self._bad.add(number)
            self._on_damage(error)
            return False
        self._take_in(place.pack, KnownPack.of(directory))
        return True


def synchronize(repository: Repository, cache: Cache, on_damage: Callable[[RepositoryError], None]) -> set[int]:
    """Bring the cache in step with the repository: index objects first, then packs that no index lists yet.

    The numbers of packs that must not be deduplicated against: their session is gone, or of a revoked writer.
    Raises `UnsupportedFormat` where a later version has begun to prune.
    """
    if any(True for _ in repository.sink.list(layout.TOMBSTONES)):
        raise UnsupportedFormat(
            f"{repository.sink.location} is being pruned by a later version", hint="update Penstock"
        )
    _read_new_indexes(repository, cache, on_damage)
    _read_unindexed_packs(repository, cache, on_damage)
    good = _good_sessions(repository, cache, on_damage)
    return cache.packs_of_other_sessions(good)


def _read_new_indexes(repository: Repository, cache: Cache, on_damage: Callable[[RepositoryError], None]) -> None:
    known = cache.seen()
    for info in repository.sink.list(layout.INDEX):
        if info.key in known:
            continue
        try:
            data = repository.sink.get(info.key)
            packs = open_index(data, repository.index_sealer, repository.id, layout.id_of(info.key))
        except ObjectMissing:
            continue
        except Malformed as error:
            on_damage(DamagedObject(info.key, str(error)))
            continue
        cache.add_packs(packs, indexed=True)
        cache.saw([info.key])


def _read_unindexed_packs(repository: Repository, cache: Cache, on_damage: Callable[[RepositoryError], None]) -> None:
    known = cache.packs()
    gone = set(known)
    new = []
    for info in repository.sink.list(layout.PACKS):
        try:
            pack = layout.id_of(info.key)
        except Malformed as error:
            on_damage(DamagedObject(info.key, str(error)))
            continue
        gone.discard(pack)
        new.append(info.key)
        if pack not in known:
            try:
                _, summary = read_pack_end(repository, pack, info.size)
            except (DamagedObject, MissingObject) as error:
                on_damage(error)
                continue
            cache.add_packs([summary], indexed=False)
    cache.forget_packs(gone)
    cache.saw(new)


def _good_sessions(repository: Repository, cache: Cache, on_damage: Callable[[RepositoryError], None]) -> list[bytes]:
    known = cache.sessions()
    good = []
    for info in repository.sink.list(layout.SESSIONS):
        try:
            session = layout.id_of(info.key)
            writer = known.get(session)
            if writer is None:
                writer = read_session(repository, session).writer
                cache.add_session(session, writer)
        except (DamagedObject, MissingObject) as error:
            on_damage(error)
            continue
        except Malformed as error:
            on_damage(DamagedObject(info.key, str(error)))
            continue
        if not repository.grants.revoked(writer):
            good.append(session)
    return good


def write_index(repository: Repository, cache: Cache, packs: list[PackSummary]) -> tuple[bytes, int]:
    """Write an index object over `packs`; its id and size."""
    index = new_id()
    data = seal_index(index, packs, repository.index_sealer, repository.id)
    repository.sink.put(layout.index_key(index), data)
    cache.add_packs(packs, indexed=True)
    cache.saw([layout.index_key(index)])
    return index, len(data)
