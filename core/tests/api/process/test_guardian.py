"""Whatever kills Penstock kills its children and their groups too, and the guardian that does it is in nobody's way."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from core.tests.api.process.children import IN_GROUP, NAME, children, is_alive, is_there, python, read_all, wait_until

from penstock.api import ChildOutput, DumpFailed, run_child
from penstock.api.process import guardian_program
from penstock.api.process.guardian import GUARDIAN, Guardian, GuardianMissing

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")

START = """\
import os, signal, sys, threading, time
from penstock.api import ChildInput, ChildOutput, run_child
from penstock.api.process.guardian import GUARDIAN
def tell(*numbers):
    print(*numbers, flush=True)
def first_line(stream):
    buffer = memoryview(bytearray(99))
    return int(bytes(buffer[:stream.readinto(buffer)]))
"""
COMPUTES = "while True: pass"
IGNORES = (
    "import os, signal, time\n"
    "for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    "print(os.getpid(), flush=True)\ntime.sleep(600)"
)
KEEPS_NO_PIPE = "import os, time\nprint(os.getpid(), flush=True)\nfor n in (0, 1, 2): os.close(n)\ntime.sleep(600)"
STOPS = "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"


@contextmanager
def penstock(code: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that uses children, and the numbers of its first line; at the end of the block it is dead."""
    pids: list[int] = []
    with subprocess.Popen([sys.executable, "-c", START + code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            pids = [int(word) for word in process.stdout.readline().split()]
            yield process, pids
        except BaseException:
            for pid in filter(is_alive, pids):  # a failed test leaves none of them behind
                os.kill(pid, signal.SIGKILL)
            raise
        finally:
            process.kill()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def all_gone(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


@pytest.mark.slow
class TestDeathOfPenstock:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
    def test_a_child_that_computes_dies(self, number: signal.Signals) -> None:
        code = (
            "for number in (signal.SIGHUP, signal.SIGTERM): signal.signal(number, signal.SIG_DFL)\n"
            f"stream = ChildOutput({python(COMPUTES)}, name='x')\n"
            "tell(stream._child.pid, GUARDIAN.pid)\nsignal.pause()"
        )
        with penstock(code) as (process, pids):
            assert len(pids) == 2
            assert all(map(is_alive, pids))
            process.send_signal(number)
            assert process.wait(60) == -number
            wait_until(lambda: all_gone(pids))

    @pytest.mark.parametrize("program", [IGNORES, KEEPS_NO_PIPE])
    def test_a_child_that_ignores_all_signals_or_keeps_no_pipe_dies(self, program: str) -> None:
        code = (
            f"stream = ChildOutput({python(program)}, name='x')\ntell(first_line(stream), GUARDIAN.pid)\nsignal.pause()"
        )
        with penstock(code) as (process, pids):
            assert all(map(is_alive, pids))
            process.kill()
            wait_until(lambda: all_gone(pids))

    def test_a_child_that_is_stopped_dies(self) -> None:
        code = f"stream = ChildOutput({python(STOPS)}, name='x')\ntell(stream._child.pid)\nsignal.pause()"
        with penstock(code) as (process, pids):
            wait_until(lambda: state(pids[0]) == "T")
            process.kill()
            wait_until(lambda: all_gone(pids))

    def test_what_a_child_started_dies_with_it(self) -> None:
        program = IN_GROUP + "print(pid, flush=True)\ntime.sleep(600)"
        code = (
            f"stream = ChildOutput({python(program)}, name='x')\n"
            "tell(stream._child.pid, first_line(stream))\nsignal.pause()"
        )
        with penstock(code) as (process, pids):
            assert all(map(is_alive, pids))
            process.kill()
            wait_until(lambda: all_gone(pids))

    def test_what_a_child_that_has_ended_left_in_its_group_dies(self) -> None:
        program = IN_GROUP + "print(pid, flush=True)"
        code = (
            f"stream = ChildOutput({python(program)}, name='x')\nleft = first_line(stream)\n"
            "assert stream._child.wait(60)\ntell(left)\nsignal.pause()"
        )
        with penstock(code) as (process, pids):
            assert is_alive(pids[0])
            process.kill()
            wait_until(lambda: all_gone(pids))

    @pytest.mark.slow
    def test_children_that_are_fed_and_small_commands_die(self) -> None:
        code = f"""\
child = ChildInput({python(COMPUTES)}, name='x')
threading.Thread(target=run_child, args=[{python(COMPUTES)}], kwargs=dict(name='y', timeout=600)).start()
while len(GUARDIAN._groups) < 2: time.sleep(0.01)
tell(*GUARDIAN._groups)
signal.pause()"""
        with penstock(code) as (process, pids):
            assert all(map(is_alive, pids))
            process.kill()
            wait_until(lambda: all_gone(pids))

    @pytest.mark.slow
    def test_a_child_outlives_the_thread_that_started_it_but_not_the_process(self) -> None:
        code = f"""\
streams = []
thread = threading.Thread(target=lambda: streams.append(ChildOutput({python(COMPUTES)}, name='x')))
thread.start()
thread.join()
assert not streams[0]._child.wait(0.5)
tell(streams[0]._child.pid)
signal.pause()"""
        with penstock(code) as (process, pids):
            assert is_alive(pids[0])
            process.kill()
            wait_until(lambda: all_gone(pids))

    @pytest.mark.slow
    def test_a_child_that_the_guardian_was_not_told_of_yet_dies(self) -> None:
        code = f"""\
def die(group, tag):
    tell(group)
    os.kill(os.getpid(), signal.SIGKILL)
GUARDIAN.watch = die
ChildOutput({python(COMPUTES)}, name='x')"""
        with penstock(code) as (process, pids):
            assert process.wait(60) == -signal.SIGKILL
            wait_until(lambda: all_gone(pids))

    @pytest.mark.slow
    def test_no_moment_of_a_start_lets_a_child_live(self, tmp_path: Path) -> None:
        mark = f"600.{os.getpid()}"
        code = f"""\
import random
for _ in range(40):
    pid = os.fork()
    if not pid:
        streams = []
        def start():
            while True: streams.append(ChildOutput(['sleep', '{mark}'], name='x'))
        for _ in range(2): threading.Thread(target=start).start()
        signal.pause()
    time.sleep(random.uniform(0.01, 0.08))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
tell()"""
        with penstock(code) as (_, told):
            assert told == []
        try:
            wait_until(lambda: not _running(mark))
        finally:
            for pid in _running(mark):
                os.kill(pid, signal.SIGKILL)

    @pytest.mark.slow
    def test_a_fork_of_the_process_does_not_keep_its_children_alive(self) -> None:
        code = f"""\
stream = ChildOutput({python(COMPUTES)}, name='x')
if os.fork():
    signal.pause()
own = ChildOutput({python(COMPUTES)}, name='y')
tell(stream._child.pid, os.getpid(), own._child.pid)
signal.pause()"""
        with penstock(code) as (process, (child, fork, own)):
            assert all(map(is_alive, [child, fork, own]))
            process.kill()
            wait_until(lambda: not is_alive(child))
            assert is_alive(fork)
            assert is_alive(own)
            os.kill(fork, signal.SIGKILL)
            wait_until(lambda: not is_alive(own))

    @pytest.mark.slow
    def test_children_die_even_if_their_first_guardian_was_killed(self) -> None:
        code = f"""\
one = ChildOutput({python(COMPUTES)}, name='x')
before = GUARDIAN.pid
os.kill(before, signal.SIGKILL)
while open(f'/proc/{{before}}/stat').read().rpartition(')')[2].split()[0] != 'Z': time.sleep(0.01)
two = ChildOutput({python(COMPUTES)}, name='y')
assert GUARDIAN.pid != before and not os.path.exists(f'/proc/{{before}}')
tell(one._child.pid, two._child.pid)
signal.pause()"""
        with penstock(code) as (process, pids):
            assert len(pids) == 2
            assert all(map(is_alive, pids))
            process.kill()
            wait_until(lambda: all_gone(pids))


class TestEndOfPenstock:
    @pytest.mark.slow
    def test_a_normal_end_leaves_no_guardian(self) -> None:
        code = "run_child(['true'], name='x', timeout=60)\ntell(GUARDIAN.pid)"
        with penstock(code) as (process, (guardian,)):
            assert process.wait(60) == 0
            assert not is_there(guardian)

    @pytest.mark.slow
    @pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
    def test_an_end_without_any_tidying_leaves_no_guardian(self, end: str) -> None:
        code = f"run_child(['true'], name='x', timeout=60)\ntell(GUARDIAN.pid)\n{end}"
        with penstock(code) as (_, pids):
            wait_until(lambda: all_gone(pids))

    @pytest.mark.slow
    def test_a_guardian_that_is_stopped_does_not_keep_penstock_from_ending(self) -> None:
        code = (
            f"import penstock.api.process.guardian as module\nmodule._END_SECONDS = 0.2\n"
            f"stream = ChildOutput({python(COMPUTES)}, name='x')\ntell(GUARDIAN.pid, stream._child.pid)\n"
            "os.kill(GUARDIAN.pid, signal.SIGSTOP)"
        )
        with penstock(code) as (process, pids):
            assert process.wait(60) == 0
            wait_until(lambda: all_gone(pids))


class TestGuardian:
    def test_one_serves_all_children(self) -> None:
        run_child(["true"], name=NAME, timeout=60)
        guardian, before = GUARDIAN.pid, children()
        assert guardian is not None
        assert str(guardian) in before
        for _ in range(5):
            run_child(["true"], name=NAME, timeout=60)
        assert GUARDIAN.pid == guardian
        assert children() == before

    def test_it_has_a_session_of_its_own_and_none_of_our_descriptors_or_variables(self) -> None:
        GUARDIAN.start()
        pid = GUARDIAN.pid
        assert pid is not None
        assert os.getsid(pid) == pid
        wait_until(lambda: {entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"})
        assert not Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0") or "LD_LIBRARY_PATH" in os.environ

    def test_no_signal_ends_it_early_even_when_it_has_hardly_begun(self) -> None:
        guardian = Guardian()
        guardian.start()
        pid = guardian.pid
        assert pid is not None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE):
            os.kill(pid, number)
        with _sleeper() as sleeper:
            guardian.expect(1)
            guardian.watch(sleeper.pid, 1)
            assert guardian.pid == pid
            guardian.close()
            assert sleeper.wait(60) == -signal.SIGKILL
        assert not is_there(pid)

    def test_one_that_no_longer_reads_is_replaced(self) -> None:
        guardian = Guardian()
        with _sleeper() as sleeper:
            guardian.expect(1)
            guardian.watch(sleeper.pid, 1)
            pid = guardian.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            for tag in range(100_000):
                guardian.expect(tag)
                guardian.give_up(tag)
                if guardian.pid != pid:
                    break
            assert not is_there(pid)
            assert is_alive(sleeper.pid)
            guardian.close()
            assert sleeper.wait(60) == -signal.SIGKILL

    def test_a_child_is_forgotten_while_its_number_is_still_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[tuple[int, bool]] = []
        forget = Guardian.forget

        def spy(guardian: Guardian, group: int) -> None:
            told.append((group, is_there(group)))
            forget(guardian, group)

        monkeypatch.setattr(Guardian, "forget", spy)
        stream = ChildOutput(["true"], name=NAME)
        pid = stream._child.pid
        read_all(stream)
        stream.close()
        assert told == [(pid, True)]
        assert pid not in GUARDIAN._groups
        assert not is_there(pid)

    def test_a_program_that_cannot_be_run_is_not_waited_for(self) -> None:
        with pytest.raises(DumpFailed):
            ChildOutput(["true", "x" * (1 << 22)], name=NAME)
        assert not GUARDIAN._starting

    def test_no_child_starts_without_one(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        GUARDIAN.close()
        trace = tmp_path / "ran"
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(tmp_path / "missing"))
            with pytest.raises(
                DumpFailed, match="could not be started: the guardian of children cannot be run: No such"
            ):
                ChildOutput(["touch", str(trace)], name=NAME)
            patch.setattr(sys, "executable", "")
            with pytest.raises(GuardianMissing, match="path of the Python interpreter is unknown"):
                GUARDIAN.start()
        assert not trace.exists()
        assert run_child(["echo", "hello"], name=NAME, timeout=60) == b"hello\n"


class TestOrders:
    def test_groups_that_are_left_are_killed_and_forgotten_ones_are_not(self) -> None:
        with _sleeper() as left, _sleeper() as forgotten:
            _follow(f"?7\n+{left.pid} 7\n?8\n+{forgotten.pid} 8\n-{forgotten.pid}\n")
            assert left.wait(60) == -signal.SIGKILL
            assert forgotten.poll() is None

    def test_a_group_that_is_gone_does_not_keep_the_next_from_being_killed(self) -> None:
        with _sleeper() as left, _sleeper() as gone:
            gone.kill()
            gone.wait()
            _follow(f"+{gone.pid} 1\n+{left.pid} 2\n")
            assert left.wait(60) == -signal.SIGKILL

    def test_a_child_that_is_starting_is_found_by_its_stderr_and_one_that_was_given_up_is_not(self) -> None:
        one, other = os.pipe(), os.pipe()
        try:
            tags = [os.fstat(read).st_ino for read, _ in (one, other)]
            with _sleeper(one[1]) as starting, _sleeper(other[1]) as given_up:
                _follow(f"?{tags[0]}\n?{tags[1]}\n!{tags[1]}\n")
                assert starting.wait(60) == -signal.SIGKILL
                assert given_up.poll() is None
        finally:
            for descriptor in (*one, *other):
                os.close(descriptor)

    def test_without_proc_the_registered_groups_are_killed_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(path: str) -> list[str]:
            raise FileNotFoundError(path)

        monkeypatch.setattr(os, "listdir", missing)
        with _sleeper() as left:
            _follow(f"?5\n+{left.pid} 4\n")
            assert left.wait(60) == -signal.SIGKILL


def _follow(orders: str) -> None:
    read, write = os.pipe()
    os.write(write, orders.encode())  # short: the pipe takes it whole
    os.close(write)
    try:
        guardian_program.main(read)
    finally:
        os.close(read)


@contextmanager
def _sleeper(stderr: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], stderr=stderr, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _running(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if (folder / "cmdline").read_bytes() == b"sleep\0" + mark.encode() + b"\0":
                    found.append(int(folder.name))
    return found
