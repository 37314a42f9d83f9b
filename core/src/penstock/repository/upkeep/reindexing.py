"""Index objects for packs that none names: a writer would read the end of each such pack before every first backup."""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, SinkError
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.format.index import PackSummary
from penstock.format.notice import Things
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import delete, read_doomed, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.budget import RANGE
from penstock.repository.read.ends import PLACES_TAIL, TAIL, PackEnd, read_end
from penstock.repository.read.listing import listed, pages, read_all
from penstock.repository.temporary import TemporaryTables
from penstock.repository.upkeep.indexes import read_index
from penstock.repository.upkeep.living import read_living
from penstock.repository.write.indexing import HOOKS_AN_INDEX, PACKS_AN_INDEX, put_index

__all__ = ["Reindexed", "let_go", "reindex"]

_SCHEMA = "CREATE TABLE named (pack BLOB, size INTEGER, PRIMARY KEY (pack, size)) WITHOUT ROWID"

#: Index objects that one record explains.
_RECORD = 5000

Put = Callable[[str, bytes], None]


class Reindexed(NamedTuple):
    """How many packs no index object named, and whether one does now."""

    packs: int
    named: bool


def reindex(domain: Domain, workers: Workers, ended: Container[bytes], now: datetime, put: Put) -> Reindexed:
    """Put index objects for the packs that none names, where this key knows chunks; else only count them.

    Left out are packs that cannot be read, that no writer relies on, that a prune has named, or that a session is just
    writing, which ends with an index object of its own: one that lives by the store's time `now`, and is not among
    those that have `ended`.
    """
    count = hooks = 0
    summaries: list[PackSummary] = []

    def flush() -> None:
        nonlocal hooks
        if summaries:
            workers.call(put_index, domain, tuple(summaries), put)
            summaries.clear()
            hooks = 0

    for end in _unnamed(domain, workers, ended, now):
        count += 1
        if domain.knows_chunks:
            try:
                summaries.append(end.summary())
            except Malformed:
                continue  # its ids are damaged, and `check` tells
            hooks += len(summaries[-1].hooks)
            if hooks > HOOKS_AN_INDEX or len(summaries) >= PACKS_AN_INDEX:
                flush()
    flush()
    return Reindexed(count, domain.knows_chunks)


def _unnamed(domain: Domain, workers: Workers, ended: Container[bytes], now: datetime) -> Iterator[PackEnd]:
    living = {one.id for one in read_living(domain, workers, now).sessions if one.id not in ended}
    shunned = read_notices(domain, workers).distrusted.keys() | read_doomed(domain, workers).packs
    with closing(TemporaryTables(_SCHEMA)) as tables:
        objects = listed(workers, domain.sink, domain.at.index)
        for read in read_all(workers, lambda info: read_index(domain, info), objects, most=RANGE):
            # What a revoked writer says of packs, nobody believes.
            if read is not None and not read.revoked:
                rows = [(one.pack, one.size) for one in read.packs]
                tables.change_all("INSERT OR IGNORE INTO named VALUES (?, ?)", rows)

        def is_named(info: ObjectInfo) -> bool:
            try:
                pack = layout.id_of(info.key)
            except Malformed:
                return True  # a stranger's
            row = (pack, info.size)
            return pack in shunned or bool(tables.rows("SELECT 1 FROM named WHERE pack = ? AND size = ?", row))

        for page in pages(listed(workers, domain.sink, domain.at.packs)):
            for end in workers.map(lambda info: _end(domain, info), [info for info in page if not is_named(info)]):
                if end is not None and living.isdisjoint(place.session for place in end.places.places):
                    yield end


def _end(domain: Domain, info: ObjectInfo) -> PackEnd | None:
    """The end of a pack, if a writer whose packs count signed it."""
    try:
        end = read_end(domain, layout.id_of(info.key), info.size, TAIL if domain.knows_chunks else PLACES_TAIL)
        signer = end.require_signer()
    except (DamagedObject, MissingObject, Malformed):
        return None
    return None if domain.log.revoked(signer) else end


def let_go(domain: Domain, workers: Workers, lost: Iterable[bytes], warn: Callable[[str], object]) -> None:
    """Record that these index objects are gone, so that nobody misses them, and delete what is left of them.

    What they said is said by others by now, or is asked of the packs themselves.
    """
    each = iter(sorted(lost))
    while some := tuple(islice(each, _RECORD)):
        workers.call(delete, domain, {}, Things(index=some))
        try:
            workers.call(domain.sink.delete_many, [domain.at.index_key(index) for index in some])
        except SinkError as error:
            if error.retryable:
                raise
            warn(f"a damaged index object stays: {error}")
