"""What a session makes sure of before it puts its head, and after: that nothing that the snapshot needs is gone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from penstock.api.errors import (
    Interrupted,
    MissingObject,
    ObjectMissing,
    SessionLost,
    SinkUnreachable,
    say_more,
)
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.notices import distrust, void
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed, pages, sizes_in
from penstock.repository.sessions import require_usable
from penstock.repository.temporary import PackSizes
from penstock.repository.upkeep.leases import Lease
from penstock.repository.upkeep.locks import foundations, prolong_locks, store_time
from penstock.repository.write.recollection import gone
from penstock.repository.write.stream import Written

__all__ = ["LastChecks", "unless_known"]


class LastChecks:
    """The checks of one commit. `on_trouble` is told of what does not stop it."""

    def __init__(self, domain: Domain, cache: Cache, workers: Workers, on_trouble: Callable[[str], object]) -> None:
        self._domain = domain
        self._cache = cache
        self._workers = workers
        self._on_trouble = on_trouble

    def require_all(self, packs: PackSizes, sessions: Sequence[bytes]) -> dict[bytes, bytes]:
        """The digests of these sessions, all of which are there and usable, like the packs."""
        domain = self._domain
        for page in pages(listed(self._workers, domain.sink, domain.at.packs)):
            packs.met(sizes_in(page))
        # Listings may come late; what nobody finds by its name is gone.
        for key in map(domain.at.pack_key, packs.missing()):
            try:
                self._workers.call(domain.sink.stat, key)
            except ObjectMissing:
                raise gone(key) from None
        digests = self._workers.map(lambda session: require_usable(domain, session), sessions)
        return dict(zip(sessions, digests, strict=True))

    def tell_of_damage(self, done: Sequence[Written]) -> None:
        """Other writers must not rely on what this one found damaged."""
        damaged = {pack: why for one in done for pack, why in one.damaged.items()}
        if damaged:
            for pack, why in damaged.items():
                self._cache.distrust(pack, why)
            self._workers.call(distrust, self._domain, damaged)

    def prolong_locks(self, needed: Iterable[str], *, just_put: str) -> None:
        """Objects put hours ago, in this run or an earlier one, would otherwise be unlocked before the snapshot is."""
        domain = self._domain
        at = store_time(domain.sink, just_put, self._workers)
        missing = prolong_locks(domain.sink, self._cache, needed, self._workers, now=at)
        if missing:
            raise gone(min(missing))
        for key in prolong_locks(domain.sink, self._cache, foundations(domain.log), self._workers, now=at):
            lost = MissingObject(key, "the object is gone", hint="Run penstock check.")
            if not key.startswith(layout.SLOTS):
                raise lost  # without it nobody can open the repository
            # Another passphrase or key may still open it: no reason to skip tonight's backup.
            self._on_trouble(f"{lost}; run penstock check")

    def look_again(self, lease: Lease, snapshot: bytes, digest: bytes) -> None:
        """A process that slept before it put the head may have put it when a prune no longer waited for it."""
        key = self._domain.at.snapshot_key(snapshot)
        try:
            with unless_known(snapshot):
                self._workers.call(lease.require_covered, key)
        except ObjectMissing:
            raise gone(key) from None
        except SessionLost as error:
            say_more(error, f"the snapshot {snapshot.hex()} is void")
            self._workers.call(void, self._domain, {snapshot: digest})
            raise


@contextmanager
def unless_known(snapshot: bytes) -> Iterator[None]:
    """What fails in this block leaves open whether the snapshot is there."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt, SinkUnreachable) as error:
        say_more(error, f"the snapshot {snapshot.hex()} may exist: run penstock snapshots to see")
        raise
