"""Object lock: what a new snapshot needs stays locked as long as the snapshot itself, however old it is."""

from collections.abc import Iterable
from datetime import UTC, datetime

from penstock.api.errors import ObjectMissing
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.repository import Repository

__all__ = ["foundations", "prolong_locks"]

#: A lock is lengthened by more than is needed, so that it need not be done again every night: by this part of it.
_AHEAD = 8


def foundations(repository: Repository) -> list[str]:
    """The keys of what every restore needs, whatever it restores."""
    grants = [layout.grant_key(number) for number in range(1, repository.grants.length + 1)]
    slots = [layout.slot_key(grantee.grant.key) for grantee in repository.grants.active(Role.SLOT)]
    return [layout.CONFIG, *grants, *slots]


def prolong_locks(repository: Repository, cache: Cache, keys: Iterable[str], workers: Workers) -> list[str]:
    """See to it that objects stay locked as long as if they were put now; gives the keys of those that are gone.

    The cache knows what this host lengthened before, which saves most requests. Does nothing in a sink that locks no
    objects. Raises what the sink raises: a snapshot must not be committed on locks that may end before its own.
    """
    retention = repository.sink.retention
    if retention is None:
        return []
    now = datetime.now(UTC)
    known = cache.locks()
    short = [key for key in keys if known.get(key, now) < now + retention]
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
