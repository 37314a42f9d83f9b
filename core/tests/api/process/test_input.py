"""A child that reads: it is fed to the end, or killed before it could take a break for the end."""

from pathlib import Path

import pytest
from core.tests.api.process.children import NAME, is_there, python, wait_until

from penstock.api import ChildInput, RestoreFailed


def test_everything_arrives_in_order(tmp_path: Path) -> None:
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


def test_a_failure_at_the_end_is_a_failure() -> None:
    child = ChildInput(["sh", "-c", "cat >/dev/null; echo 'constraint violated' >&2; exit 3"], name=NAME)
    child.write(b"data")
    with pytest.raises(RestoreFailed, match="dump of shop exited with 3") as caught:
        child.finish()
    assert caught.value.details == ("constraint violated",)
    assert not is_there(child._child.pid)


def test_a_broken_pipe_is_told_in_the_childs_own_words() -> None:
    child = ChildInput(["sh", "-c", "exec <&-; sleep 0.2; echo 'syntax error' >&2; exit 3"], name=NAME)
    with pytest.raises(RestoreFailed, match="exited with 3") as caught:
        child.write(bytes(9 << 20))
    assert caught.value.details == ("syntax error",)
    assert not is_there(child._child.pid)


def test_a_child_that_exits_with_0_before_it_read_everything_has_failed() -> None:
    with (
        pytest.raises(RestoreFailed, match="exited with 0 before it had read everything"),
        ChildInput(["head", "-c", "10"], name=NAME) as child,
    ):
        child.write(bytes(9 << 20))


def test_a_child_that_stops_reading_and_stays_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.process.input.BROKEN_PIPE_SECONDS", 0.2)
    child = ChildInput(["sh", "-c", "exec <&-; exec sleep 600"], name=NAME)
    with pytest.raises(RestoreFailed, match="stopped reading"):
        child.write(bytes(9 << 20))
    assert not is_there(child._child.pid)


def test_a_child_that_takes_nothing_is_a_stall() -> None:
    child = ChildInput(["sleep", "600"], name=NAME, stall_timeout=0.3)
    with pytest.raises(RestoreFailed, match=r"took nothing for 0\.3 seconds"):
        child.write(bytes(9 << 20))
    assert not is_there(child._child.pid)
    with pytest.raises(RestoreFailed, match="stopped before its end"):
        child.finish()


def test_a_child_that_does_not_exit_after_its_input_is_a_stall() -> None:
    child = ChildInput(["sh", "-c", "cat >/dev/null; exec sleep 600"], name=NAME, stall_timeout=0.3)
    child.write(b"data")
    with pytest.raises(RestoreFailed, match=r"did not exit within 0\.3 seconds"):
        child.finish()
    assert not is_there(child._child.pid)


@pytest.mark.slow
def test_an_aborted_child_does_not_see_the_end_of_its_input(tmp_path: Path) -> None:
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


def test_leaving_by_an_exception_aborts() -> None:
    with pytest.raises(ZeroDivisionError), ChildInput(["cat"], name=NAME) as child:
        raise ZeroDivisionError
    assert not is_there(child._child.pid)
    with pytest.raises(RestoreFailed, match="stopped before its end"):
        child.write(b"more")
    with pytest.raises(RestoreFailed, match="stopped before its end"):
        child.finish()


def test_a_forgotten_child_is_killed_and_warned_about() -> None:
    child = ChildInput(["cat"], name=NAME)
    pid = child._child.pid
    with pytest.warns(ResourceWarning, match="neither closed nor aborted"):
        del child
    assert not is_there(pid)
