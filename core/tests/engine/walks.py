"""Random walks through the world: who begins, whose request is next, what becomes of it, and how much time passes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from core.tests.engine.simulation import Fault, as_processes
from core.tests.engine.world import MINUTE, WRITERS, World
from core.tests.repository.lab import chosen_secrets

__all__ = ["FAULTS", "begin", "is_delicate", "random_walk", "walk"]

FAULTS = (Fault.NONE,) * 20 + (Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.REFUSED, Fault.LOST)
DELICATE = {
    *(("put", kind) for kind in ("sessions", "leases", "snapshots", "tombstones", "deletions")),
    *(("list", kind) for kind in ("sessions", "leases", "snapshots", "tombstones", "deletions")),
}


def random_walk(world: World, steps: int) -> None:
    """So many things happen."""
    choice, chance = world.random.choice, world.random.random
    # Each history has one kind of request before which many fall asleep, and some for long.
    drowsy, wakes = choice(sorted(DELICATE)), choice((0.05, 0.05, 0.02))
    for number in range(steps):
        idle = [name for name, process in world.processes.items() if not process.busy]
        busy = [name for name in world.processes if name not in idle]
        asleep = [name for name in busy if world.processes[name].sleeps]
        if idle and chance() < 0.1:
            begin(world, choice([name for name in idle for _ in range(4 if name in WRITERS else 1)]))
        elif asleep and chance() < wakes:
            world.processes[choice(asleep)].wake()
        elif chance() < 0.005:
            choice((world.put_junk, world.put_junk, world.lock, world.lock, world.forge_head))()
        elif chance() < 0.02:
            world.passes(choice((1, 6, 6, 11, 11, 11, 20, 70, 70, 24 * 60)) * MINUTE)
        elif busy:
            (name,) = world.random.choices(busy, [world.speed[one] for one in busy])
            process = world.processes[name]
            if not process.sleeps and chance() < _drowsiness(process.next, drowsy):
                process.fall_asleep()
                world.slept.add(name)
            world.step(name, choice(FAULTS) if chance() < 0.02 else Fault.NONE)
        if number % 500 == 0:
            world.require_sound()
        if number % 1000 == 0:
            world.require_all()


def _drowsiness(request: str, drowsy: tuple[str, str]) -> float:
    """How likely it is that whoever is about to make this request falls asleep."""
    kind = _kind_of(request)
    if kind == drowsy:
        return 0.4
    return 0.1 if kind in DELICATE else 0.005


def is_delicate(request: str) -> bool:
    """Whether it is one on whose order with those of others everything depends."""
    return _kind_of(request) in DELICATE


def _kind_of(request: str) -> tuple[str, str]:
    method, _, key = request.partition(" ")
    return method, key.split("/")[2] if key.count("/") >= 2 else ""


def begin(world: World, name: str) -> None:
    """One run of somebody, who is quick or slow."""
    world.processes[name].wake()
    # A backup takes as long as several prunes, now and then.
    world.speed[name] = world.random.choice((1, 10, 20) if name in WRITERS else (10, 20))
    if name in WRITERS:
        world.back_up(name)
    elif len(world.kept) > 2 and world.random.random() < 0.6:
        world.forget(name)
    elif world.forged and world.random.random() < 0.3:
        world.let_go(name)
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
