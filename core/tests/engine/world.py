"""A repository of several people, in a store with a virtual clock: what they do, and what must be there.

Chance chooses what each does it with: all by one seed.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from core.tests.engine.simulation import Fault, Process, SimulatedStore
from core.tests.repository.lab import CHEAP, MIB, PASSPHRASE, BytesSource, needed_by, restored_from

from penstock.api import SinkError
from penstock.api.errors import DamagedObject, MissingObject, NothingKept, PruneRunning, SessionLost, SnapshotNotFound
from penstock.engine import backup, check
from penstock.engine.forget import forget, undelete
from penstock.engine.giving_up import find_unreadable, forget_unreadable
from penstock.engine.prune import prune
from penstock.repository import Access, Repository, SnapshotEntry
from penstock.repository.layout import DomainLayout
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer

__all__ = ["KEEPERS", "MINUTE", "WRITERS", "Lost", "World", "is_loss"]

MINUTE = timedelta(minutes=1)
#: dora's host has a copy of anna's key.
WRITERS = ("anna", "bert", "cleo", "dora")
KEEPERS = ("mary", "mike", "owner")


class Lost(AssertionError):
    """What is kept needs something that is gone, or nobody can tell why something is gone."""


def is_loss(error: BaseException | None) -> bool:
    """Whether a failure is a loss: that garbage stays is none, or that a run gives up."""
    while error is not None:
        if isinstance(error, (Lost, DamagedObject, MissingObject)):
            return True
        error = error.__cause__
    return False


class World:
    """A repository of two domains, its people with their hosts, and what must be there."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = SimulatedStore()
        self.folder = folder
        names = (*WRITERS, *KEEPERS)
        clocks = [timedelta(days=self.random.choice((-3, -1, 0, 0, 1, 3))) for _ in names]
        self.processes = {
            name: Process(name, self.store, clock=clock) for name, clock in zip(names, clocks, strict=True)
        }
        #: Where each domain is.
        self.places: list[DomainLayout] = []
        self.keys = self._make()
        #: What was committed and not forgotten: its streams, and the keys of what it needs.
        self.kept: dict[bytes, tuple[dict[str, bytes], frozenset[str]]] = {}
        #: Forgotten, and what they were.
        self.forgotten: dict[bytes, tuple[dict[str, bytes], frozenset[str]]] = {}
        #: What strangers put there; and of these, by their ids, the heads.
        self.strange: set[str] = set()
        self.forged: list[bytes] = []
        self.ends: dict[str, Callable[[Process], None]] = {}
        self.slept: set[str] = set()
        self.faulty: set[str] = set()
        self.store.on_deletion = self._require_unneeded
        #: How often it is the turn of each.
        self.speed = dict.fromkeys(names, 1)
        self.deleted = 0
        self.committed = 0

    def _make(self) -> dict[str, Access]:
        maker = Process("maker", self.store)
        keys: dict[str, Access] = {}

        def make() -> None:
            repository = Repository.create(maker.sink, passphrase=PASSPHRASE, cost=CHEAP)
            keys["owner"] = repository.access
            keys["anna"] = add_writer(repository, "anna", domain="main")
            keys["bert"] = add_writer(repository, "bert", domain="main")
            keys["cleo"] = add_writer(repository, "cleo")
            self.places = [domain.at for domain in repository.domains]
            keys["dora"] = keys["anna"]
            keys["mary"], keys["mike"] = add_maintainer(repository, "mary"), add_maintainer(repository, "mike")

        maker.begin(make)
        maker.finish()
        if maker.error:
            raise maker.error
        # Nobody is given a key that listings do not show yet.
        self.store.now += timedelta(hours=1)
        return keys

    def _require_unneeded(self, key: str) -> None:
        self.deleted += 1
        for snapshot, (_, needed) in self.kept.items():
            if key in needed:
                raise Lost(f"{key} was deleted, and {snapshot.hex()} needs it")

    def at_once(self, run: Callable[[Process], Any]) -> Any:
        """What somebody else's fresh host sees, without anything happening meanwhile."""
        late, self.store.late = self.store.late, timedelta()
        fresh = Process("fresh", self.store)
        try:
            fresh.begin(lambda: run(fresh))
            fresh.finish()
        finally:
            self.store.late = late
        if fresh.error:
            raise fresh.error
        return fresh.result

    # What people do

    def data(self) -> dict[str, bytes]:
        """A dump that has much in common with others."""
        pieces = [random.Random(self.random.randrange(8)).randbytes(3000) for _ in range(self.random.choice((1, 1, 2)))]
        return {"d": b"".join(pieces)}

    def back_up(self, name: str, data: dict[str, bytes] | None = None) -> None:
        """Begin a backup of this writer, of this dump or of some."""
        process, data = self.processes[name], data or self.data()

        def run() -> bytes:
            return backup(
                Repository.open(process.sink, self.keys[name]),
                BytesSource(data),
                name="shop",
                source_type="bytes",
                cache_dir=self.folder / name,
                memory=64 * MIB,
                compression="auto",
                listener=lambda event: None,
            ).snapshot

        def ended(process: Process) -> None:
            if process.error is None:
                self.committed += 1
                self.kept[process.result] = (data, self.at_once(lambda fresh: self._needs(fresh, process.result)))
                return
            # Nobody but a host that slept, or whose store failed it, fails because of others.
            if name in self.slept | self.faulty and isinstance(process.error, (SessionLost, SinkError, MissingObject)):
                return
            raise AssertionError(f"{name} failed") from process.error

        self._begin(name, run, ended)

    def _needs(self, fresh: Process, snapshot: bytes) -> frozenset[str]:
        return needed_by(find_snapshot(self._owned(fresh), snapshot.hex()))

    def prune(self, name: str) -> None:
        """Begin a prune of this keeper."""
        process = self.processes[name]
        grace = self.random.choice((10, 60, 24 * 60)) * MINUTE
        take_over = self.random.random() < 0.7

        def run() -> Any:
            repository = Repository.open(process.sink, self.keys[name])
            return prune(repository, grace=grace, take_over=take_over, listener=lambda event: None)

        def ended(process: Process) -> None:
            if isinstance(process.error, DamagedObject) and self.forged:
                return  # nobody knows what that head needs
            if process.error is not None and not isinstance(process.error, PruneRunning):
                self._require_faulty(name, process)

        self._begin(name, run, ended)

    def let_go(self, name: str) -> None:
        """Begin to let go of a head that nobody can read."""
        if not self.forged:
            return
        process = self.processes[name]
        chosen = self.random.choice(self.forged)

        def ended(process: Process) -> None:
            if process.error is not None and not isinstance(process.error, SnapshotNotFound):
                self._require_faulty(name, process)

        self._begin(name, lambda: self._let_go(Repository.open(process.sink, self.keys[name]), chosen), ended)

    @staticmethod
    def _let_go(repository: Repository, head: bytes) -> None:
        forget_unreadable(repository, [find_unreadable(repository, head.hex())])

    def _require_faulty(self, name: str, process: Process) -> None:
        if not (name in self.faulty and isinstance(process.error, SinkError)):
            raise AssertionError(f"{name} failed") from process.error

    def forget(self, name: str, snapshot: bytes | None = None) -> None:
        """Begin to forget this snapshot, or some."""
        if not self.kept:
            return
        process = self.processes[name]
        chosen = snapshot or self.random.choice(sorted(self.kept))
        # From now on nobody may rely on it.
        self.forgotten[chosen] = self.kept.pop(chosen)

        def run() -> None:
            repository = Repository.open(process.sink, self.keys[name])
            forget(repository, [find_snapshot(repository, chosen.hex())])

        def ended(process: Process) -> None:
            if isinstance(process.error, NothingKept):
                self.kept[chosen] = self.forgotten.pop(chosen)
            elif process.error is not None and not isinstance(process.error, (SnapshotNotFound, MissingObject)):
                self._require_faulty(name, process)

        self._begin(name, run, ended)

    def undelete(self, name: str) -> None:
        """Begin to take some snapshot back."""
        if not self.forgotten:
            return
        process = self.processes[name]
        chosen = self.random.choice(sorted(self.forgotten))

        def run() -> None:
            undelete(Repository.open(process.sink, self.keys[name]), [chosen.hex()])

        def ended(process: Process) -> None:
            if process.error is None:
                if chosen in self.forgotten and not self._being_forgotten(chosen):
                    self.kept[chosen] = self.forgotten.pop(chosen)
            elif not isinstance(process.error, (SnapshotNotFound, MissingObject)):
                self._require_faulty(name, process)

        self._begin(name, run, ended)

    def _being_forgotten(self, snapshot: bytes) -> bool:
        return any(process.busy for process in self.processes.values() if process.name in KEEPERS)

    def _begin(self, name: str, run: Callable[[], Any], ended: Callable[[Process], None]) -> None:
        process = self.processes[name]
        self.slept.discard(name)
        self.faulty.discard(name)
        self.ends[name] = ended
        process.begin(run)
        self._see_end(process)

    def _see_end(self, process: Process) -> None:
        if process.busy or process.name not in self.ends:
            return
        ended = self.ends.pop(process.name)
        if isinstance(process.error, BaseException) and not isinstance(process.error, Exception):
            return  # it was killed
        ended(process)

    # What strangers do

    def put_junk(self) -> None:
        """Put an object that nobody wrote where others are."""
        at = self.random.choice(self.places)
        keys = (at.pack_key, at.index_key, at.part_key, at.session_key)
        self._put_strange(self.random.choice(keys)(self.random.randbytes(16)), self.random.randbytes(300))

    def forge_head(self) -> None:
        """Put a head that nobody can read: until somebody lets go of it, it may need anything."""
        at, forged = self.random.choice(self.places), self.random.randbytes(16)
        heads = [data for key, (data, _) in sorted(self.store.objects.items()) if key.startswith(at.snapshots)]
        self._put_strange(at.snapshot_key(forged), self.random.choice([self.random.randbytes(300), *heads]))
        self.forged.append(forged)

    def _put_strange(self, key: str, data: bytes) -> None:
        self.store.put(key, data)
        self.strange.add(key)

    def lock(self) -> None:
        """Lock some objects for a while, as an administrator can: prunes come to them and have to leave them."""
        keys = sorted(key for key in self.store.objects if key.startswith("d/"))
        for key in self.random.sample(keys, min(len(keys), 5)):
            self.store.locks[key] = self.store.now + self.random.choice((1, 24, 72)) * 60 * MINUTE

    # What happens

    def step(self, name: str, fault: Fault) -> None:
        """The next request of a process."""
        process = self.processes[name]
        if not process.busy or process.sleeps:
            return
        if fault in (Fault.REFUSED, Fault.LOST):
            self.faulty.add(name)
        self.store.late = self.random.choice((0, 0, 1, 2)) * MINUTE
        self.store.skew = self.random.choice((-1, 0, 0, 1)) * MINUTE
        process.step(fault)
        self._see_end(process)

    def passes(self, time: timedelta) -> None:
        """Time passes, and leases are renewed meanwhile."""
        end = self.store.now + time
        while self.store.now < end:
            self.store.now += min(5 * MINUTE, end - self.store.now)
            for process in self.processes.values():
                if process.busy and (process.lease is None or process.lease._lock.locked()):
                    self.slept.add(process.name)  # in the middle of a request that takes so long
                with suppress(SinkError):
                    process.keep_alive()

    def require_all_there(self) -> None:
        """Nothing is gone of what is kept."""
        for snapshot, (_, needed) in self.kept.items():
            if missing := needed - self.store.objects.keys():
                raise Lost(f"{snapshot.hex()} lacks {missing}")

    def require_sound(self, *, read_data: bool = False) -> None:
        """A check finds nothing, on a host that remembers what was there when it looked before."""
        report = self.at_once(
            lambda fresh: check(
                self._owned(fresh),
                read_data=read_data,
                cache_dir=self.folder / "checker",
                memory=64 * MIB,
                listener=lambda event: None,
            )
        )
        for one in report.findings:
            if one.key not in self.strange and "in the future" not in one.problem:
                raise Lost(f"{one.key}: {one.problem}")

    def require_all(self) -> None:
        """Everything that is kept restores."""
        for snapshot, (data, _) in self.kept.items():
            self.at_once(lambda fresh, one=snapshot, wanted=data: self._restores(fresh, one, wanted))  # type: ignore[misc]

    def _restores(self, fresh: Process, snapshot: bytes, wanted: dict[str, bytes]) -> None:
        assert restored_from(find_snapshot(self._owned(fresh), snapshot.hex())) == wanted

    def come_to_rest(self) -> None:
        """All runs end, and days pass with a prune in each: then only what is needed is left."""
        for process in self.processes.values():
            process.wake()
            self.slept.add(process.name)
            while process.busy:
                self.step(process.name, Fault.NONE)
        self.store.late = self.store.skew = timedelta()
        for forged in self.forged:
            with suppress(SnapshotNotFound):
                self.at_once(lambda fresh, one=forged: self._let_go(self._owned(fresh), one))  # type: ignore[misc]
        for _ in range(12):
            self.passes(timedelta(days=2))
            self.at_once(lambda fresh: prune(self._owned(fresh), take_over=True, listener=lambda event: None))
        self.require_all()
        self.require_sound(read_data=True)
        needed = set().union(*(self.at_once(self._needed_of(entry)) for entry in self._listed()))
        left = {key for key in self.store.objects if key.startswith("d/")}
        explained = {key for key in left if key.split("/")[2] in ("deletions", "notices", "marks", "index")}
        assert left - needed - explained == set()

    def _listed(self) -> list[SnapshotEntry]:
        found: list[SnapshotEntry] = self.at_once(lambda fresh: list_snapshots(self._owned(fresh)))
        return found

    def _needed_of(self, entry: SnapshotEntry) -> Callable[[Process], frozenset[str]]:
        return lambda fresh: self._needs(fresh, entry.id)

    def _owned(self, fresh: Process) -> Repository:
        return Repository.open(fresh.sink, self.keys["owner"])
