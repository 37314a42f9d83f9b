"""Index objects put together: one in the place of many small ones, or of some whose packs are mostly gone.

A host without a cache reads one object then instead of many. Hooks stay sealed: it takes no key to copy them.
"""

from collections.abc import Callable, Iterator
from contextlib import closing

from penstock.api.models import ObjectInfo
from penstock.format.encoding import new_id
from penstock.format.index import IndexedPack, encode_index
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.read.budget import RANGE
from penstock.repository.read.listing import listed, read_all
from penstock.repository.repository import put_new
from penstock.repository.temporary import TemporaryTables
from penstock.repository.upkeep.indexes import ReadIndex, read_index

__all__ = ["merge_indexes"]

_SCHEMA = """
CREATE TABLE objects (idx BLOB PRIMARY KEY, named INTEGER NOT NULL, there INTEGER NOT NULL) WITHOUT ROWID;
"""
#: An index object of fewer packs is small, and so many small ones are put together.
_SMALL = 64
_MANY = 16
#: Packs of one object, and bytes of their sealed hooks, at most.
_PACKS = 512
_HOOKS = 4 * 1024 * 1024


def merge_indexes(
    domain: Domain, workers: Workers, *, stays: Callable[[bytes], bool], is_old: Callable[[ObjectInfo], bool]
) -> int:
    """Put index objects in the place of others, if that is worth it; returns in the place of how many.

    `stays` says of a pack whether it is there, and will be. Only those that are old are taken: no session that lives
    put them. They stay until a prune finds that they say nothing more than the new ones.
    """
    with closing(TemporaryTables(_SCHEMA)) as tables:
        for read in _each(domain, workers, is_old):
            there = sum(1 for ends in read.packs if stays(ends.pack))
            tables.change("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (read.id, len(read.packs), there))
        ((hollow, small),) = tables.rows(
            f"SELECT total(2 * there < named AND named >= {_SMALL}), total(there < {_SMALL} AND there > 0) FROM objects"  # noqa: S608
        )
        if not hollow and small < _MANY:
            return 0
        merge = _Merge(domain, workers)
        for read in _each(domain, workers, is_old):
            rows = tables.rows("SELECT named, there FROM objects WHERE idx = ?", (read.id,))
            if not rows or not rows[0][1] or (rows[0][1] >= _SMALL and 2 * rows[0][1] >= rows[0][0]):
                continue
            merge.take(read.id, [one for one in read.indexed if stays(one.ends.pack)])
        return merge.finish()


def _each(domain: Domain, workers: Workers, is_old: Callable[[ObjectInfo], bool]) -> Iterator[ReadIndex]:
    """What a revoked key says of packs, nobody believes."""
    objects = (info for info in listed(workers, domain.sink, domain.at.index) if is_old(info))
    for read in read_all(workers, lambda info: read_index(domain, info), objects, most=RANGE):
        if read is not None and not read.revoked:
            yield read


class _Merge:
    """The object that is being filled."""

    def __init__(self, domain: Domain, workers: Workers) -> None:
        self._domain = domain
        self._workers = workers
        self._packs: list[IndexedPack] = []
        self._replaces: list[bytes] = []
        self._hooks = self._merged = 0

    def take(self, index: bytes, packs: list[IndexedPack]) -> None:
        """All that stays of an index object."""
        hooks = sum(len(one.sealed) for pack in packs for one in pack.hooks)
        if self._packs and (len(self._packs) + len(packs) > _PACKS or self._hooks + hooks > _HOOKS):
            self._put()
        self._packs += packs
        self._replaces.append(index)
        self._hooks += hooks

    def finish(self) -> int:
        """Put the last one; returns how many were put together."""
        self._put()
        return self._merged

    def _put(self) -> None:
        packs, replaces = self._packs, self._replaces
        self._packs, self._replaces, self._hooks = [], [], 0
        if not packs:
            return
        domain, index = self._domain, new_id()
        data = encode_index(
            index,
            packs,
            replaces=replaces,
            scope=domain.scope,
            signer=domain.access.key,
            layout_sealer=domain.layout_sealer,
            key=domain.access.signing,
        )
        self._workers.call(put_new, domain.sink, domain.at.index_key(index), data)
        self._merged += len(replaces)
