"""The sparse index as a writer uses it: maps a batch's hooks to the packs worth searching.

After Lillibridge et al., "Sparse Indexing" (FAST 2009): only a sample of each pack's ids is indexed; the packs that
a batch's sampled ids point at are loaded whole, and the batch is deduplicated against them.
"""

from collections import OrderedDict
from collections.abc import Callable, Container, Mapping, Sequence

from penstock.api.errors import DamagedObject, MissingObject, RepositoryError
from penstock.format.encoding import Malformed
from penstock.format.index import PackEnds
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.known.known_pack import KnownPack, Lender
from penstock.repository.known.past import PastRow
from penstock.repository.pool import Workers
from penstock.repository.read.ends import PLACES_TAIL, PackEnd, read_end, read_known_end
from penstock.repository.sessions import require_usable

__all__ = ["SparseIndex"]

#: New directories that one batch may load.
_LOADS_A_BATCH = 12
#: How many packs of the run itself stay loaded although no hook pointed at them.
_FRESH = 1
_ANOTHER = "not the pack that was used before"
_LIES = "its ids tell another length of a chunk than the chunk has"
#: Packs that assembled chunks have pieces of, and that were looked at, which stay in memory.
_LENDERS = 1024
#: Packs of copies that were looked at, which stay in memory: some 40 KiB each.
_CARRIERS = 128


class SparseIndex:
    """Finds the packs that may hold a batch's chunks. Not thread-safe; holds at most `directory_chunks` chunks.

    `workers` make its requests, so that a stop ends its waits. A pack is used only if an unrevoked writer of the domain
    signed it, if each of its segments is of one of the `sessions`, which were verified and still are what they were,
    if `pin` knows no other pin of it, and if it is not among `unusable` (numbers). A maintainer's has copies alone, and
    all this has to be so of the packs that they are of, which may be gone. `on_damage` is told of packs that turn out
    not to be what was written; `damaged` keeps them.
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
        #: Packs that lend pieces, as `_loaded`; None for those that may not be used.
        self._lenders: OrderedDict[bytes, Lender | None] = OrderedDict()
        #: What packs have copies of, by their numbers.
        self._carriers: OrderedDict[int, Mapping[bytes, Lender]] = OrderedDict()
        #: Whether the sessions that were met can be relied on.
        self._met: dict[bytes, bool] = {}
        #: Packs found damaged, and why.
        self.damaged: dict[bytes, str] = {}

    def add(self, known: KnownPack) -> None:
        """Add a pack that was just written.

        A dump of new data finds next to nothing in its own earlier packs. Only the latest stay loaded without a hook
        pointing at them, so that they take no memory and do not evict packs of earlier nights. A hook reloads others.
        """
        self._make_room(known.weight, ())
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

    def distrust(self, known: KnownPack) -> None:
        """A loaded pack says another length of a chunk than it has: it is not used any more."""
        found = self._cache.find_pack(known.pack)
        if found is not None:
            self._doubt(found[0], known.pack, DamagedObject(self._domain.at.pack_key(known.pack), _LIES))
        if self._loaded.get(known.pack) is known:
            self._drop(known.pack)

    def held(self, row: PastRow) -> int:
        """Which segments of a pack that was used before may be used again: a bit for each, by ordinal.

        All of them, if the pack is there, is what it was, and nobody doubts it; else those that other packs have.
        """
        if self._domain.log.revoked(row.writer) or not all(map(self._usable, row.each_session())):
            return 0
        found = self._looked_at(row.pack)
        if found is not None:
            number, end = found
            if end.pin == row.pin:
                return -1
            self._doubt(number, row.pack, DamagedObject(self._domain.at.pack_key(row.pack), _ANOTHER))
        held = 0
        for number, ends in self._copies_of(row.pack):
            lender = self._copies_in(number, ends).get(row.pack)
            if lender is not None and lender.pin == row.pin:
                held |= lender.held()
        return held

    def holders(self, pack: bytes) -> list[bytes]:
        """The packs that a snapshot relies on that needs segments of this one: itself, or those with copies."""
        found = self._cache.find_pack(pack)
        if found is not None and found[0] not in self._bad and found[0] not in self._unusable:
            return [pack]
        return [ends.pack for _, ends in self._copies_of(pack)] or [pack]

    def _copies_of(self, pack: bytes) -> list[tuple[int, PackEnds]]:
        found = self._cache.copies_of(pack)
        return [one for one in found if one[0] not in self._bad and one[0] not in self._unusable]

    def _copies_in(self, number: int, ends: PackEnds) -> Mapping[bytes, Lender]:
        """What a pack has copies of that may be used, by the packs that it was written to first."""
        if number not in self._carriers:
            if len(self._carriers) >= _CARRIERS:
                self._carriers.popitem(last=False)
            try:
                end = self._workers.call(self._sound_end, ends)
                found = self._lenders_in(end) if end is not None else {}
            except (DamagedObject, MissingObject) as error:
                self._doubt(number, ends.pack, error)
                found = {}
            self._carriers[number] = found
        self._carriers.move_to_end(number)
        return self._carriers[number]

    def _sound_end(self, ends: PackEnds) -> PackEnd | None:
        """Both ends of a pack, or None if it is sound, but not to be used. Raises `DamagedObject`, `MissingObject`."""
        end = read_known_end(self._domain, ends)
        try:
            # Nothing of whom nobody trusts any more is opened.
            return None if self._domain.log.revoked(end.require_signer()) else end
        except Malformed as error:
            raise DamagedObject(self._domain.at.pack_key(ends.pack), str(error)) from None

    def _lenders_in(self, end: PackEnd) -> dict[bytes, Lender]:
        """The packs that its segments were written to first, as far as they may be used; raises `DamagedObject`."""
        own = end.places.pack
        try:
            found = [Lender.of_copies(end, origin) for origin in end.ends.origins]
        except Malformed as error:
            raise DamagedObject(self._domain.at.pack_key(own), str(error)) from None
        if not end.places.copies_alone:
            found.append(Lender.of(end))
        return {
            one.pack: one
            for one in found
            if not self._domain.log.revoked(one.writer)
            and all(map(self._usable, one.sessions))
            and self._pin(one.pack) in (None, one.pin)
        }

    def _looked_at(self, pack: bytes) -> tuple[int, PackEnd] | None:
        """The number and the end, without the ids of its chunks, of a pack that is there and that nobody doubts."""
        found = self._cache.find_pack(pack)
        if found is None or found[0] in self._bad or found[0] in self._unusable:
            return None
        number, ends = found
        try:
            end = self._workers.call(read_end, self._domain, pack, ends.size, PLACES_TAIL, with_ids=False)
        except (DamagedObject, MissingObject) as error:
            self._doubt(number, pack, error)
            return None
        return number, end

    def _lender(self, pack: bytes, pin: bytes) -> Lender | None:
        """A pack that assembled chunks have pieces of, if it may be used, and has that pin."""
        if pack not in self._lenders:
            if len(self._lenders) >= _LENDERS:
                self._lenders.popitem(last=False)
            self._lenders[pack] = self._lending(pack)
        self._lenders.move_to_end(pack)
        lender = self._lenders[pack]
        return lender if lender is not None and lender.pin == pin else None

    def _lending(self, pack: bytes) -> Lender | None:
        found = self._looked_at(pack)
        if found is None:
            return None
        lender = Lender.of(found[1])
        if self._domain.log.revoked(lender.writer) or not all(map(self._usable, lender.sessions)):
            return None
        return lender if self._pin(pack) in (None, lender.pin) else None

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
            end = self._workers.call(self._sound_end, ends)
            if end is not None and self._pin(ends.pack) not in (None, end.pin):
                raise DamagedObject(self._domain.at.pack_key(ends.pack), _ANOTHER)
            lenders = self._lenders_in(end) if end is not None else {}
            if end is None or not lenders:
                self._bad.add(number)
                return None
            known = self._known(end, lenders)
        except (DamagedObject, MissingObject) as error:
            self._doubt(number, ends.pack, error)
            return None
        if known.assembled.lengths:
            known.lend([lenders.get(known.pack), *(self._lender(*pack) for pack in known.assembled.packs)])
            if not self._make_room(known.weight, keep):
                return None
        self._take_in(known)
        return ends.pack

    def _known(self, end: PackEnd, lenders: Mapping[bytes, Lender]) -> KnownPack:
        try:
            return KnownPack.of(end, lenders)
        except Malformed as error:
            raise DamagedObject(self._domain.at.pack_key(end.places.pack), str(error)) from None

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
        self._held += known.weight

    def _drop(self, pack: bytes) -> None:
        self._held -= self._loaded.pop(pack).weight
        if pack in self._fresh:
            self._fresh.remove(pack)
