"""Object lock: the objects that a new snapshot needs stay locked as long as the snapshot, however old they are."""

from collections.abc import Iterable
from datetime import UTC, datetime

from penstock.api.errors import ObjectMissing
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.repository import Repository

__all__ = ["foundations", "prolong_locks"]

#: Locks are extended by this fraction more than needed, so that not every night has to extend them again.
_AHEAD = 8
#: A lock must be this fraction longer than needed, for the time until the snapshot itself is put.
_SLACK = 64


def foundations(repository: Repository) -> list[str]:
    """The keys of the objects that every restore needs."""
    grants = [layout.grant_key(number) for number in range(1, repository.grants.length + 1)]
    slots = [layout.slot_key(grantee.grant.key) for grantee in repository.grants.active(Role.SLOT)]
    return [layout.CONFIG, *grants, *slots]


def prolong_locks(repository: Repository, cache: Cache, keys: Iterable[str], workers: Workers) -> list[str]:
    """Extend locks so that they last as long as if the objects were put now; returns the keys of missing objects.

    The cache remembers the locks that this host extended, which saves most requests. Does nothing in a sink without
    object lock. Raises what the sink raises: a snapshot must not depend on locks that may end before its own.
    """
    retention = repository.sink.retention
    if retention is None:
        return []
    now = datetime.now(UTC)
    known = cache.locks()
    short = [key for key in keys if known.get(key, now) < now + retention + retention / _SLACK]
    until = now + retention + retention / _AHEAD

    def prolong(key: str) -> bool:
        try:
            repository.sink.retain(key, until)
        except ObjectMissing:
            return False
        return True

    there = list(workers.map(prolong, short))
    cache.add_locks([key for key, locked in zip(short, there, strict=True) if locked], until)
    return [key for key, locked in zip(short, there, strict=True) if not locked]
