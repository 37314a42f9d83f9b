"""Writers, prunes and people, interleaved at every request: what was committed and not forgotten stays.

Chance chooses what begins, whose request is next, what becomes of it, and how much time passes: all by one seed.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from core.tests.engine.simulation import Fault, Process, SimulatedStore, as_processes
from core.tests.repository.lab import CHEAP, MIB, PASSPHRASE, BytesSource, chosen_secrets

from penstock.api import RestoreTarget, SinkError
from penstock.api.errors import DamagedObject, MissingObject, NothingKept, PruneRunning, SessionLost, SnapshotNotFound
from penstock.engine import backup, check, restore
from penstock.engine.forget import forget, undelete
from penstock.engine.prune import prune
from penstock.repository import Access, Repository, SnapshotEntry
from penstock.repository.read.content import each_row, parts_of, sessions_of
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.repository.upkeep import living, pruning
from penstock.repository.upkeep.leases import Lease
from penstock.repository.upkeep.usage import Usage

pytestmark = pytest.mark.slow

MINUTE = timedelta(minutes=1)
WRITERS = ("anna", "bert", "cleo")
KEEPERS = ("mary", "mike", "owner")
FAULTS = (Fault.NONE,) * 20 + (Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.REFUSED, Fault.LOST)

DELICATE = {
    *(("put", kind) for kind in ("sessions", "leases", "snapshots", "tombstones", "deletions")),
    *(("list", kind) for kind in ("sessions", "leases", "snapshots", "tombstones", "deletions")),
}


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
        self.keys = self._make()
        #: What was committed and not forgotten: its streams, and the keys of what it needs.
        self.kept: dict[bytes, tuple[dict[str, bytes], frozenset[str]]] = {}
        #: Forgotten, and what they were.
        self.forgotten: dict[bytes, tuple[dict[str, bytes], frozenset[str]]] = {}
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
            assert key not in needed, f"{key} was deleted, and {snapshot.hex()} needs it"

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

    def back_up(self, name: str) -> None:
        """Begin a backup of this writer."""
        process, data = self.processes[name], self.data()

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
        entry = find_snapshot(Repository.open(fresh.sink, self.keys["owner"]), snapshot.hex())
        at = entry.domain.at
        needed = {at.snapshot_key(entry.id), at.session_key(entry.session)}
        needed |= {at.part_key(ref.part) for ref in parts_of(entry)}
        needed |= {at.session_key(session) for session in sessions_of(entry)}
        needed |= {at.pack_key(row.pack) for row in each_row(entry) if row.used}
        return frozenset(needed)

    def prune(self, name: str) -> None:
        """Begin a prune of this keeper."""
        process = self.processes[name]
        grace = self.random.choice((10, 60, 24 * 60)) * MINUTE
        take_over = self.random.random() < 0.7

        def run() -> Any:
            repository = Repository.open(process.sink, self.keys[name])
            return prune(repository, grace=grace, take_over=take_over, listener=lambda event: None)

        def ended(process: Process) -> None:
            if process.error is not None and not isinstance(process.error, PruneRunning):
                self._require_faulty(name, process)

        self._begin(name, run, ended)

    def _require_faulty(self, name: str, process: Process) -> None:
        if not (name in self.faulty and isinstance(process.error, SinkError)):
            raise AssertionError(f"{name} failed") from process.error

    def forget(self, name: str) -> None:
        """Begin to forget some snapshot."""
        if not self.kept:
            return
        process = self.processes[name]
        chosen = self.random.choice(sorted(self.kept))
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

    def require_all(self) -> None:
        """Everything that is kept restores."""
        for snapshot, (data, _) in self.kept.items():
            self.at_once(lambda fresh, one=snapshot, wanted=data: self._restores(fresh, one, wanted))  # type: ignore[misc]

    def _restores(self, fresh: Process, snapshot: bytes, wanted: dict[str, bytes]) -> None:
        entry = find_snapshot(Repository.open(fresh.sink, self.keys["owner"]), snapshot.hex())
        target = BytesSource({})
        restore(
            entry,
            target,
            target=RestoreTarget(),
            streams=None,
            verify_first=False,
            memory=64 * MIB,
            listener=lambda event: None,
        )
        assert target.restored == wanted

    def come_to_rest(self) -> None:
        """All runs end, and days pass with a prune in each: then only what is needed is left."""
        for process in self.processes.values():
            process.wake()
            self.slept.add(process.name)
            while process.busy:
                self.step(process.name, Fault.NONE)
        self.store.late = self.store.skew = timedelta()
        for _ in range(12):
            self.passes(timedelta(days=2))
            self.at_once(lambda fresh: prune(self._owned(fresh), take_over=True, listener=lambda event: None))
        self.require_all()
        report = self.at_once(
            lambda fresh: check(
                self._owned(fresh), read_data=True, cache_dir=None, memory=64 * MIB, listener=lambda event: None
            )
        )
        assert not [one for one in report.findings if "in the future" not in one.problem], report.findings
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


def random_walk(world: World, steps: int) -> None:
    """So many things happen."""
    choice, chance = world.random.choice, world.random.random
    for number in range(steps):
        idle = [name for name, process in world.processes.items() if not process.busy]
        busy = [name for name in world.processes if name not in idle]
        asleep = [name for name in busy if world.processes[name].sleeps]
        if idle and chance() < 0.1:
            _begin(world, choice([name for name in idle for _ in range(4 if name in WRITERS else 1)]))
        elif asleep and chance() < 0.05:
            world.processes[choice(asleep)].wake()
        elif chance() < 0.02:
            world.passes(choice((1, 6, 6, 11, 11, 11, 20, 70, 70, 24 * 60)) * MINUTE)
        elif busy:
            (name,) = world.random.choices(busy, [world.speed[one] for one in busy])
            process = world.processes[name]
            if not process.sleeps and chance() < (0.1 if _is_delicate(process.next) else 0.005):
                process.fall_asleep()
                world.slept.add(name)
            world.step(name, choice(FAULTS) if chance() < 0.02 else Fault.NONE)
        if number % 1000 == 0:
            world.require_all()


def _is_delicate(request: str) -> bool:
    """Whether it is one on whose order with those of others everything depends."""
    method, _, key = request.partition(" ")
    kind = key.split("/")[2] if key.count("/") >= 2 else ""
    return (method, kind) in DELICATE


def _begin(world: World, name: str) -> None:
    """One run of somebody, who is quick or slow."""
    world.processes[name].wake()
    # A backup takes as long as several prunes, now and then.
    world.speed[name] = world.random.choice((1, 10, 20) if name in WRITERS else (10, 20))
    if name in WRITERS:
        world.back_up(name)
    elif len(world.kept) > 2 and world.random.random() < 0.6:
        world.forget(name)
    else:
        world.random.choice((world.prune, world.prune, world.prune, world.undelete))(name)


def walk(seed: int, steps: int) -> World:
    """One whole history, until everything is at rest. What went wrong raises."""
    with TemporaryDirectory() as folder, as_processes(), chosen_secrets():
        world = World(Path(folder), seed)
        try:
            random_walk(world, steps)
            world.come_to_rest()
        except BaseException as error:
            error.add_note(f"seed {seed}, {steps} steps")
            raise
        print(f"seed {seed}: {world.committed} backups, {world.deleted} objects deleted, {len(world.kept)} kept")
        return world


@pytest.mark.parametrize("seed", range(8))
def test_what_was_committed_and_not_forgotten_stays(seed: int) -> None:
    walk(seed, 3000)


@pytest.mark.soak
def test_long_histories() -> None:
    for _ in range(20):
        walk(random.SystemRandom().randrange(1 << 32), 20_000)


# Mistakes of other tools, and some of one's own: the histories show each of them.


@contextmanager
def nobody_is_waited_for() -> Iterator[None]:
    """No look at leases."""
    real = living.read_living
    with patch.object(pruning, "read_living", lambda *about: real(*about)._replace(sessions=())):
        yield


@contextmanager
def heads_are_not_listed_again() -> Iterator[None]:
    """What was dead when it was named is deleted."""
    real = pruning._Prune._sweep

    def sweep(self: Any, stone: Any) -> Any:
        with patch.object(Usage, "unused", lambda self, domain, workers, kind, ids: iter(list(ids))):
            return real(self, stone)

    with patch.object(pruning._Prune, "_sweep", sweep):
        yield


@contextmanager
def nobody_looks_again() -> Iterator[None]:
    """Who slept before its commit takes it for one."""
    with (
        patch.object(Lease, "require_covered", lambda self, key: None),
        patch.object(Lease, "_too_late", lambda self, written: False),
    ):
        yield


MISTAKES = [nobody_is_waited_for, heads_are_not_listed_again, nobody_looks_again]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: Callable[[], AbstractContextManager[None]]) -> None:
    with mistake():
        assert any(goes_wrong(seed) for seed in range(20))


def goes_wrong(seed: int) -> bool:
    """Whether something is lost in this history."""
    try:
        walk(seed, 3000)
    except (AssertionError, DamagedObject, MissingObject):
        return True
    return False
