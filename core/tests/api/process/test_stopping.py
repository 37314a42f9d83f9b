"""A token that stops ends every wait for a child with `Interrupted`, and the child with it."""

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from core.tests.api.process.children import FLED, FOR_EVER, NAME, STUBBORN, is_there, python, read_all, wait_until

from penstock.api import ChildInput, ChildOutput, ChildSession, Interrupted, StopToken, run_child
from penstock.api.process import child as child_module
from penstock.api.process.guardian import GUARDIAN

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


@pytest.fixture
def stop() -> StopToken:
    return StopToken()


@contextmanager
def stopped_soon(stop: StopToken) -> Iterator[None]:
    """Stop while the block waits, from another thread."""
    timer = threading.Timer(0.3, stop.stop)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def _read(stop: StopToken) -> None:
    read_all(ChildOutput(["sleep", "600"], name=NAME, stop=stop))


def _close(stop: StopToken) -> None:
    stream = ChildOutput(["sh", "-c", "exec >&-; exec sleep 600"], name=NAME, stop=stop)
    assert read_all(stream) == b""
    stream.close()


def _write(stop: StopToken) -> None:
    ChildInput(["sleep", "600"], name=NAME, stop=stop).write(bytes(9 << 20))


def _finish(stop: StopToken) -> None:
    ChildInput(["sleep", "600"], name=NAME, stop=stop).finish()


def _write_to_a_closed_input(stop: StopToken) -> None:
    child = ChildInput(["sh", "-c", "trap '' TERM; exec <&-; sleep 600"], name=NAME, stop=stop)
    child.write(bytes(9 << 20))


def _command(stop: StopToken) -> None:
    run_child(["sleep", "600"], name=NAME, timeout=600, stop=stop)


def _command_with_input(stop: StopToken) -> None:
    run_child(["sleep", "600"], name=NAME, timeout=600, input=bytes(9 << 20), stop=stop)


def _answer(stop: StopToken) -> None:
    with ChildSession(["sleep", "600"], name=NAME, answers=True, stop=stop) as session:
        session.read_line()


def _last_command(stop: StopToken) -> None:
    with ChildSession(["sleep", "600"], name=NAME, commands=True, stop=stop):
        pass


def _block(stop: StopToken) -> None:
    with ChildSession(["sleep", "600"], name=NAME, stop=stop):
        wait_until(lambda: stop.stopped)


WAITS = [
    _read,
    _close,
    _write,
    _finish,
    _write_to_a_closed_input,
    _command,
    _command_with_input,
    _answer,
    _last_command,
    _block,
]


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_ends_and_the_child_is_reaped(
    wait: Callable[[StopToken], None], stop: StopToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.2)
    gc.collect()
    before = set(GUARDIAN._groups)
    with stopped_soon(stop), pytest.raises(Interrupted):
        wait(stop)
    gc.collect()
    assert before == GUARDIAN._groups
    assert not stop._callbacks


@pytest.mark.parametrize("wait", WAITS)
def test_nothing_starts_after_a_stop(wait: Callable[[StopToken], None], stop: StopToken) -> None:
    stop.stop()
    before = set(GUARDIAN._groups)
    with pytest.raises(Interrupted):
        wait(stop)
    assert before == GUARDIAN._groups


def test_it_may_come_from_a_signal_handler_in_the_thread_that_waits(stop: StopToken) -> None:
    stream = ChildOutput(["sleep", "600"], name=NAME, stop=stop)
    before = signal.signal(signal.SIGALRM, lambda *_: stop.stop())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted, match="dump of shop was interrupted"):
            read_all(stream)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not is_there(stream._child.pid)
    with pytest.raises(Interrupted):
        stream.close()


def test_a_child_that_nobody_waits_for_is_asked_to_end_at_once(stop: StopToken) -> None:
    streams = [ChildOutput(["sleep", "600"], name=NAME, stop=stop) for _ in range(3)]
    stop.stop()
    for stream in streams:
        assert stream._child.wait(60)
        assert stream._child.outcome() == "was killed by SIGTERM"
        with pytest.raises(Interrupted):
            read_all(stream)


def test_the_grace_of_every_child_begins_with_the_stop(stop: StopToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 600.0)
    stream = ChildOutput(python(STUBBORN), name=NAME, stop=stop)
    assert stream.readinto(memoryview(bytearray(99))) == 6
    stop.stop()
    assert stream._child._group.terminated_at is not None
    stream._child._group.terminated_at -= 600  # as if it had been ten minutes ago
    stream.abort()
    assert stream._child.outcome() == "was killed by SIGKILL"


def test_a_stop_takes_less_than_five_seconds_whatever_children_do(stop: StopToken, strays: list[int]) -> None:
    flees = FLED + STUBBORN.replace("'ready'", "pid")
    streams = [ChildOutput(python(flees), name=NAME, stop=stop) for _ in range(2)]
    for stream in streams:
        buffer = bytearray(99)
        strays.append(int(buffer[: stream.readinto(memoryview(buffer))]))
    # Nothing waits for longer by itself; how long this machine takes for the rest is its own affair.
    assert child_module.GRACE_SECONDS < child_module.STOP_SECONDS
    assert child_module.STOP_SECONDS + len(streams) * child_module.LAST_SECONDS < 5
    stop.stop()
    begin = time.monotonic()
    for stream in streams:
        stream.abort()
        assert not is_there(stream._child.pid)
    assert time.monotonic() - begin < 30


def test_the_end_of_what_a_stopped_child_wrote_is_not_the_end_of_the_stream(stop: StopToken) -> None:
    program = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"print('half', flush=True)\n{FOR_EVER}"
    )
    stream = ChildOutput(python(program), name=NAME, stop=stop)
    buffer = memoryview(bytearray(99))
    assert stream.readinto(buffer) == 5
    stop.stop()
    assert stream._child.wait(60)
    assert stream._child.outcome() is None
    with pytest.raises(Interrupted):
        stream.readinto(buffer)


def test_a_stopped_child_does_not_take_the_end_of_its_input_for_the_end_of_the_stream(
    stop: StopToken, tmp_path: Path
) -> None:
    program = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1], 'w').close()\nsys.stdin.read()\nopen(sys.argv[2], 'w').close()"
    )
    started, committed = tmp_path / "started", tmp_path / "committed"
    child = ChildInput([*python(program), str(started), str(committed)], name=NAME, stop=stop)
    child.write(b"half")
    wait_until(started.exists)
    stop.stop()
    with pytest.raises(Interrupted):
        child.finish()
    assert not is_there(child._child.pid)
    assert not committed.exists()


def test_a_forgotten_child_is_collected_although_the_token_lives(stop: StopToken) -> None:
    stream = ChildOutput(["sleep", "600"], name=NAME, stop=stop)
    pid = stream._child.pid
    with pytest.warns(ResourceWarning, match="neither closed nor aborted"):
        del stream
    assert not is_there(pid)
    assert not stop._callbacks


def test_a_child_that_ended_well_is_left_alone_by_a_later_stop(stop: StopToken) -> None:
    stream = ChildOutput(["echo", "hello"], name=NAME, stop=stop)
    assert read_all(stream) == b"hello\n"
    stream.close()
    assert not stop._callbacks
    stop.stop()
    stream.close()
