"""Processes that a child leaves behind, in its group or away from it."""

import threading

import pytest
from core.tests.api.process.children import FLED, FORK, IN_GROUP, NAME, is_alive, python, read_all, wait_until

from penstock.api import ChildInput, ChildOutput, DumpFailed, RestoreFailed, run_child
from penstock.api.process import child as child_module

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short(limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here somebody holds stderr for ever."""
    monkeypatch.setattr(child_module, "DRAIN_SECONDS", 1.0)


def test_grandchildren_die_with_the_group() -> None:
    stream = ChildOutput(["sh", "-c", "sleep 600 & echo $!; wait"], name=NAME)
    buffer = bytearray(99)
    grandchild = int(buffer[: stream.readinto(memoryview(buffer))])
    assert is_alive(grandchild)
    stream.abort()
    wait_until(lambda: not is_alive(grandchild))


def test_what_a_successful_child_leaves_in_its_group_dies_too() -> None:
    stream = ChildOutput(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], name=NAME)
    grandchild = int(read_all(stream))
    assert is_alive(grandchild)
    stream.close()
    wait_until(lambda: not is_alive(grandchild))


@pytest.mark.parametrize("role", [IN_GROUP, FLED])
@pytest.mark.parametrize("stall_timeout", [None, 600.0])
def test_a_process_left_behind_with_the_output_cannot_hang_the_reader(
    role: str, stall_timeout: float | None, strays: list[int]
) -> None:
    stream = ChildOutput(python(role + "print(pid)"), name=NAME, stall_timeout=stall_timeout)
    buffer = bytearray(99)
    strays.append(int(buffer[: stream.readinto(memoryview(buffer))]))
    with pytest.raises(DumpFailed, match="a process that it left behind keeps its pipe open"):
        read_all(stream)
    if role is IN_GROUP:
        wait_until(lambda: not is_alive(strays[0]))


def test_the_exit_status_is_told_before_what_was_left_behind(strays: list[int]) -> None:
    stream = ChildOutput(python(FLED + "print(pid)\nsys.exit(3)"), name=NAME)
    buffer = bytearray(99)
    strays.append(int(buffer[: stream.readinto(memoryview(buffer))]))
    with pytest.raises(DumpFailed, match="exited with 3"):
        read_all(stream)


def test_a_daemon_that_holds_stderr_does_not_spoil_a_success(strays: list[int]) -> None:
    before = set(threading.enumerate())
    code = FORK.format(role="os.setsid(); os.close(1)") + "print(pid)"
    stream = ChildOutput(python(code), name=NAME)
    strays.append(int(read_all(stream)))
    stream.close()
    assert is_alive(strays[0])
    assert not [thread for thread in set(threading.enumerate()) - before if "drain" in thread.name]


def test_a_daemon_that_holds_the_input_does_not_hang_the_writer(strays: list[int]) -> None:
    child = ChildInput(python(FLED + "sys.exit(str(pid))"), name=NAME)
    with pytest.raises(RestoreFailed, match="exited with 1") as caught:
        child.write(bytes(4 << 20))
    strays.append(int(caught.value.details[0]))


def test_a_daemon_that_holds_the_input_does_not_hang_the_end(strays: list[int]) -> None:
    code = FLED + "sys.stdin.buffer.read(1)\nsys.exit(str(pid))"
    child = ChildInput(python(code), name=NAME)
    child.write(b"1")
    with pytest.raises(RestoreFailed, match="exited with 1") as caught:
        child.finish()
    strays.append(int(caught.value.details[0]))


def test_a_daemon_that_holds_everything_does_not_hang_a_small_command(strays: list[int]) -> None:
    answer = run_child(python(FLED + "print(pid)"), name=NAME, timeout=60, input=bytes(4 << 20))
    strays.append(int(answer))
