"""Object lock: the objects that a new snapshot needs stay locked as long as the snapshot, however old they are."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

from penstock.api.errors import ObjectMissing
from penstock.api.sink import Sink
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.trust.log import OwnerLog

__all__ = ["foundations", "longest", "prolong_locks", "store_time"]

#: Locks are extended by this fraction more than needed, so that not every night has to extend them again.
_AHEAD = 8
#: A lock must be this fraction longer than needed, for the time until the snapshot itself is put.
_SLACK = 64
#: Keys that are in memory at once.
_PAGE = 1000


def foundations(log: OwnerLog) -> list[str]:
    """The keys of the objects that every restore needs."""
    slots = [layout.slot_key(grantee.grant.key) for grantee in log.active(Role.SLOT)]
    return [layout.CONFIG, *log.keys, *slots]


def longest(retention: timedelta) -> timedelta:
    """How long an object is locked that nobody needs any more, counted from the last time that somebody did."""
    return retention + retention / _AHEAD


def store_time(sink: Sink, just_put: str, workers: Workers) -> datetime:
    """What time it is in the store, by an object that was put a moment ago: its locks end by that clock.

    A host whose own clock is behind would ask for locks that end early, or have ended. It is this host's time where the
    store tells none, and in a sink without object lock, which is not asked.
    """
    if sink.retention is None:
        return datetime.now(UTC)
    try:
        modified = workers.call(sink.stat, just_put).modified
    except ObjectMissing:  # as the look at its lock will say
        modified = None
    return modified or datetime.now(UTC)


def prolong_locks(sink: Sink, cache: Cache, keys: Iterable[str], workers: Workers, *, now: datetime) -> list[str]:
    """Extend locks so that they last as long as if the objects were put now; returns the keys of missing objects.

    `now` is the store's time: see `store_time`.

    The cache remembers the locks that this host extended, which saves most requests. Does nothing in a sink without
    object lock. Raises what the sink raises: a snapshot must not depend on locks that may end before its own.
    """
    retention = sink.retention
    if retention is None:
        return []
    until = now + longest(retention)

    def prolong(key: str) -> bool:
        try:
            sink.retain(key, until)
        except ObjectMissing:
            return False
        return True

    missing = []
    each = iter(keys)
    while page := list(islice(each, _PAGE)):
        known = cache.locks(page)
        short = [key for key in page if known.get(key, now) < now + retention + retention / _SLACK]
        there = list(workers.map(prolong, short))
        cache.add_locks([key for key, locked in zip(short, there, strict=True) if locked], until)
        missing += [key for key, locked in zip(short, there, strict=True) if not locked]
    return missing
