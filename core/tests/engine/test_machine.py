"""The world of `test_simulation`, driven by Hypothesis: it chooses who begins what, who goes on, and what happens.

A random walk goes where chance is dense. A machine of rules also goes where one thing happens many times over, or one
request waits while all others go on, and says which rules led to a failure.
"""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from core.tests.engine import mistakes
from core.tests.engine.simulation import Fault, as_processes
from core.tests.engine.walks import is_delicate, random_walk
from core.tests.engine.world import KEEPERS, MINUTE, WRITERS, World, is_loss
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.soak import long, times

from penstock.api.errors import DamagedObject, MissingObject

pytestmark = pytest.mark.slow

EVERYBODY = (*WRITERS, *KEEPERS)
FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)
#: Rules between two rests of everybody, at least; a rest takes as long as many of them.
_BUSY = 200

names = strategies.sampled_from(EVERYBODY)
writers = strategies.sampled_from(WRITERS)
keepers = strategies.sampled_from(KEEPERS)


class Histories(RuleBasedStateMachine):
    """One history. Everything in it comes from what Hypothesis draws."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self._since_rest = self.rests = 0

    @initialize(seed=strategies.integers(0, (1 << 32) - 1))
    def make_world(self, seed: int) -> None:
        folder = self._open.enter_context(TemporaryDirectory())
        self._open.enter_context(as_processes())
        # Ids and secrets, too: a history that is told again is the same.
        self._open.enter_context(patch("os.urandom", random.Random(seed).randbytes))
        self.world = World(Path(folder), seed)

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                print(f"{self.world.committed} backups, {self.world.deleted} objects deleted, {self.rests} rests")
                self._kill_all()
        finally:
            self._open.close()

    def _kill_all(self) -> None:
        for process in self.world.processes.values():
            process.wake()
            while process.busy:
                process.kill()

    # Who begins what

    def _begin(self, name: str, what: Callable[[str], None]) -> None:
        process = self.world.processes[name]
        if not process.busy:
            process.wake()
            what(name)

    @rule(name=writers)
    def back_up(self, name: str) -> None:
        self._begin(name, self.world.back_up)

    @rule(name=keepers)
    def prune(self, name: str) -> None:
        self._begin(name, self.world.prune)

    @precondition(lambda self: len(self.world.kept) > 2)
    @rule(name=keepers)
    def forget(self, name: str) -> None:
        self._begin(name, self.world.forget)

    @rule(name=keepers)
    def undelete(self, name: str) -> None:
        self._begin(name, self.world.undelete)

    @rule(name=keepers)
    def let_go(self, name: str) -> None:
        self._begin(name, self.world.let_go)

    # Who goes on

    @rule(name=names, requests=strategies.sampled_from((1, 3, 30, 300)))
    def go_on(self, name: str, requests: int) -> None:
        self._go_on(name, requests, lambda request: True)

    @rule(name=names)
    def go_on_to_what_matters(self, name: str) -> None:
        """Up to a request on whose order with those of others everything depends, and no further."""
        self._go_on(name, 1, lambda request: True)
        self._go_on(name, 300, lambda request: not is_delicate(request))

    def _go_on(self, name: str, requests: int, goes: Callable[[str], bool]) -> None:
        process = self.world.processes[name]
        for _ in range(requests):
            if not process.busy or process.sleeps or not goes(process.next):
                return
            self.world.step(name, Fault.NONE)

    @rule(name=names, fault=strategies.sampled_from(FAULTS))
    def fail(self, name: str, fault: Fault) -> None:
        self.world.step(name, fault)

    @rule(name=names)
    def fall_asleep(self, name: str) -> None:
        if self.world.processes[name].busy:
            self.world.processes[name].fall_asleep()
            self.world.slept.add(name)

    @rule(name=names)
    def wake(self, name: str) -> None:
        self.world.processes[name].wake()

    @rule(steps=strategies.sampled_from((10, 50, 100)))
    def walk(self, steps: int) -> None:
        """What chance makes of it for a while."""
        random_walk(self.world, steps)

    # What happens

    @rule(minutes=strategies.sampled_from((1, 6, 11, 11, 70, 70, 24 * 60)))
    def time_passes(self, minutes: int) -> None:
        self.world.passes(minutes * MINUTE)

    @rule()
    def put_junk(self) -> None:
        self.world.put_junk()

    @precondition(lambda self: len(self.world.forged) < 5)
    @rule()
    def forge_head(self) -> None:
        self.world.forge_head()

    @rule()
    def lock(self) -> None:
        self.world.lock()

    @precondition(lambda self: self._since_rest > _BUSY)
    @rule()
    def rest(self) -> None:
        self._since_rest = 0
        self.rests += 1
        self.world.come_to_rest()

    @invariant()
    def nothing_is_gone(self) -> None:
        self._since_rest += 1
        if hasattr(self, "world"):
            self.world.require_all_there()


def _settings(examples: int, steps: int, *, by_chance: bool = False) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=not by_chance,
        database=None,
        deadline=None,
        # One example takes as long as many of other tests: what led to it is said as it was.
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
    )


def test_nothing_is_lost_whatever_the_rules() -> None:
    run_state_machine_as_test(Histories, settings=_settings(2, 500))


@pytest.mark.parametrize("number", [pytest.param(number, marks=long(60)) for number in range(4)])
def test_nothing_is_lost_in_long_histories(number: int) -> None:
    del number
    run_state_machine_as_test(Histories, settings=_settings(times(8), 1000, by_chance=True))


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(mistakes.heads_are_not_listed_again, marks=long(60)),
        pytest.param(mistakes.hosts_know_what_time_it_is, marks=long(60)),
    ],
)
def test_the_machine_finds_a_mistake(mistake: Callable[[], AbstractContextManager[None]]) -> None:
    with mistake(), pytest.raises((AssertionError, DamagedObject, MissingObject)) as found:
        run_state_machine_as_test(Histories, settings=_settings(10, 500))
    assert is_loss(found.value)
