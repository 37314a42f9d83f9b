"""`--jobs`: what an operator sees of processes that dump side by side, and what is left of them when one is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from core.tests.cli.loom import install_loom
from core.tests.cli.running import PASSPHRASE, Penstock
from tests.processes import Process
from tests.soak import long, times

#: They start processes.
pytestmark = pytest.mark.slow

MIB = 1024 * 1024
STREAMS = 4
SOURCE = f"loom:?size={6 * MIB}&streams={STREAMS}&compressible=0.1"
#: Each stream is read in four pieces: whoever begins second finds the other at work, on a busy machine too.
WAITS = "0.5"
#: And so that a second passes between two pieces, after which a stream is told of by itself.
MORE_THAN_A_SECOND = "1.1"


@pytest.fixture
def penstock(tmp_path: Path) -> Penstock:
    """A new repository, and a source of four streams."""
    install_loom(tmp_path / "site")
    penstock = Penstock(
        tmp_path,
        {
            "PYTHONPATH": str(tmp_path / "site"),
            "PENSTOCK_REPOSITORY": (tmp_path / "repository").as_uri(),
            "PENSTOCK_PASSPHRASE": PASSPHRASE,
        },
    )
    penstock("init")
    return penstock


def opened(penstock: Penstock) -> list[tuple[int, str]]:
    """Who opened which stream so far."""
    lines = (penstock.folder / "opened").read_text().splitlines() if (penstock.folder / "opened").exists() else []
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


def processes(penstock: Penstock) -> list[Process]:
    """All that run in this home; zombies have no arguments."""
    mark = f"HOME={penstock.folder}".encode()
    every = [Process.of(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [one for one in every if one.arguments and mark in one.environment.split(b"\0")]


def assert_silence(penstock: Penstock) -> None:
    deadline = time.monotonic() + 60
    while (left := processes(penstock)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def started(
    penstock: Penstock, *more: str, source: str = SOURCE, jobs: int = 2, waits: str = WAITS
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "penstock", "backup", source, "--name", "loom", "--jobs", str(jobs), *more],
        cwd=penstock.folder,
        env={**penstock.environ, "LOOM_WAITS": waits},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_both_work(penstock: Penstock, child: "subprocess.Popen[str]") -> None:
    """Until two processes have opened a stream."""
    deadline = time.monotonic() + 100
    while len({pid for pid, _ in opened(penstock)}) < 2:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_whole(penstock: Penstock) -> None:
    (report,) = penstock.json("verify", "latest")["snapshots"]
    assert report["problems"] == []
    assert penstock.json("check")["findings"] == []


def test_streams_are_dumped_by_as_many_processes_as_the_settings_say(penstock: Penstock) -> None:
    (penstock.folder / "penstock.toml").write_text(
        f'[repositories.main]\ntype = "filesystem"\npath = "repository"\n[backups.cloth]\nurl = "{SOURCE}"\njobs = 2\n',
        encoding="utf-8",
    )
    shown = penstock.json("config", "show", "--config", "penstock.toml")["backups"][0]
    assert (shown["jobs"], shown["executor"], shown["memory"]) == (2, "processes", 128 * MIB)
    done = penstock("backup", "cloth", "--config", "penstock.toml", "--json", LOOM_WAITS=MORE_THAN_A_SECOND)
    (made,) = json.loads(done.stdout)["backups"]
    assert len({pid for pid, _ in opened(penstock)}) == 2
    assert sorted(name for _, name in opened(penstock)) == [f"synthetic/{number}.bin" for number in range(STREAMS)]
    # All that was stored went through some process, and was counted.
    assert made["sink"]["put"]["bytes"] >= made["stored"] > STREAMS * 5 * MIB
    events = [json.loads(line).get("event", {}) for line in done.stderr.splitlines()]
    progress = [event for event in events if event.get("kind") == "progress"]
    assert len({event["stream"] for event in progress}) >= 2
    assert all(0 < event["stream_done"] <= event["done"] <= event["total"] for event in progress)
    is_whole(penstock)
    (penstock.folder / "opened").unlink()
    again = penstock.json("backup", "cloth", "--config", "penstock.toml", "--jobs", "1")["backups"][0]
    assert len({pid for pid, _ in opened(penstock)}) == 1
    assert again["stored"] < MIB
    assert_silence(penstock)


def test_threads_do_it_too(penstock: Penstock) -> None:
    (penstock.folder / "penstock.toml").write_text(
        f'[repositories.main]\ntype = "filesystem"\npath = "repository"\n[backups.cloth]\nurl = "{SOURCE}"\n'
        '[defaults]\njobs = 3\nexecutor = "threads"\n',
        encoding="utf-8",
    )
    penstock("backup", "cloth", "--config", "penstock.toml")
    assert len({pid for pid, _ in opened(penstock)}) == 1
    is_whole(penstock)


def test_too_little_memory_is_refused(penstock: Penstock) -> None:
    done = penstock("backup", SOURCE, "--jobs", "4", "--memory", "200MiB", code=2)
    assert "200 MiB of memory do not do for 4 jobs" in done.stderr


def test_a_worker_that_is_killed_costs_a_second_try(penstock: Penstock) -> None:
    with started(penstock, "--json") as child:
        wait_until_both_work(penstock, child)
        os.kill(opened(penstock)[-1][0], signal.SIGKILL)  # it has just begun, and not ended
        out, err = child.communicate(timeout=100)
    assert child.returncode == 0, err
    (made,) = json.loads(out)["backups"]
    assert made["retries"] == 1
    assert "was killed by SIGKILL" in err
    is_whole(penstock)
    assert_silence(penstock)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["the process", "its group"])
def test_an_interrupt_ends_all_of_it(penstock: Penstock, number: signal.Signals, whom: str) -> None:
    with started(penstock) as child:
        wait_until_both_work(penstock, child)
        if whom == "the process":
            child.send_signal(number)
        else:
            os.killpg(child.pid, number)
        _, err = child.communicate(timeout=100)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert_silence(penstock)
    assert penstock.json("snapshots")["snapshots"] == []


def resident(penstock: Penstock, command: int) -> tuple[int, int]:
    """How many processes the command is, and the resident memory of all of them together, in bytes."""
    page = os.sysconf("SC_PAGESIZE")
    sizes = []
    for one in processes(penstock):
        if one.pid != command and b"lane_program" not in one.arguments:
            continue  # a copy of its parent, which is about to become a worker
        with suppress(OSError, ValueError):  # it has just ended
            sizes.append(page * int((Path("/proc") / str(one.pid) / "statm").read_text().split()[1]))
    return len(sizes), sum(sizes)


@pytest.mark.parametrize(("streams", "jobs"), [(1, 2), (64, 2), (64, 4)])
def test_the_memory_of_all_processes_is_what_was_given_and_a_hundred_mib_for_each(
    penstock: Penstock, streams: int, jobs: int
) -> None:
    source = f"loom:?size={384 * MIB // streams}&streams={streams}&compressible=0.1"
    memory = 64 * jobs * MIB
    most = (0, 0)
    with started(penstock, source=source, jobs=jobs, waits="0") as child:
        while child.poll() is None:
            most = max(most, resident(penstock, child.pid))
            time.sleep(0.02)
        assert child.returncode == 0, child.communicate()
    count, size = most
    assert count == (1 if streams == 1 else jobs + 1)
    assert size <= memory + 100 * MIB * count


def kill_at_random(penstock: Penstock, rounds: int) -> tuple[int, int]:
    """SIGKILL of the command or of a worker, at any moment; how many snapshots there are in the end, and how many runs
    were killed."""
    chance = random.Random(rounds)
    after = killed = 0
    for _ in range(rounds):
        before = len(penstock.json("snapshots")["snapshots"])
        (penstock.folder / "opened").unlink(missing_ok=True)
        with started(penstock) as child:
            if chance.random() < 0.8:
                wait_until_both_work(penstock, child)
            time.sleep(chance.uniform(0, 2))
            whole = chance.random() < 0.5
            workers = [pid for pid, _ in opened(penstock)]
            victim = child.pid if whole or not workers else chance.choice(workers)
            if child.poll() is None and victim in {one.pid for one in processes(penstock)}:
                os.kill(victim, signal.SIGKILL)
            _, err = child.communicate(timeout=100)
        assert_silence(penstock)
        after = len(penstock.json("snapshots")["snapshots"])
        if child.returncode == 0:
            assert after == before + 1
        else:
            assert child.returncode == -signal.SIGKILL, err
            killed += 1
            assert after in (before, before + 1), "killed between its last put and its end"
    return after, killed


def test_a_kill_leaves_no_snapshot_or_a_whole_one_and_nothing_that_runs(penstock: Penstock) -> None:
    kill_at_random(penstock, 4)
    penstock("backup", SOURCE, "--name", "loom", "--jobs", "2")
    is_whole(penstock)


class TestLong:
    """For `make soak`."""

    pytestmark = long(40)

    def test_two_hundred_kills(self, penstock: Penstock) -> None:
        snapshots, killed = kill_at_random(penstock, times(200))
        assert snapshots > 0
        assert killed > 0
        penstock("check", "--read-data")
        is_whole(penstock)
