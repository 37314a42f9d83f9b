"""Writers, prunes and people, interleaved at every request: what was committed and not forgotten stays.

Chance chooses what begins, whose request is next, what becomes of it, and how much time passes: all by one seed.
"""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest
from core.tests.engine import mistakes
from core.tests.engine.simulation import Fault, as_processes
from core.tests.engine.walks import walk
from core.tests.engine.world import World, is_loss
from core.tests.repository.lab import chosen_secrets
from tests.soak import long

from penstock.api.errors import DamagedObject, MissingObject

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(8))
def test_what_was_committed_and_not_forgotten_stays(seed: int) -> None:
    walk(seed, 3000)


@pytest.mark.soak
def test_long_histories() -> None:
    for _ in range(20):
        walk(random.SystemRandom().randrange(1 << 32), 20_000)


#: With those that many histories show, and those that few do.
MISTAKES = [
    mistakes.nobody_is_waited_for,
    mistakes.heads_are_not_listed_again,
    pytest.param(mistakes.hosts_know_what_time_it_is, marks=long(30)),
    pytest.param(mistakes.records_come_last, marks=long(30)),
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_loses_something(mistake: Callable[[], AbstractContextManager[None]]) -> None:
    with mistake():
        assert any(goes_wrong(seed) for seed in range(40))


def goes_wrong(seed: int) -> bool:
    """Whether something is lost in this history."""
    try:
        walk(seed, 3000)
    except (AssertionError, DamagedObject, MissingObject) as error:
        return is_loss(error)
    return False


def _with_something_dead(folder: Path) -> tuple[World, dict[str, bytes]]:
    """A world in which nobody needs any more what this dump was stored as."""
    world = World(folder, 0)
    dead = {"d": random.Random(0).randbytes(9000)}
    for data in (dead, {"d": random.Random(1).randbytes(9000)}):
        _finish(world, "anna", lambda name, one=data: world.back_up(name, one))  # type: ignore[misc]
        world.passes(timedelta(hours=2))
    _finish(world, "owner", lambda name: world.forget(name, next(iter(world.kept))))
    world.passes(timedelta(hours=2))
    return world, dead


def _begin_late(folder: Path) -> World:
    """A writer that stops before its session is put, while what it is about to use is named; and before its commit.

    Chance seldom comes to this: for minutes at the one request, then through two prunes at the other.
    """
    world, dead = _with_something_dead(folder)
    world.back_up("bert", dead)
    _go_on_to(world, "bert", "put", "/sessions/")
    _finish(world, "mary", world.prune)
    world.passes(timedelta(minutes=7))
    _go_on_to(world, "bert", "put", "/snapshots/")
    world.passes(timedelta(hours=25))
    _finish(world, "mary", world.prune)
    assert world.deleted > 3
    _finish(world, "bert", lambda name: None)
    world.require_all_there()
    return world


def _sleep_before_the_commit(folder: Path) -> World:
    """A writer that sleeps right before its commit for so long that a prune takes it for dead."""
    world, dead = _with_something_dead(folder)
    world.back_up("bert", dead)
    _go_on_to(world, "bert", "put", "/snapshots/")
    world.processes["bert"].fall_asleep()
    world.slept.add("bert")
    _finish(world, "mary", world.prune)
    world.passes(timedelta(hours=25))
    _finish(world, "mary", world.prune)
    assert world.deleted > 3
    world.processes["bert"].wake()
    _finish(world, "bert", lambda name: None)
    world.require_all_there()
    return world


def _another_host_is_faster(folder: Path) -> World:
    """A long run, and on another host with the same key a short one that begins and ends after the mark."""
    world, dead = _with_something_dead(folder)
    world.back_up("dora", dead)
    _go_on_to(world, "dora", "put", "/snapshots/")
    _finish(world, "mary", world.prune)
    world.passes(timedelta(hours=1))
    _finish(world, "anna", lambda name: world.back_up(name, {"d": random.Random(2).randbytes(9000)}))
    world.passes(timedelta(hours=25))
    _finish(world, "mary", world.prune)
    _finish(world, "dora", lambda name: None)
    world.require_all_there()
    return world


def _commit_during_the_sweep(folder: Path) -> World:
    """A run that ends just when a sweep is about to ask who lives."""
    world, dead = _with_something_dead(folder)
    world.back_up("dora", dead)
    _go_on_to(world, "dora", "put", "/snapshots/")
    _finish(world, "mary", world.prune)
    world.passes(timedelta(hours=25))
    world.prune("mary")
    _go_on_to(world, "mary", "list", "/sessions/")  # whether another prune runs
    world.step("mary", Fault.NONE)
    _go_on_to(world, "mary", "list", "/sessions/")
    _finish(world, "dora", lambda name: None)
    world.passes(timedelta(minutes=6))  # until no listing is late
    _finish(world, "mary", lambda name: None)
    world.require_all_there()
    return world


def _finish(world: World, name: str, begin: Callable[[str], None]) -> None:
    begin(name)
    while world.processes[name].busy:
        world.step(name, Fault.NONE)


def _go_on_to(world: World, name: str, method: str, kind: str) -> None:
    process = world.processes[name]
    while not (process.next.startswith(method) and kind in process.next):
        assert process.busy
        world.step(name, Fault.NONE)


@pytest.mark.parametrize(
    ("history", "mistake"),
    [
        (_begin_late, mistakes.tombstones_are_read_before_the_lease),
        (_sleep_before_the_commit, mistakes.nobody_looks_again),
        (_another_host_is_faster, mistakes.new_snapshots_are_waited_for),
        (_commit_during_the_sweep, mistakes.heads_are_listed_before_sessions),
    ],
)
def test_a_mistake_loses_something_in_a_history_that_is_rare(
    history: Callable[[Path], World], mistake: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    with as_processes(), chosen_secrets(), mistake():
        with pytest.raises((AssertionError, DamagedObject, MissingObject)) as found:
            history(tmp_path)
        assert is_loss(found.value)


@pytest.mark.parametrize(
    ("history", "committed"),
    [(_begin_late, 3), (_sleep_before_the_commit, 2), (_another_host_is_faster, 4), (_commit_during_the_sweep, 3)],
)
def test_nothing_is_lost_in_it_without_the_mistake(
    history: Callable[[Path], World], committed: int, tmp_path: Path
) -> None:
    with as_processes(), chosen_secrets():
        assert history(tmp_path).committed == committed
