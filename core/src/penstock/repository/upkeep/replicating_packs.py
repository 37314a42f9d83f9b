"""The packs of a replica: those that a snapshot needs, or, where one is gone or damaged, those with copies of it."""

from collections.abc import Callable, Container, Iterator
from contextlib import closing
from itertools import chain
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.copies import Copies
from penstock.repository.read.segments import PlacedPack
from penstock.repository.read.table import SegmentTable
from penstock.repository.temporary import PackSegments
from penstock.repository.upkeep.copying import Copier
from penstock.repository.upkeep.stock import Stock

__all__ = ["Copied", "OnDamage", "PackCopies"]

Wrong = DamagedObject | MissingObject
OnDamage = Callable[[Wrong], object]


class Copied(NamedTuple):
    """Keys of packs: those of a table that were deleted, and those that hold what it needs."""

    gone: list[str]
    held: Iterator[str]


class PackCopies:
    """Copies packs of `source`; what is at the target is in `stock`. Used by one thread, which is none of the pools'.

    `packers` copy packs, each of which is in memory as a whole; `workers` ask for what is small.
    """

    def __init__(
        self, source: Domain, copier: Copier, stock: Stock, workers: Workers, packers: Workers, on_damage: OnDamage
    ) -> None:
        self._source = source
        self._copier = copier
        self._stock = stock
        self._workers = workers
        self._packers = packers
        self._on_damage = on_damage

    def copy(self, table: SegmentTable, deleted: Container[str]) -> Copied:
        """Copy what the replica lacks for a segment table; of the packs that are gone, some were `deleted`.

        Raises the error of the first pack that is gone or damaged, if other packs do not hold all that is needed of it.
        """
        failed: dict[bytes, Wrong] = {}
        carriers: set[str] = set()
        with closing(PackSegments()) as lost:

            def copy(one: tuple[bytes, int]) -> tuple[bytes, int, Wrong | None]:
                try:
                    self._pack(one[0], table.pin(one[0]))
                except (DamagedObject, MissingObject) as error:
                    return *one, error
                return *one, None

            for pack, needed, error in self._packers.map(copy, table.used()):
                if error is not None:
                    failed[pack] = error
                    lost.add([(pack, needed)])
            if failed:
                carriers = self._carriers(table, lost, failed)
        # Not before: a snapshot whose packs are gone may have been let go of.
        for error in failed.values():
            if error.key not in deleted:
                self._on_damage(error)
        at = self._source.at
        held = (at.pack_key(pack) for pack, _ in table.used() if pack not in failed)
        return Copied([error.key for error in failed.values() if error.key in deleted], chain(carriers, held))

    def _pack(self, pack: bytes, pin: tuple[bytes, int]) -> None:
        key = self._source.at.pack_key(pack)
        if self._stock.lacks(key):
            size = self._size(key)
            self._copier.pack(self._source, pack, size, pin, replace=self._stock.target_size(key) is not None)
            self._stock.put(key, size)

    def _size(self, key: str) -> int:
        """Asked for where it was not listed: it may be newer."""
        size = self._stock.source_size(key)
        if size is not None:
            return size
        try:
            return self._source.sink.stat(key).size
        except ObjectMissing:
            raise MissingObject(key, "the pack is gone") from None

    def _carriers(self, table: SegmentTable, lost: PackSegments, failed: dict[bytes, Wrong]) -> set[str]:
        """Copy packs with copies of what is needed of these, and return their keys.

        Raises what is wrong with the first that has none.
        """
        keys = set()
        with closing(Copies(self._source, self._workers, table.pin)) as copies:
            for pack in copies.lost(lost, 1):
                raise failed[pack]
            for pack, needed in lost:
                left = needed
                for placed in self._workers.call(lambda pack=pack: list(copies.of(pack))):  # type: ignore[misc]
                    if left and (has := self._carrier(placed, left)):
                        left &= ~has
                        keys.add(placed.key)
                if left:
                    raise failed[pack]
        return keys

    def _carrier(self, placed: PlacedPack, needed: int) -> int:
        """Copy a pack that has some of these segments of another; a bit for each that it has, none if it is damaged."""
        has = [segment for segment in placed if needed >> segment.ordinal & 1]
        if not has:
            return 0
        if self._stock.lacks(placed.key):
            places = [placed.find(segment) for segment in has]
            try:
                size = self._workers.call(self._size, placed.key)
                self._packers.call(self._copier.carrier, self._source, layout.id_of(placed.key), size, places)
            except (DamagedObject, MissingObject) as error:
                self._on_damage(error)
                return 0
            self._stock.put(placed.key, size)
        return sum(1 << segment.ordinal for segment in has)
