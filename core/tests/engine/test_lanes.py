"""An executor of processes: what becomes of calls when processes die, hang, stop, or are told what they cannot take."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.processes import descendants

from penstock.api import DumpFailed, Interrupted, StopToken
from penstock.api.errors import WorkerDied
from penstock.engine.dumping.lanes import Lanes
from penstock.engine.dumping.workplace import Told
from penstock.engine.reporting import Reporter

#: They start processes.
pytestmark = pytest.mark.slow


class Bench:
    """Nothing is on it."""

    @contextmanager
    def open(self, stop: StopToken, told: Told) -> Iterator[None]:
        global the_stop, the_told  # of the process
        the_stop, the_told = stop, told
        yield


class BrokenBench(Bench):
    @contextmanager
    def open(self, stop: StopToken, told: Told) -> Iterator[None]:
        _refuse_work()
        yield


class ForeignBench(Bench):
    def __reduce__(self) -> Any:
        return (_refuse, ())


class HeavyBench(Bench):
    def __init__(self) -> None:
        self.lock = threading.Lock()  # which no pipe takes


def _refuse_work() -> None:
    raise DumpFailed("nobody can work here")


def _refuse() -> None:
    raise LookupError("not on this machine")


class Unwelcome:
    """Leaves its process, and does not arrive."""

    def __reduce__(self) -> Any:
        return (_refuse, ())


the_stop: StopToken
the_told: Told


class Teller(Reporter):
    """A reporter that takes everything."""

    def damage(self, error: object) -> None:
        del error


def told() -> Any:
    return Teller(lambda event: None, "backup", "shop")


@contextmanager
def lanes(count: int = 1, bench: type[Bench] = Bench, stop: StopToken | None = None) -> Iterator[Lanes]:
    with Lanes(count, bench, told(), stop or StopToken()) as made:
        yield made
    assert [one for one in descendants() if b"lane_program" in one.arguments] == []


def wait_for_the_stop() -> None:
    the_stop.wait(100)


def ignore_the_stop() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Event().wait()


def hold_the_pipe() -> None:
    """Leave a child that has every descriptor that can be inherited, and die."""
    subprocess.Popen(["/bin/sleep", "30"], close_fds=False)
    os.kill(os.getpid(), signal.SIGKILL)


def result(future: "Future[Any]") -> Any:
    return future.result(60)


def test_calls_run_in_other_processes_which_are_kept() -> None:
    with lanes(2) as made:
        pids = {result(made.submit(os.getpid)) for _ in range(5)}
        assert os.getpid() not in pids
        assert len(pids) <= 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 3])
def test_a_process_that_dies_while_idle_costs_nothing(number: int) -> None:
    with lanes() as made:
        first = result(made.submit(os.getpid))
        os.kill(first, number)
        assert result(made.submit(os.getpid)) != first


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGRTMIN + 3, f"signal {signal.SIGRTMIN + 3}")],
)
def test_a_call_whose_process_dies_says_how(number: int, name: str) -> None:
    with lanes() as made:
        with pytest.raises(WorkerDied, match=f"was killed by {name}"):
            result(made.submit(signal.raise_signal, number))
        assert result(made.submit(os.getpid)) > 0


def test_a_death_is_seen_although_a_child_lives_on() -> None:
    with lanes() as made, pytest.raises(WorkerDied, match="SIGKILL"):
        made.submit(hold_the_pipe).result(20)
    for one in descendants():
        if one.program == "sleep":
            os.kill(one.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("bench", "error", "text"),
    [
        (BrokenBench, DumpFailed, "nobody can work here"),
        (ForeignBench, LookupError, "not on this machine"),
        (HeavyBench, TypeError, "pickle"),
    ],
)
def test_a_bench_that_cannot_be_set_up_says_why(bench: type[Bench], error: type[Exception], text: str) -> None:
    with lanes(bench=bench) as made, pytest.raises(error, match=text):
        result(made.submit(os.getpid))


def test_a_call_that_does_not_arrive_says_why() -> None:
    with lanes() as made:
        with pytest.raises(LookupError, match="not on this machine"):
            result(made.submit(repr, Unwelcome()))
        assert result(made.submit(os.getpid)) > 0


def test_a_stop_ends_all_of_them() -> None:
    stop = StopToken()
    with lanes(2, stop=stop) as made:
        futures: list[Future[Any]] = [made.submit(wait_for_the_stop) for _ in range(3)]
        futures.append(made.submit(os.getpid))
        while len([one for one in descendants() if b"lane_program" in one.arguments]) < 2:
            time.sleep(0.02)
        time.sleep(1)  # so that they are at it, on most machines
        stop.stop()
        for future in futures:
            with pytest.raises(Interrupted):
                result(future)


@pytest.mark.parametrize("work", [wait_for_the_stop, ignore_the_stop])
def test_leaving_by_an_exception_leaves_no_process(work: Any) -> None:
    made = Lanes(2, Bench, told(), StopToken())
    result(made.submit(os.getpid))
    futures = [made.submit(work) for _ in range(2)]
    time.sleep(0.5)
    made.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [one for one in descendants() if b"lane_program" in one.arguments] == []
    assert all(future.done() for future in futures)


def test_what_lies_in_the_current_folder_is_nobodys_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("queue", "pickle", "random"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    with lanes() as made:
        assert result(made.submit(os.getpid)) > 0
    assert not (tmp_path / "ran").exists()


def test_a_signal_that_nohup_ignores_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with lanes() as made:
            pid = result(made.submit(os.getpid))
            os.kill(pid, signal.SIGHUP)
            assert result(made.submit(os.getpid)) == pid
    finally:
        signal.signal(signal.SIGHUP, before)
