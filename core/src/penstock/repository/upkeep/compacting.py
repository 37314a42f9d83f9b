"""Compaction: what is needed of packs that are mostly dead is copied into new ones, sealed as it is.

The old packs are the homes of nothing from then on, and a prune deletes them as it deletes whatever is dead. Killed
anywhere, nothing is lost: copies that no index object names are found all the same, and copied again at worst.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject
from penstock.format.chunks import join_ids, split_ids
from penstock.format.encoding import new_id
from penstock.format.index import IndexedPack, PackEnds, SealedHooks, encode_index
from penstock.format.pack import (
    MAGIC,
    MAX_ENDS,
    MAX_SEGMENTS,
    TRAILER_BYTES,
    Carried,
    Place,
    Places,
    seal_places,
    sign_trailer,
    zeroes_for,
)
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.budget import RANGE
from penstock.repository.read.ends import PackEnd
from penstock.repository.read.listing import listed, read_all
from penstock.repository.read.verify import verify_pack
from penstock.repository.repository import put_new
from penstock.repository.temporary import TemporaryTables
from penstock.repository.upkeep.homes import Lodging
from penstock.repository.upkeep.indexes import read_index

__all__ = ["PACK_SIZE", "Compactor", "Sparse"]

#: How large a pack of copies gets, in bytes: as large as those of a backup.
PACK_SIZE = 16 * 1024 * 1024
#: Places of origins that a pack of copies carries, and of its own, in bytes at most; they are compressed yet.
_CARRIED = MAX_ENDS // 2
_PACKS_AN_INDEX = 512
_HOOKS = "CREATE TABLE hooks (pack BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID"


@dataclass(frozen=True, slots=True)
class Sparse:
    """A pack of `size` bytes, and what has its home there."""

    pack: bytes
    size: int
    lodgings: tuple[Lodging, ...]


@dataclass(slots=True)
class _OpenPack:
    """The pack that is being filled."""

    id: bytes = field(default_factory=new_id)
    segments: list[bytes] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    carried: dict[bytes, Carried] = field(default_factory=dict)
    #: In bytes: of segments and ids, and of carried places.
    size: int = len(MAGIC)
    carried_size: int = 0


class Compactor:
    """Copies segments into new packs, one of which is in memory at a time, beside one that is being read.

    As a context manager: leaving without an error puts the last pack, and an index object for all of them. `on_copied`
    is told of the bytes read so far. Used by one thread, which is none of the pool's.
    """

    def __init__(self, domain: Domain, workers: Workers, on_copied: Callable[[int], object]) -> None:
        self._domain = domain
        self._workers = workers
        self._on_copied = on_copied
        self._open = _OpenPack()
        self._indexed: list[PackEnds] = []
        #: Packs that were put, and their sizes.
        self.made: dict[bytes, int] = {}
        #: Packs that turned out to be damaged: nothing was copied from them.
        self.damaged: dict[bytes, str] = {}
        #: In bytes.
        self.read = 0

    def take(self, one: Sparse) -> None:
        """Copy what has its home in this pack, which is read as a whole, every byte of it verified."""
        try:
            end = self._workers.call(verify_pack, self._domain, one.pack, one.size, lambda _: None)
        except (DamagedObject, MissingObject) as error:
            if isinstance(error, DamagedObject):
                self.damaged[one.pack] = error.reason
            return
        self.read += one.size
        wanted = {lodging.origin: lodging.bits for lodging in one.lodgings}
        ids, _ = split_ids(end.sealed_ids(), len(end.places.places))
        for place, sealed_ids in zip(end.places.places, ids, strict=True):
            if wanted.get(place.id.pack, 0) >> place.id.ordinal & 1:
                self._add(end, place, bytes(sealed_ids))
        self._on_copied(self.read)

    def _add(self, end: PackEnd, place: Place, ids: bytes) -> None:
        origin = place.id.pack
        carried = _carried(end) if origin == end.places.pack else end.places.carried[origin]
        more = 0 if origin in self._open.carried else len(carried.places)
        pack = self._open
        if pack.places and (
            pack.size + place.sealed_length + len(ids) > PACK_SIZE
            or len(pack.places) >= MAX_SEGMENTS
            or pack.carried_size + more > _CARRIED
        ):
            self._close_pack()
            pack = self._open
        sealed = bytes(end.tail[place.offset : place.offset + place.sealed_length])
        offset = len(MAGIC) + sum(map(len, pack.segments))
        pack.places.append(
            Place(place.id, place.session, offset, place.sealed_length, place.plain_length, place.digest)
        )
        pack.segments.append(sealed)
        pack.ids.append(ids)
        if origin not in pack.carried:
            pack.carried[origin] = carried
            pack.carried_size += len(carried.places)
        pack.size += len(sealed) + len(ids)

    def _close_pack(self) -> None:
        pack, self._open = self._open, _OpenPack()
        if not pack.places:
            return
        domain = self._domain
        ids = join_ids(pack.ids)
        places = seal_places(Places(pack.id, tuple(pack.places), pack.carried), domain.layout_sealer, domain.scope)
        trailer = sign_trailer(domain.access.signing, domain.access.key, domain.scope, pack.id, ids, places)
        end = pack.places[-1].offset + pack.places[-1].sealed_length
        zeroes = bytes(zeroes_for(end, len(ids) + len(places)))
        data = b"".join((MAGIC, *pack.segments, zeroes, ids, places, trailer))
        self._workers.call(put_new, domain.sink, domain.at.pack_key(pack.id), data)
        self.made[pack.id] = len(data)
        self._indexed.append(PackEnds(pack.id, len(data), len(ids), len(places), tuple(pack.carried)))
        if len(self._indexed) >= _PACKS_AN_INDEX:
            self._put_index()

    def finish(self) -> None:
        """Put the last pack, and an index object that says where the copies are, with the hooks that are known."""
        self._close_pack()
        self._put_index()

    def _put_index(self) -> None:
        packs, self._indexed = self._indexed, []
        if not packs:
            return
        with closing(TemporaryTables(_HOOKS)) as tables:
            self._note_hooks(tables, {origin for ends in packs for origin in ends.origins})
            found = [IndexedPack(ends, tuple(self._hooks_of(tables, ends))) for ends in packs]
        # Writers believe that an index object lists all that a pack has, and read the ends of packs that none names.
        indexed = [one for one in found if len(one.hooks) == len(one.ends.origins)]
        if not indexed:
            return
        index = new_id()
        domain = self._domain
        data = encode_index(
            index,
            indexed,
            scope=domain.scope,
            signer=domain.access.key,
            layout_sealer=domain.layout_sealer,
            key=domain.access.signing,
        )
        self._workers.call(put_new, domain.sink, domain.at.index_key(index), data)

    def _note_hooks(self, tables: TemporaryTables, wanted: set[bytes]) -> None:
        domain = self._domain
        objects = listed(self._workers, domain.sink, domain.at.index)
        for read in read_all(self._workers, lambda info: read_index(domain, info), objects, most=RANGE):
            if read is not None and not read.revoked:
                hooks = chain.from_iterable(one.hooks for one in read.indexed)
                rows = [(one.pack, one.sealed) for one in hooks if one.pack in wanted]
                tables.change_all("INSERT OR IGNORE INTO hooks VALUES (?, ?)", rows)

    def _hooks_of(self, tables: TemporaryTables, ends: PackEnds) -> Iterator[SealedHooks]:
        for origin in ends.origins:
            for (sealed,) in tables.rows("SELECT sealed FROM hooks WHERE pack = ?", (origin,)):
                yield SealedHooks(origin, sealed)


def _carried(end: PackEnd) -> Carried:
    """What a pack of copies keeps of the pack that they were first written to."""
    middle = end.size - TRAILER_BYTES - end.start
    places = bytes(end.tail[middle - end.trailer.places_length : middle])
    trailer = end.trailer
    return Carried(places, trailer.signer, blake3(end.sealed_ids()).digest(), trailer.signature)
