"""Thinning: one record in the place of many that say what was deleted for good, so that they do not pile up.

A run puts it, and a later one deletes what it replaces: whoever listed the records before has read them by then. Of
its own records alone: in another key's name they would count for as long as that key, and no longer, if it is revoked.
"""

from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import fields

from penstock.api.errors import ObjectLocked
from penstock.api.models import ObjectInfo
from penstock.format.notice import Action, Deletion, Things
from penstock.format.times import now
from penstock.repository.domain import Domain
from penstock.repository.notices import Head
from penstock.repository.pool import Workers
from penstock.repository.read.listing import identified
from penstock.repository.said import Said, put_said, read_said

__all__ = ["thin_records"]

#: Records that are worth it.
_MANY = 50
#: Ids in one record at most: it is read whole.
_MOST = 100_000
_KINDS = tuple(one.name for one in fields(Things))


def thin_records(domain: Domain, workers: Workers, *, is_old: Callable[[ObjectInfo], bool]) -> int:
    """Delete the records that others replace, and replace what is replaced next; returns how many it deleted.

    Only those that are old are touched: nobody is at work who began before they were put. Memory grows with what was
    ever deleted, as it does for whoever reads the records.
    """
    old = {name for name, info in identified(workers, domain.sink, domain.at.deletions) if is_old(info)}
    # A record with the id of a tombstone says that the tombstone stands no more.
    old.difference_update(name for name, _ in identified(workers, domain.sink, domain.at.tombstones))
    said = read_said(domain, workers, domain.at.deletions, Deletion, domain.keeper, None)
    mine = {one.name: one for one in said if one.signer == domain.access.key and one.name in old}
    swept = {head for one in mine.values() for head in _swept(one)}
    mine = {name: one for name, one in mine.items() if _is_over(one, swept)}
    replaced = {
        name
        for one in mine.values()
        for name in one.content.things.deletions
        if name in mine and _holds(one, mine[name])
    }
    for name in sorted(replaced):
        with suppress(ObjectLocked):  # a hold that somebody put on it
            workers.call(domain.sink.delete, domain.at.deletion_key(name))
    _replace(domain, workers, [one for name, one in mine.items() if name not in replaced])
    return len(replaced)


def _swept(said: Said[Deletion]) -> Collection[Head]:
    return said.content.snapshots.items() if said.content.action is Action.DELETE else ()


def _is_over(said: Said[Deletion], swept: AbstractSet[Head]) -> bool:
    """Whether it says that something was deleted, or forgot only what was: neither is ever taken back."""
    record = said.content
    if record.action is Action.FORGET:
        return not record.gone and not record.missing and swept >= record.snapshots.items()
    return record.action is Action.DELETE


def _holds(one: Said[Deletion], other: Said[Deletion]) -> bool:
    """Whether a record says all that another says."""
    if other.content.action is not Action.DELETE:
        return True
    return one.content.snapshots.items() >= other.content.snapshots.items() and all(
        set(getattr(one.content.things, kind)).issuperset(getattr(other.content.things, kind)) for kind in _KINDS
    )


def _replace(domain: Domain, workers: Workers, records: list[Said[Deletion]]) -> None:
    """The small ones first: one that is large stays as it is."""
    snapshots: dict[bytes, bytes] = {}
    things: dict[str, set[bytes]] = {kind: set() for kind in _KINDS}
    taken = 0
    for one in sorted(records, key=_size):
        record = one.content
        taken += _size(one)
        if taken > _MOST:
            break
        if record.action is Action.DELETE:
            if any(snapshots.get(snapshot, digest) != digest for snapshot, digest in record.snapshots.items()):
                continue  # another head under the same id: a record has one of an id
            snapshots.update(record.snapshots)
        for kind, ids in things.items():
            ids.update(getattr(record.things, kind))
        things["deletions"].add(one.name)
    if len(things["deletions"]) >= _MANY:
        whole = Things(**{kind: tuple(sorted(ids)) for kind, ids in things.items()})
        workers.call(put_said, domain, Deletion(now(), Action.DELETE, snapshots, whole))


def _size(said: Said[Deletion]) -> int:
    return 1 + len(said.content.snapshots) + sum(len(getattr(said.content.things, kind)) for kind in _KINDS)
