"""A child that writes: every way to end is judged rightly, leaves no process, and never hangs."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from core.tests.api.process.children import FOR_EVER, NAME, is_alive, is_there, python, read_all, wait_until

from penstock.api import ChildOutput, DumpFailed, DumpStalled, PenstockError
from penstock.api.process import child as child_module


def test_a_child_that_exits_with_0_is_a_success() -> None:
    stream = ChildOutput(["sh", "-c", "printf hello; printf world"], name=NAME)
    assert read_all(stream) == b"helloworld"
    stream.close()
    stream.close()
    assert not is_there(stream._child.pid)


def test_bytes_come_through_unchanged_and_whole() -> None:
    code = "import sys\nfor i in range(200): sys.stdout.buffer.write(bytes([i]) * 99991)"
    stream = ChildOutput(python(code), name=NAME)
    assert read_all(stream, 1 << 20) == b"".join(bytes([i]) * 99991 for i in range(200))
    stream.close()


def test_the_end_is_told_again() -> None:
    stream = ChildOutput(["true"], name=NAME)
    assert [stream.readinto(memoryview(bytearray(9))) for _ in range(3)] == [0, 0, 0]
    stream.close()


def test_reading_into_nothing_is_not_the_end() -> None:
    stream = ChildOutput(["true"], name=NAME)
    assert stream.readinto(memoryview(b"")) == 0
    with pytest.raises(DumpFailed, match="closed before its end"):
        stream.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a pipe grow")
def test_the_pipe_is_enlarged() -> None:
    import fcntl

    stream = ChildOutput(["sleep", "60"], name=NAME)
    pipe = stream._child._output
    assert pipe is not None
    assert fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ) == 1024 * 1024
    stream.abort()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a pipe grow")
def test_a_pipe_that_may_not_grow_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "PIPE_BYTES", 1 << 40)
    stream = ChildOutput(["echo", "hello"], name=NAME)
    assert read_all(stream) == b"hello\n"
    stream.close()


def test_a_failure_after_all_output_is_a_failure() -> None:
    stream = ChildOutput(["sh", "-c", "printf data; echo 'lost connection' >&2; exit 1"], name=NAME)
    assert read_all(stream) == b"data"
    with pytest.raises(DumpFailed) as caught:
        stream.close()
    assert caught.value.message == "dump of shop exited with 1"
    assert caught.value.details == ("lost connection",)
    assert caught.value.hint is None
    assert type(caught.value) is DumpFailed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_signal_half_way_is_a_failure(number: signal.Signals) -> None:
    stream = ChildOutput(["sh", "-c", f"printf half; kill -{number.value} $$; printf more"], name=NAME)
    assert read_all(stream) == b"half"
    with pytest.raises(DumpFailed, match=f"was killed by {number.name}$") as caught:
        stream.close()
    assert (caught.value.hint is not None) == (number == signal.SIGKILL)


def test_a_signal_without_a_name_is_a_failure_too() -> None:
    number = signal.SIGRTMIN + 5
    stream = ChildOutput(["sh", "-c", f"kill -{number} $$"], name=NAME)
    read_all(stream)
    with pytest.raises(DumpFailed, match=f"was killed by signal {number}$"):
        stream.close()


def test_a_lost_exit_status_is_a_failure() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        stream = ChildOutput(["false"], name=NAME)
        read_all(stream)
        with pytest.raises(DumpFailed, match="exit status was lost"):
            stream.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_silence_is_a_stall() -> None:
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


def test_a_child_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.1)
    stream = ChildOutput(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], name=NAME)
    assert stream.readinto(memoryview(bytearray(99))) == 6
    stream.abort()
    assert stream._child.outcome() == "was killed by SIGKILL"
    assert not is_there(stream._child.pid)


def test_a_child_may_use_its_grace_to_say_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 60.0)
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('query cancelled'))\n"
        f"print('ready', flush=True)\n{FOR_EVER}"
    )
    stream = ChildOutput(python(code), name=NAME)
    assert stream.readinto(memoryview(bytearray(99))) == 6
    with pytest.raises(DumpFailed) as caught:
        stream.close()
    assert caught.value.details == ("query cancelled",)


def test_a_stopped_child_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.1)
    stream = ChildOutput(["sh", "-c", "kill -STOP $$"], name=NAME, stall_timeout=0.3)
    with pytest.raises(DumpStalled):
        read_all(stream)
    assert not is_there(stream._child.pid)


def test_time_in_which_nobody_reads_does_not_count_as_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ChildOutput(["head", "-c", str(3 << 20), "/dev/zero"], name=NAME, stall_timeout=60)
    buffer = memoryview(bytearray(4096))
    assert stream.readinto(buffer) == 4096
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600, sleep=time.sleep)
    monkeypatch.setattr(child_module, "time", later)
    assert len(read_all(stream)) == (3 << 20) - 4096
    stream.close()


def test_a_child_that_ends_its_output_but_never_exits_is_a_stall() -> None:
    stream = ChildOutput(["sh", "-c", "exec >&-; exec sleep 600"], name=NAME, stall_timeout=60)
    assert read_all(stream) == b""
    stream._stall_timeout = 0.3
    with pytest.raises(DumpStalled, match=r"wrote all its output but did not exit within 0\.3 seconds"):
        stream.close()
    assert not is_there(stream._child.pid)


def test_closing_before_the_end_kills_and_fails() -> None:
    stream = ChildOutput(["yes"], name=NAME)
    assert stream.readinto(memoryview(bytearray(10))) == 10
    with pytest.raises(DumpFailed, match="closed before its end"):
        stream.close()
    assert not is_there(stream._child.pid)
    stream.close()
    with pytest.raises(DumpFailed, match="was closed"):
        stream.readinto(memoryview(bytearray(10)))


def test_closing_after_all_bytes_but_before_the_end_was_seen_fails() -> None:
    stream = ChildOutput(["printf", "1234"], name=NAME)
    assert stream.readinto(memoryview(bytearray(4))) == 4
    with pytest.raises(DumpFailed, match="closed before its end"):
        stream.close()


def test_abort_kills_and_reaps_and_closing_then_fails() -> None:
    stream = ChildOutput(["yes"], name=NAME)
    stream.abort()
    stream.abort()
    assert not is_there(stream._child.pid)
    with pytest.raises(DumpFailed, match="stopped before its end"):
        stream.readinto(memoryview(bytearray(10)))
    with pytest.raises(DumpFailed, match="stopped before its end"):
        stream.close()


def test_abort_after_the_end_was_seen_is_no_success() -> None:
    stream = ChildOutput(["true"], name=NAME)
    read_all(stream)
    stream.abort()
    with pytest.raises(DumpFailed):
        stream.close()


def test_abort_after_close_does_nothing() -> None:
    stream = ChildOutput(["true"], name=NAME)
    read_all(stream)
    stream.close()
    stream.abort()
    stream.close()


def test_abort_from_another_thread_ends_a_waiting_read() -> None:
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


def test_an_interruption_while_waiting_for_the_exit_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ChildOutput(["sh", "-c", "exec >&-; exec sleep 600"], name=NAME)
    read_all(stream)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    wait = stream._child.wait_for_end

    def interrupted(timeout: float | None) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0.1)  # the wait itself, and not before it
        return wait(timeout)

    monkeypatch.setattr(stream._child, "wait_for_end", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            stream.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not is_there(stream._child.pid)


def test_abort_in_a_signal_handler_ends_the_read_that_it_interrupts() -> None:
    stream = ChildOutput(["sleep", "600"], name=NAME)
    before = signal.signal(signal.SIGALRM, lambda *_: stream.abort())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(DumpFailed, match="stopped before its end"):
            read_all(stream)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not is_there(stream._child.pid)


def test_a_forgotten_child_is_killed_and_warned_about() -> None:
    stream = ChildOutput(["yes"], name=NAME)
    pid = stream._child.pid
    with pytest.warns(ResourceWarning, match="dump of shop was neither closed nor aborted"):
        del stream
    assert not is_there(pid)


@pytest.mark.slow
def test_a_child_that_is_forgotten_until_the_interpreter_ends_is_killed(tmp_path: Path) -> None:
    code = (
        "from penstock.api import ChildOutput\n"
        "stream = ChildOutput(['sleep', '600'], name='x')\nprint(stream._child.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert not is_alive(int(done.stdout))


@pytest.mark.slow
def test_a_fork_of_the_owner_leaves_the_child_alone() -> None:
    code = (
        "import os, sys\nfrom penstock.api import ChildOutput\n"
        "stream = ChildOutput(['sleep', '600'], name='x')\n"
        "if not os.fork(): sys.exit()\n"
        "os.wait()\nassert not stream._child.wait(0.2)\nstream.abort()\nprint('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"fine\n"


@pytest.mark.slow
def test_a_child_writes_into_a_broken_pipe_when_its_reader_is_killed_outright() -> None:
    code = (
        "from penstock.api import ChildOutput\nimport os, signal\n"
        "stream = ChildOutput(['yes'], name='x')\nprint(stream._child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not is_alive(int(done.stdout)))


def test_it_shows_its_name_and_no_environment() -> None:
    stream = ChildOutput(["true"], name=NAME, env={"PATH": "/bin:/usr/bin", "PGPASSWORD": "hunter2"})
    assert repr(stream) == f"<ChildOutput 'dump of shop', process {stream._child.pid}>"
    read_all(stream)
    stream.close()


def test_it_counts_what_was_written() -> None:
    stream = ChildOutput(["head", "-c", "300000", "/dev/zero"], name=NAME)
    assert stream.written == 0
    assert stream.readinto(memoryview(bytearray(1000))) == 1000
    assert stream.written == 1000
    read_all(stream)
    stream.close()
    assert stream.written == 300_000


@pytest.mark.parametrize("size", [0, 299_999, 300_001])
def test_another_size_than_the_expected_one_is_a_failure_although_the_child_exits_with_0(size: int) -> None:
    stream = ChildOutput(["head", "-c", "300000", "/dev/zero"], name=NAME, size=size)
    read_all(stream)
    with pytest.raises(DumpFailed, match=f"exited with 0, but wrote 300000 bytes instead of {size}$"):
        stream.close()


@pytest.mark.parametrize("size", [0, 300_000])
def test_the_expected_size_is_a_success(size: int) -> None:
    stream = ChildOutput(["head", "-c", str(size), "/dev/zero"], name=NAME, size=size)
    read_all(stream)
    stream.close()


def test_the_expected_size_does_not_excuse_a_failure() -> None:
    stream = ChildOutput(["sh", "-c", "printf 1234; exit 1"], name=NAME, size=4)
    read_all(stream)
    with pytest.raises(DumpFailed, match="exited with 1"):
        stream.close()
