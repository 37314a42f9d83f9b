"""Real children: every way to end must be judged rightly, leave no process and no descriptor, and never hang."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock.api import (
    ChildInput,
    ChildOutput,
    ClientMissing,
    DumpFailed,
    DumpStalled,
    PenstockError,
    RestoreFailed,
    Secret,
    SourceDenied,
    SourceError,
    env_for_child,
    private_file,
    run_child,
)
from penstock.api import _child as child_module
from penstock.api._drain import STDERR_LINE_BYTES, Stderr

NAME = "dump of shop"
# The child announces a process of its own group, or one that fled from it, and then goes on or ends.
FORK = "import os, sys, time\npid = os.fork()\nif not pid:\n    {role}\n    time.sleep(600)\n    os._exit(0)\n"
IN_GROUP = FORK.format(role="pass")
FLED = FORK.format(role="os.setsid()")


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def read_all(stream: ChildOutput, size: int = 64 * 1024) -> bytes:
    buffer = bytearray(size)
    parts = bytearray()
    while count := stream.readinto(memoryview(buffer)):
        parts += buffer[:count]
    return bytes(parts)


def is_there(pid: int) -> bool:
    """Whether a process is there at all: a zombie is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Whether a process is there and not dead: who adopts it may be slow to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def strays() -> Iterator[list[int]]:
    """Processes that a test lets flee, to be killed at its end."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is not waited for; what comes may take its time on a busy machine."""
    monkeypatch.setattr(child_module, "LEFT_BEHIND_SECONDS", 0.3)
    monkeypatch.setattr(child_module, "DRAIN_SECONDS", 30.0)


class TestOutput:
    def test_a_child_that_exits_with_0_is_a_success(self) -> None:
        stream = ChildOutput(["sh", "-c", "printf hello; printf world"], name=NAME)
        assert read_all(stream) == b"helloworld"
        stream.close()
        stream.close()
        assert not is_there(stream._child.pid)

    def test_bytes_come_through_unchanged_and_whole(self) -> None:
        code = "import sys\nfor i in range(200): sys.stdout.buffer.write(bytes([i]) * 99991)"
        stream = ChildOutput(python(code), name=NAME)
        assert read_all(stream, 1 << 20) == b"".join(bytes([i]) * 99991 for i in range(200))
        stream.close()

    def test_the_end_is_told_again(self) -> None:
        stream = ChildOutput(["true"], name=NAME)
        assert [stream.readinto(memoryview(bytearray(9))) for _ in range(3)] == [0, 0, 0]
        stream.close()

    def test_reading_into_nothing_is_not_the_end(self) -> None:
        stream = ChildOutput(["true"], name=NAME)
        assert stream.readinto(memoryview(b"")) == 0
        with pytest.raises(DumpFailed, match="closed before its end"):
            stream.close()

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a pipe grow")
    def test_the_pipe_is_enlarged(self) -> None:
        import fcntl

        stream = ChildOutput(["sleep", "60"], name=NAME)
        pipe = stream._child._pipe
        assert pipe is not None
        assert fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ) == 1024 * 1024
        stream.abort()

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a pipe grow")
    def test_a_pipe_that_may_not_grow_works_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child_module, "PIPE_BYTES", 1 << 40)
        stream = ChildOutput(["echo", "hello"], name=NAME)
        assert read_all(stream) == b"hello\n"
        stream.close()

    def test_a_failure_after_all_output_is_a_failure(self) -> None:
        stream = ChildOutput(["sh", "-c", "printf data; echo 'lost connection' >&2; exit 1"], name=NAME)
        assert read_all(stream) == b"data"
        with pytest.raises(DumpFailed) as caught:
            stream.close()
        assert caught.value.message == "dump of shop exited with 1"
        assert caught.value.details == ("lost connection",)
        assert caught.value.hint is None
        assert type(caught.value) is DumpFailed

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
    def test_death_by_signal_half_way_is_a_failure(self, number: signal.Signals) -> None:
        stream = ChildOutput(["sh", "-c", f"printf half; kill -{number.value} $$; printf more"], name=NAME)
        assert read_all(stream) == b"half"
        with pytest.raises(DumpFailed, match=f"was killed by {number.name}$") as caught:
            stream.close()
        assert (caught.value.hint is not None) == (number == signal.SIGKILL)

    def test_a_signal_without_a_name_is_a_failure_too(self) -> None:
        number = signal.SIGRTMIN + 5
        stream = ChildOutput(["sh", "-c", f"kill -{number} $$"], name=NAME)
        read_all(stream)
        with pytest.raises(DumpFailed, match=f"was killed by signal {number}$"):
            stream.close()

    def test_a_lost_exit_status_is_a_failure(self) -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            stream = ChildOutput(["false"], name=NAME)
            read_all(stream)
            with pytest.raises(DumpFailed, match="exit status was lost"):
                stream.close()
        finally:
            signal.signal(signal.SIGCHLD, before)

    def test_silence_is_a_stall(self) -> None:
        stream = ChildOutput(["sh", "-c", "echo waiting >&2; printf some; exec sleep 600"], name=NAME, stall_timeout=60)
        buffer = memoryview(bytearray(99))
        assert stream.readinto(buffer) == 4
        stream._stall_timeout = 0.3  # only now: what does come may take its time
        with pytest.raises(DumpStalled, match=r"wrote nothing for 0\.3 seconds") as caught:
            stream.readinto(buffer)
        assert caught.value.details == ("waiting",)
        assert not is_there(stream._child.pid)
        with pytest.raises(DumpFailed, match="stopped before its end"):
            stream.close()

    def test_a_child_that_ignores_sigterm_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.1)
        stream = ChildOutput(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], name=NAME)
        assert stream.readinto(memoryview(bytearray(99))) == 6
        stream.abort()
        assert stream._child.outcome() == "was killed by SIGKILL"
        assert not is_there(stream._child.pid)

    def test_a_child_may_use_its_grace_to_say_goodbye(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child_module, "GRACE_SECONDS", 60.0)
        code = (
            "import signal, sys\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit('query cancelled'))\n"
            "print('ready', flush=True)\nsignal.pause()"
        )
        stream = ChildOutput(python(code), name=NAME)
        assert stream.readinto(memoryview(bytearray(99))) == 6
        with pytest.raises(DumpFailed) as caught:
            stream.close()
        assert caught.value.details == ("query cancelled",)

    def test_a_stopped_child_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.1)
        stream = ChildOutput(["sh", "-c", "kill -STOP $$"], name=NAME, stall_timeout=0.3)
        with pytest.raises(DumpStalled):
            read_all(stream)
        assert not is_there(stream._child.pid)

    def test_time_in_which_nobody_reads_does_not_count_as_a_stall(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = ChildOutput(["head", "-c", str(3 << 20), "/dev/zero"], name=NAME, stall_timeout=60)
        buffer = memoryview(bytearray(4096))
        assert stream.readinto(buffer) == 4096
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600, sleep=time.sleep)
        monkeypatch.setattr(child_module, "time", later)
        assert len(read_all(stream)) == (3 << 20) - 4096
        stream.close()

    def test_a_child_that_ends_its_output_but_never_exits_is_a_stall(self) -> None:
        stream = ChildOutput(["sh", "-c", "exec >&-; exec sleep 600"], name=NAME, stall_timeout=60)
        assert read_all(stream) == b""
        stream._stall_timeout = 0.3
        with pytest.raises(DumpStalled, match=r"wrote all its output but did not exit within 0\.3 seconds"):
            stream.close()
        assert not is_there(stream._child.pid)

    def test_closing_before_the_end_kills_and_fails(self) -> None:
        stream = ChildOutput(["yes"], name=NAME)
        assert stream.readinto(memoryview(bytearray(10))) == 10
        with pytest.raises(DumpFailed, match="closed before its end"):
            stream.close()
        assert not is_there(stream._child.pid)
        stream.close()
        with pytest.raises(DumpFailed, match="was closed"):
            stream.readinto(memoryview(bytearray(10)))

    def test_closing_after_all_bytes_but_before_the_end_was_seen_fails(self) -> None:
        stream = ChildOutput(["printf", "1234"], name=NAME)
        assert stream.readinto(memoryview(bytearray(4))) == 4
        with pytest.raises(DumpFailed, match="closed before its end"):
            stream.close()

    def test_abort_kills_and_reaps_and_closing_then_fails(self) -> None:
        stream = ChildOutput(["yes"], name=NAME)
        stream.abort()
        stream.abort()
        assert not is_there(stream._child.pid)
        with pytest.raises(DumpFailed, match="stopped before its end"):
            stream.readinto(memoryview(bytearray(10)))
        with pytest.raises(DumpFailed, match="stopped before its end"):
            stream.close()

    def test_abort_after_the_end_was_seen_is_no_success(self) -> None:
        stream = ChildOutput(["true"], name=NAME)
        read_all(stream)
        stream.abort()
        with pytest.raises(DumpFailed):
            stream.close()

    def test_abort_after_close_does_nothing(self) -> None:
        stream = ChildOutput(["true"], name=NAME)
        read_all(stream)
        stream.close()
        stream.abort()
        stream.close()

    def test_abort_from_another_thread_ends_a_waiting_read(self) -> None:
        stream = ChildOutput(["sleep", "600"], name=NAME)
        caught: list[PenstockError] = []

        def read() -> None:
            try:
                read_all(stream)
            except DumpFailed as error:
                caught.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.1)
        stream.abort()
        reader.join(30)
        assert [error.message for error in caught] == ["dump of shop was stopped before its end"]

    def test_an_interruption_while_waiting_for_the_exit_leaves_no_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = ChildOutput(["sh", "-c", "exec >&-; exec sleep 600"], name=NAME)
        read_all(stream)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        wait = child_module._exit_status

        def interrupted(pid: int, flags: int) -> int | None:
            if not flags & os.WNOHANG:  # the wait itself, and not before it
                signal.setitimer(signal.ITIMER_REAL, 0.1)
            return wait(pid, flags)

        monkeypatch.setattr(child_module, "_exit_status", interrupted)
        try:
            with pytest.raises(KeyboardInterrupt):
                stream.close()
        finally:
            signal.signal(signal.SIGALRM, before)
        assert not is_there(stream._child.pid)

    def test_abort_in_a_signal_handler_ends_the_read_that_it_interrupts(self) -> None:
        stream = ChildOutput(["sleep", "600"], name=NAME)
        before = signal.signal(signal.SIGALRM, lambda *_: stream.abort())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(DumpFailed, match="stopped before its end"):
                read_all(stream)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert not is_there(stream._child.pid)

    def test_a_forgotten_child_is_killed_and_warned_about(self) -> None:
        stream = ChildOutput(["yes"], name=NAME)
        pid = stream._child.pid
        with pytest.warns(ResourceWarning, match="dump of shop was neither closed nor aborted"):
            del stream
        assert not is_there(pid)

    def test_a_child_that_is_forgotten_until_the_interpreter_ends_is_killed(self, tmp_path: Path) -> None:
        code = (
            "from penstock.api import ChildOutput\n"
            "stream = ChildOutput(['sleep', '600'], name='x')\nprint(stream._child.pid)"
        )
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
        assert not is_alive(int(done.stdout))

    def test_a_fork_of_the_owner_leaves_the_child_alone(self) -> None:
        code = (
            "import os, sys\nfrom penstock.api import ChildOutput\n"
            "stream = ChildOutput(['sleep', '600'], name='x')\n"
            "if not os.fork(): sys.exit()\n"
            "os.wait()\nassert not stream._child.wait(0.2)\nstream.abort()\nprint('fine')"
        )
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
        assert done.stdout == b"fine\n"

    def test_a_child_writes_into_a_broken_pipe_when_its_reader_is_killed_outright(self) -> None:
        code = (
            "from penstock.api import ChildOutput\nimport os, signal\n"
            "stream = ChildOutput(['yes'], name='x')\nprint(stream._child.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        wait_until(lambda: not is_alive(int(done.stdout)))

    def test_it_shows_its_name_and_no_environment(self) -> None:
        stream = ChildOutput(["true"], name=NAME, env={"PATH": "/bin:/usr/bin", "PGPASSWORD": "hunter2"})
        assert repr(stream) == f"<ChildOutput 'dump of shop', process {stream._child.pid}>"
        read_all(stream)
        stream.close()


class TestLeftovers:
    @pytest.fixture(autouse=True)
    def short(self, limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Here somebody holds stderr for ever."""
        monkeypatch.setattr(child_module, "DRAIN_SECONDS", 1.0)

    def test_grandchildren_die_with_the_group(self) -> None:
        stream = ChildOutput(["sh", "-c", "sleep 600 & echo $!; wait"], name=NAME)
        buffer = bytearray(99)
        grandchild = int(buffer[: stream.readinto(memoryview(buffer))])
        assert is_alive(grandchild)
        stream.abort()
        wait_until(lambda: not is_alive(grandchild))

    def test_what_a_successful_child_leaves_in_its_group_dies_too(self) -> None:
        stream = ChildOutput(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], name=NAME)
        grandchild = int(read_all(stream))
        assert is_alive(grandchild)
        stream.close()
        wait_until(lambda: not is_alive(grandchild))

    @pytest.mark.parametrize("role", [IN_GROUP, FLED])
    @pytest.mark.parametrize("stall_timeout", [None, 600.0])
    def test_a_process_left_behind_with_the_output_cannot_hang_the_reader(
        self, role: str, stall_timeout: float | None, strays: list[int]
    ) -> None:
        stream = ChildOutput(python(role + "print(pid)"), name=NAME, stall_timeout=stall_timeout)
        buffer = bytearray(99)
        strays.append(int(buffer[: stream.readinto(memoryview(buffer))]))
        with pytest.raises(DumpFailed, match="a process that it left behind keeps its pipe open"):
            read_all(stream)
        if role is IN_GROUP:
            wait_until(lambda: not is_alive(strays[0]))

    def test_the_exit_status_is_told_before_what_was_left_behind(self, strays: list[int]) -> None:
        stream = ChildOutput(python(FLED + "print(pid)\nsys.exit(3)"), name=NAME)
        buffer = bytearray(99)
        strays.append(int(buffer[: stream.readinto(memoryview(buffer))]))
        with pytest.raises(DumpFailed, match="exited with 3"):
            read_all(stream)

    def test_a_daemon_that_holds_stderr_does_not_spoil_a_success(self, strays: list[int]) -> None:
        code = FORK.format(role="os.setsid(); os.close(1)") + "print(pid)"
        stream = ChildOutput(python(code), name=NAME)
        strays.append(int(read_all(stream)))
        stream.close()
        assert is_alive(strays[0])
        assert not [thread for thread in threading.enumerate() if "drain" in thread.name]

    def test_a_daemon_that_holds_the_input_does_not_hang_the_writer(self, strays: list[int]) -> None:
        child = ChildInput(python(FLED + "sys.exit(str(pid))"), name=NAME)
        with pytest.raises(RestoreFailed, match="exited with 1") as caught:
            child.write(bytes(4 << 20))
        strays.append(int(caught.value.details[0]))

    def test_a_daemon_that_holds_the_input_does_not_hang_the_end(self, strays: list[int]) -> None:
        code = FLED + "sys.stdin.buffer.read(1)\nsys.exit(str(pid))"
        child = ChildInput(python(code), name=NAME)
        child.write(b"1")
        with pytest.raises(RestoreFailed, match="exited with 1") as caught:
            child.finish()
        strays.append(int(caught.value.details[0]))

    def test_a_daemon_that_holds_everything_does_not_hang_a_small_command(self, strays: list[int]) -> None:
        answer = run_child(python(FLED + "print(pid)"), name=NAME, timeout=60, input=bytes(4 << 20))
        strays.append(int(answer))


class TestStderr:
    def test_a_lot_of_it_does_not_block_and_its_tail_is_kept(self) -> None:
        code = "import sys\nfor i in range(200_000): print('x' * 50, i, file=sys.stderr)\nprint('done')"
        stream = ChildOutput(python(code), name=NAME)
        assert read_all(stream) == b"done\n"
        stream._child.end()
        assert stream._child._stderr.total > 10_000_000
        assert len(stream._child._stderr.tail) == 16 * 1024
        lines = stream._child.failure("").details
        assert lines == tuple(f"{'x' * 50} {i}" for i in range(199_980, 200_000))
        stream.close()

    def test_one_endless_line_is_bounded(self) -> None:
        stream = ChildOutput(python("import sys\nsys.stderr.write('é' * 5_000_000)\nsys.exit(1)"), name=NAME)
        read_all(stream)
        with pytest.raises(DumpFailed) as caught:
            stream.close()
        assert sum(map(len, caught.value.details)) <= 16 * 1024

    def test_control_characters_and_broken_text_are_shown_harmlessly(self) -> None:
        code = r"import os; os.write(2, b'\x1b[31mred\r\n\n \nbell\x07 \xff\xfe\0 end'); raise SystemExit(1)"
        stream = ChildOutput(python(code), name=NAME)
        read_all(stream)
        with pytest.raises(DumpFailed) as caught:
            stream.close()
        assert caught.value.details == ("?[31mred", "bell? \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}? end")

    def test_secrets_are_masked(self) -> None:
        secrets = [Secret("hunter2"), Secret("hunter2/3 ü"), Secret("ter2xyz"), Secret("")]
        code = "import sys\nprint(sys.argv[1], file=sys.stderr)\nsys.exit(1)"
        said = "a hunter2 b hunter2/3 ü c hunter2%2F3%20%C3%BC d hunter2xyz e hunter2hunter2 f hunter"
        stream = ChildOutput([*python(code), said], name=NAME, secrets=secrets)
        read_all(stream)
        with pytest.raises(DumpFailed) as caught:
            stream.close()
        assert caught.value.details == ("a *** b *** c *** d *** e *** f hunter",)

    @pytest.mark.parametrize("padding", range(16 * 1024 - 8, 16 * 1024 + 12))
    def test_a_secret_that_the_tail_cuts_does_not_show_in_part(self, padding: int) -> None:
        read, write = os.pipe()
        stderr = Stderr(os.fdopen(read, "rb", buffering=0), [Secret("SECRET/TEXT")], NAME)
        with os.fdopen(write, "wb") as pipe:
            lines = (b"." * 999 + b"\n") * 30
            pipe.write(lines + b"SECRET/TEXT" + lines[:padding])
        stderr.finish(60)
        shown = "".join(stderr.last_lines())
        assert not set(shown) - set(".*")
        assert 14 * 1024 < len(shown) < 16 * 1024 + len("***")

    @pytest.mark.parametrize("at", [0, *range(STDERR_LINE_BYTES - 12, STDERR_LINE_BYTES + 3), 99_000, 99_999])
    @pytest.mark.parametrize("secret", ["SECRET/TEXT", "SECRET\nTEXT"])
    def test_a_secret_in_a_long_line_does_not_show_in_part(self, at: int, secret: str) -> None:
        read, write = os.pipe()
        stderr = Stderr(os.fdopen(read, "rb", buffering=0), [Secret(secret), Secret("twelve bytes")], NAME)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(b"." * at + secret.encode() + b"." * (100_000 - at) + b"\n.")
        stderr.finish(60)
        lines = stderr.last_lines()
        assert not set("".join(lines)) - set(".* …")
        assert all(len(line) <= STDERR_LINE_BYTES + len("*** …") for line in lines)

    @pytest.mark.parametrize("padding", range(14_300, 14_430))
    def test_a_secret_in_a_long_line_that_the_tail_cuts_does_not_show_in_part(self, padding: int) -> None:
        read, write = os.pipe()
        stderr = Stderr(os.fdopen(read, "rb", buffering=0), [Secret("SECRET/TEXT")], NAME)
        with os.fdopen(write, "wb") as pipe:
            # The secret ends in what is dropped of the line.
            lines = (b"." * 999 + b"\n") * 30
            pipe.write(lines + b"." * (STDERR_LINE_BYTES + 5) + b"SECRET/TEXT" + b"." * 9000 + b"\n" + lines[:padding])
        stderr.finish(60)
        assert not set("".join(stderr.last_lines())) - set(".* …")

    def test_a_long_line_does_not_push_out_what_was_said_before(self) -> None:
        """As pg_dump does it, which quotes a statement that names all tables."""
        said = "'out of memory', 'HINT: more', 'x' * 99_999, 'end'"
        code = f"import sys; print({said}, sep='\\n', file=sys.stderr); sys.exit(1)"
        stream = ChildOutput(python(code), name=NAME)
        read_all(stream)
        with pytest.raises(DumpFailed) as caught:
            stream.close()
        assert caught.value.details == ("out of memory", "HINT: more", "x" * STDERR_LINE_BYTES + " …", "end")

    def test_secrets_are_masked_in_the_errors_of_all_kinds_of_children(self) -> None:
        argv = ["sh", "-c", 'echo "password $PGPASSWORD refused" >&2; exit 2']
        secret = Secret("hunter2")
        env = env_for_child({"PGPASSWORD": secret})
        with pytest.raises(SourceError) as caught:
            run_child(argv, name=NAME, env=env, timeout=60, secrets=[secret])
        assert caught.value.details == ("password *** refused",)
        child = ChildInput(argv, name=NAME, env=env, secrets=[secret])
        with pytest.raises(RestoreFailed) as caught:
            child.finish()
        assert caught.value.details == ("password *** refused",)


class TestEndMarker:
    MARKER = b"-- dump complete"

    def test_its_absence_is_a_failure_although_the_child_exits_with_0(self) -> None:
        stream = ChildOutput(["echo", "half of it"], name=NAME, end_marker=self.MARKER)
        read_all(stream)
        with pytest.raises(DumpFailed, match="end marker is missing"):
            stream.close()

    @pytest.mark.parametrize("size", [1, 5, 4096, 4097, 65536])
    @pytest.mark.parametrize("after", [0, 1, 4096 - 16])
    def test_it_is_found_however_reads_cut_it(self, size: int, after: int) -> None:
        code = f"print('x' * 9000 + '{self.MARKER.decode()}' + 'y' * {after}, end='')"
        stream = ChildOutput(python(code), name=NAME, end_marker=self.MARKER)
        read_all(stream, size)
        stream.close()

    @pytest.mark.parametrize("size", [5, 4096, 65536])
    def test_it_does_not_count_far_from_the_end(self, size: int) -> None:
        code = f"print('{self.MARKER.decode()}' + 'y' * {4096 - 15}, end='')"
        stream = ChildOutput(python(code), name=NAME, end_marker=self.MARKER)
        read_all(stream, size)
        with pytest.raises(DumpFailed, match="end marker is missing"):
            stream.close()

    def test_it_does_not_excuse_a_failure(self) -> None:
        stream = ChildOutput(["sh", "-c", "echo '-- dump complete'; exit 1"], name=NAME, end_marker=self.MARKER)
        read_all(stream)
        with pytest.raises(DumpFailed, match="exited with 1"):
            stream.close()

    @pytest.mark.parametrize("marker", [b"", bytes(4097)])
    def test_one_that_cannot_be_found_is_refused(self, marker: bytes) -> None:
        with pytest.raises(ValueError, match="1 to 4096 bytes"):
            ChildOutput(["true"], name=NAME, end_marker=marker)


class TestStart:
    def test_a_missing_program_is_named(self) -> None:
        with pytest.raises(ClientMissing) as caught:
            ChildOutput(["no-such-dump", "--all"], name=NAME)
        expected = "dump of shop: cannot run no-such-dump: it is not installed, or not in PATH"
        assert caught.value.message == expected
        assert caught.value.hint

    def test_a_file_that_is_not_executable_is_named_with_the_reason(self, tmp_path: Path) -> None:
        program = tmp_path / "dump"
        program.write_text("#!/bin/sh\n")
        with pytest.raises(ClientMissing, match=r"dump: Permission denied"):
            ChildInput([str(program)], name=NAME)

    def test_a_script_without_its_interpreter_is_named_with_the_reason(self, tmp_path: Path) -> None:
        program = tmp_path / "dump"
        program.write_text("#!/no/such/interpreter\n")
        program.chmod(0o755)
        with pytest.raises(ClientMissing, match="interpreter that its first line names is missing"):
            run_child([str(program)], name=NAME, timeout=60)

    def test_a_file_that_is_no_program_is_named_with_the_reason(self, tmp_path: Path) -> None:
        program = tmp_path / "dump"
        program.write_bytes(b"\x7fELF nonsense")
        program.chmod(0o755)
        with pytest.raises(ClientMissing, match="Exec format error"):
            run_child([str(program)], name=NAME, timeout=60)

    def test_a_system_without_room_is_not_a_missing_program(self) -> None:
        with pytest.raises(DumpFailed, match="could not be started: Argument list too long"):
            ChildOutput(["true", "x" * (1 << 22)], name=NAME)

    def test_a_thread_that_cannot_start_leaves_no_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[int] = []
        popen = subprocess.Popen

        def spy(*args: object, **options: object) -> object:
            process = popen(*args, **options)  # type: ignore[call-overload]
            started.append(process.pid)
            return process

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        before = _descriptors()
        monkeypatch.setattr(subprocess, "Popen", spy)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            ChildOutput(["yes"], name=NAME)
        assert len(started) == 1
        assert not is_there(started[0])
        assert _descriptors() == before

    @pytest.mark.parametrize("argv", ["true", []])
    def test_a_command_line_instead_of_a_list_is_refused(self, argv: list[str]) -> None:
        with pytest.raises(TypeError, match="argv is a list"):
            ChildOutput(argv, name=NAME)

    def test_the_child_reads_nothing_and_has_no_terminal(self) -> None:
        code = (
            "import os, sys\nassert sys.stdin.read() == ''\nassert os.getsid(0) == os.getpgid(0) == os.getpid()\n"
            "try: os.open('/dev/tty', os.O_RDWR)\nexcept OSError: pass\nelse: raise SystemExit('a terminal')"
        )
        assert run_child(python(code), name=NAME, timeout=60) == b""

    def test_an_inherited_pipe_reaches_the_child_and_no_other_descriptor_does(self) -> None:
        read, write = os.pipe()
        os.write(write, b"hunter2")
        os.close(write)
        os.set_inheritable(other := os.dup(read), True)
        code = f"import os\nprint(os.read({read}, 99).decode(), os.path.exists('/proc/self/fd/{other}'))"
        stream = ChildOutput(python(code), name=NAME, pass_fds=[read])
        os.close(read)
        os.close(other)
        assert read_all(stream) == b"hunter2 False\n"
        stream.close()


class TestInput:
    def test_everything_arrives_in_order(self, tmp_path: Path) -> None:
        target = tmp_path / "restored"
        with ChildInput(["sh", "-c", 'cat > "$1"; echo chatter', "sh", str(target)], name=NAME) as child:
            for i in range(40):
                child.write(bytes([i]) * 99_991)
            child.write(bytearray(b"end"))
            child.write(memoryview(b""))
        assert target.read_bytes() == b"".join(bytes([i]) * 99_991 for i in range(40)) + b"end"
        child.finish()
        child.abort()
        assert not is_there(child._child.pid)
        assert repr(child) == f"<ChildInput 'dump of shop', process {child._child.pid}>"
        with pytest.raises(RestoreFailed, match="was finished"):
            child.write(b"more")

    def test_a_failure_at_the_end_is_a_failure(self) -> None:
        child = ChildInput(["sh", "-c", "cat >/dev/null; echo 'constraint violated' >&2; exit 3"], name=NAME)
        child.write(b"data")
        with pytest.raises(RestoreFailed, match="dump of shop exited with 3") as caught:
            child.finish()
        assert caught.value.details == ("constraint violated",)
        assert not is_there(child._child.pid)

    def test_a_broken_pipe_is_told_in_the_childs_own_words(self) -> None:
        child = ChildInput(["sh", "-c", "exec <&-; sleep 0.2; echo 'syntax error' >&2; exit 3"], name=NAME)
        with pytest.raises(RestoreFailed, match="exited with 3") as caught:
            child.write(bytes(9 << 20))
        assert caught.value.details == ("syntax error",)
        assert not is_there(child._child.pid)

    def test_a_child_that_exits_with_0_before_it_read_everything_has_failed(self) -> None:
        with (
            pytest.raises(RestoreFailed, match="exited with 0 before it had read everything"),
            ChildInput(["head", "-c", "10"], name=NAME) as child,
        ):
            child.write(bytes(9 << 20))

    def test_a_child_that_stops_reading_and_stays_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("penstock.api.process._BROKEN_PIPE_SECONDS", 0.2)
        child = ChildInput(["sh", "-c", "exec <&-; exec sleep 600"], name=NAME)
        with pytest.raises(RestoreFailed, match="stopped reading"):
            child.write(bytes(9 << 20))
        assert not is_there(child._child.pid)

    def test_a_child_that_takes_nothing_is_a_stall(self) -> None:
        child = ChildInput(["sleep", "600"], name=NAME, stall_timeout=0.3)
        with pytest.raises(RestoreFailed, match=r"took nothing for 0\.3 seconds"):
            child.write(bytes(9 << 20))
        assert not is_there(child._child.pid)
        with pytest.raises(RestoreFailed, match="stopped before its end"):
            child.finish()

    def test_a_child_that_does_not_exit_after_its_input_is_a_stall(self) -> None:
        child = ChildInput(["sh", "-c", "cat >/dev/null; exec sleep 600"], name=NAME, stall_timeout=0.3)
        child.write(b"data")
        with pytest.raises(RestoreFailed, match=r"did not exit within 0\.3 seconds"):
            child.finish()
        assert not is_there(child._child.pid)

    def test_an_aborted_child_does_not_see_the_end_of_its_input(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.1)
        code = (
            "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "open(sys.argv[1], 'w').close()\nsys.stdin.read()\nopen(sys.argv[2], 'w').close()"
        )
        started, committed = tmp_path / "started", tmp_path / "committed"
        child = ChildInput([*python(code), str(started), str(committed)], name=NAME)
        child.write(b"half")
        wait_until(started.exists)
        child.abort()
        assert not is_there(child._child.pid)
        assert not committed.exists()

    def test_leaving_by_an_exception_aborts(self) -> None:
        with pytest.raises(ZeroDivisionError), ChildInput(["cat"], name=NAME) as child:
            raise ZeroDivisionError
        assert not is_there(child._child.pid)
        with pytest.raises(RestoreFailed, match="stopped before its end"):
            child.write(b"more")
        with pytest.raises(RestoreFailed, match="stopped before its end"):
            child.finish()

    def test_a_forgotten_child_is_killed_and_warned_about(self) -> None:
        child = ChildInput(["cat"], name=NAME)
        pid = child._child.pid
        with pytest.warns(ResourceWarning, match="neither closed nor aborted"):
            del child
        assert not is_there(pid)


class TestSmallCommands:
    def test_the_answer_is_what_it_wrote(self) -> None:
        assert run_child(["echo", "dump 17.2"], name=NAME, timeout=60) == b"dump 17.2\n"

    def test_the_input_reaches_it(self) -> None:
        data = bytes(range(256)) * 4096
        assert run_child(["cat"], name=NAME, timeout=60, input=data) == data
        assert run_child(["cat"], name=NAME, timeout=60, input=b"") == b""

    def test_it_need_not_read_its_input(self) -> None:
        assert run_child(["echo", "hello"], name=NAME, timeout=60, input=bytes(9 << 20)) == b"hello\n"

    def test_a_failure_has_the_kind_that_the_caller_wants(self) -> None:
        with pytest.raises(SourceDenied, match="dump of shop exited with 2") as caught:
            run_child(["sh", "-c", "echo denied >&2; exit 2"], name=NAME, timeout=60, error=SourceDenied)
        assert caught.value.details == ("denied",)

    def test_one_that_takes_too_long_is_killed(self) -> None:
        with pytest.raises(SourceError, match=r"did not end within 0\.3 seconds"):
            run_child(["sleep", "600"], name=NAME, timeout=0.3)
        with pytest.raises(SourceError, match=r"did not end within 0\.3 seconds"):
            run_child(["sleep", "600"], name=NAME, timeout=0.3, input=bytes(9 << 20))

    def test_an_answer_beyond_the_limit_is_no_answer(self) -> None:
        command = ["head", "-c", str((1 << 20) + 1), "/dev/zero"]
        with pytest.raises(SourceError, match="wrote 1048577 bytes, more than"):
            run_child(command, name=NAME, timeout=60)


class TestEnvironment:
    def test_only_what_programs_need_is_inherited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PENSTOCK_PASSPHRASE", "PGPASSWORD", "PGHOST", "LANG", "LC_MESSAGES", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("HOME", "/home/me")
        monkeypatch.setenv("PGSERVICEFILE", "/etc/service")
        monkeypatch.delenv("TMPDIR", raising=False)
        env = env_for_child({"PGPASSWORD": Secret("hunter2"), "PGUSER": "me"}, inherit=["PGSERVICEFILE", "PGOPTIONS"])
        assert env.pop("PATH") == os.environ["PATH"]
        assert env.pop("HOME") == "/home/me"
        expected = {"LC_ALL": "C", "PGPASSWORD": "hunter2", "PGUSER": "me", "PGSERVICEFILE": "/etc/service"}
        assert expected.items() <= env.items()
        assert not {"PENSTOCK_PASSPHRASE", "PGHOST", "LANG", "LC_MESSAGES", "AWS_SECRET_ACCESS_KEY", "TMPDIR"} & set(
            env
        )

    def test_it_is_the_default_of_every_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PENSTOCK_PASSPHRASE", "hunter2")
        check = ["sh", "-c", 'cat; test -z "$PENSTOCK_PASSPHRASE"']
        run_child(check, name=NAME, timeout=60)
        with ChildInput(check, name=NAME) as child:
            child.write(b"x")
        stream = ChildOutput(check, name=NAME)
        read_all(stream)
        stream.close()

    def test_a_given_environment_is_the_whole_one(self) -> None:
        assert run_child(["/usr/bin/env"], name=NAME, timeout=60, env={"A": "b"}) == b"A=b\n"


class TestPrivateFile:
    @pytest.mark.parametrize("content", [Secret("pässword"), "pässword".encode()])
    def test_only_this_user_can_read_it_and_only_within_the_block(self, content: Secret | bytes) -> None:
        before = os.umask(0)
        try:
            with private_file(content, name="pgpass") as path:
                assert path.name == "pgpass"
                assert path.read_text("utf-8") == "pässword"
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        finally:
            os.umask(before)
        assert not path.parent.exists()

    def test_it_is_removed_when_an_exception_leaves_the_block(self) -> None:
        with pytest.raises(ZeroDivisionError), private_file(b"x") as path:
            raise ZeroDivisionError
        assert not path.parent.exists()

    def test_it_is_removed_when_it_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with pytest.raises(FileNotFoundError), private_file(b"x", name="no/folder"):
            pass
        assert not list(tmp_path.iterdir())


def _success() -> None:
    stream = ChildOutput(["true"], name=NAME)
    read_all(stream)
    stream.close()


def _failure() -> None:
    stream = ChildOutput(["false"], name=NAME)
    read_all(stream)
    with pytest.raises(DumpFailed):
        stream.close()


def _early_close() -> None:
    with pytest.raises(DumpFailed):
        ChildOutput(["yes"], name=NAME).close()


def _abort() -> None:
    ChildOutput(["yes"], name=NAME).abort()


def _stall() -> None:
    with pytest.raises(DumpStalled):
        read_all(ChildOutput(["sleep", "600"], name=NAME, stall_timeout=0.01))


def _missing() -> None:
    with pytest.raises(ClientMissing):
        ChildOutput(["no-such-dump"], name=NAME)


def _forgotten() -> None:
    with pytest.warns(ResourceWarning):
        ChildInput(["cat"], name=NAME)


def _restored() -> None:
    with ChildInput(["cat"], name=NAME) as child:
        child.write(b"x")


def _not_restored() -> None:
    with pytest.raises(RestoreFailed):
        ChildInput(["true"], name=NAME).write(bytes(9 << 20))


def _restore_aborted() -> None:
    ChildInput(["cat"], name=NAME).abort()


def _asked() -> None:
    assert run_child(["cat"], name=NAME, timeout=60, input=b"x") == b"x"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize(
    "path",
    [
        _success,
        _failure,
        _early_close,
        _abort,
        _stall,
        _missing,
        _forgotten,
        _restored,
        _not_restored,
        _restore_aborted,
        _asked,
    ],
)
def test_no_path_leaks_descriptors_threads_or_processes(path: Callable[[], None]) -> None:
    path()
    before = _descriptors(), threading.active_count(), _children()
    for _ in range(50):
        path()
    assert (_descriptors(), threading.active_count(), _children()) == before


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _children() -> set[str]:
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}
