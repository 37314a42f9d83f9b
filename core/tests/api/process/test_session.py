"""A child that lives as long as a block: it is fed or not, watched for an early end, and ended with the block."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from core.tests.api.process.children import FLED, NAME, STUBBORN, is_there, python, read_all, wait_until

from penstock.api import (
    ChildOutput,
    ChildSession,
    ClientMissing,
    DumpFailed,
    RestoreFailed,
    Secret,
    SourceUnreachable,
    env_for_child,
)
from penstock.api.process import child as child_module

NAMED = "tunnel to shop"
# Answers each line with the same in capitals, until the end of its input.
SHOUTS = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
DIES = ["sh", "-c", "read line; echo 'connection reset' >&2; exit 3"]


def test_it_lives_as_long_as_the_block() -> None:
    with ChildSession(["sleep", "600"], name=NAMED) as session:
        pid = session._child.pid
        assert repr(session) == f"<ChildSession 'tunnel to shop', process {pid}>"
        session.check()
        assert not session.has_ended()
    assert not is_there(pid)


def test_it_is_killed_even_if_it_ignores_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "GRACE_SECONDS", 0.1)
    with ChildSession(python(STUBBORN), name=NAMED, answers=True) as session:
        assert session.read_line() == b"ready"
    assert session._child.outcome() == "was killed by SIGKILL"


def test_it_takes_commands_and_answers_them() -> None:
    with ChildSession(python(SHOUTS), name=NAMED, commands=True, answers=True) as session:
        session.tell(b"begin\n")
        assert session.read_line() == b"BEGIN"
        session.tell(b"one\ntwo\n")
        assert [session.read_line(), session.read_line()] == [b"ONE", b"TWO"]
    assert session._child.outcome() is None


def test_with_commands_it_ends_by_itself_when_they_end(tmp_path: Path) -> None:
    trace = tmp_path / "committed"
    with ChildSession(["sh", "-c", 'cat; touch "$1"', "sh", str(trace)], name=NAMED, commands=True) as session:
        session.tell(b"insert\n")
    assert trace.exists()


def test_with_commands_a_failure_at_its_end_is_a_failure() -> None:
    with (
        pytest.raises(RestoreFailed, match="tunnel to shop exited with 3") as caught,
        ChildSession(
            ["sh", "-c", "cat; echo 'commit failed' >&2; exit 3"], name=NAMED, commands=True, error=RestoreFailed
        ),
    ):
        pass
    assert caught.value.details == ("commit failed",)


def test_with_commands_one_that_does_not_end_is_a_failure() -> None:
    with (
        pytest.raises(DumpFailed, match=r"did not exit within 0\.3 seconds"),
        ChildSession(["sleep", "600"], name=NAMED, commands=True, stall_timeout=0.3) as session,
    ):
        pass
    assert not is_there(session._child.pid)


def _raise_in_the_end(session: ChildSession, error: BaseException) -> NoReturn:
    """Raise, when the child has ended."""
    wait_until(session.has_ended)
    raise error


def test_an_early_end_fails_the_block_with_its_last_words() -> None:
    with (
        pytest.raises(DumpFailed, match="tunnel to shop exited with 3 while it was still needed") as caught,
        ChildSession(["sh", "-c", "echo 'connection reset' >&2; exit 3"], name=NAMED) as session,
    ):
        wait_until(session.has_ended)
    assert caught.value.details == ("connection reset",)
    assert not is_there(session._child.pid)


def test_an_early_end_with_0_is_an_early_end_too() -> None:
    with (
        pytest.raises(DumpFailed, match="exited with 0 while it was still needed"),
        ChildSession(["true"], name=NAMED) as session,
    ):
        wait_until(session.has_ended)


def _expect_check_to_fail(session: ChildSession) -> None:
    wait_until(session.has_ended)
    session.check()
    pytest.fail("the check said nothing")


def test_the_check_says_it_before_the_end_of_the_block() -> None:
    with (
        pytest.raises(DumpFailed, match="exited with 0 while it was still needed") as caught,
        ChildSession(["true"], name=NAMED) as session,
    ):
        _expect_check_to_fail(session)
    assert caught.value.__cause__ is None


def test_an_early_end_is_told_in_place_of_its_consequence() -> None:
    consequence = SourceUnreachable("connection refused")
    with (
        pytest.raises(DumpFailed, match="tunnel to shop exited with 0") as caught,
        ChildSession(["true"], name=NAMED) as session,
    ):
        _raise_in_the_end(session, consequence)
    assert caught.value.__cause__ is consequence


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit])
def test_other_errors_leave_the_block_as_they_are(error: type[BaseException]) -> None:
    with pytest.raises(error), ChildSession(["true"], name=NAMED) as session:
        _raise_in_the_end(session, error())
    assert not is_there(session._child.pid)


def _answer_and_raise(session: ChildSession) -> NoReturn:
    assert session.read_line() == b"ready"
    raise SourceUnreachable("no answer")


@pytest.mark.slow
def test_an_error_in_the_block_kills_it_before_it_sees_the_end_of_its_input(tmp_path: Path) -> None:
    trace = tmp_path / "committed"
    code = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\n"
        "sys.stdin.read()\nopen(sys.argv[1], 'w').close()"
    )
    argv = [*python(code), str(trace)]
    with (
        pytest.raises(SourceUnreachable),
        ChildSession(argv, name=NAMED, commands=True, answers=True) as session,
    ):
        _answer_and_raise(session)
    assert not is_there(session._child.pid)
    assert not trace.exists()


def test_a_command_that_it_does_not_live_to_take_is_told_in_its_words() -> None:
    with (
        pytest.raises(DumpFailed, match="exited with 3") as caught,
        ChildSession(DIES, name=NAMED, commands=True) as session,
    ):
        session.tell(b"line\n" + bytes(9 << 20))
    assert caught.value.details == ("connection reset",)


def _ask(session: ChildSession) -> bytes:
    session.tell(b"line\n")
    return session.read_line()


def test_an_answer_that_it_does_not_live_to_give_is_told_in_its_words() -> None:
    with (
        pytest.raises(DumpFailed, match="exited with 3 while it was still needed") as caught,
        ChildSession(DIES, name=NAMED, commands=True, answers=True) as session,
    ):
        _ask(session)
    assert caught.value.details == ("connection reset",)
    assert caught.value.__cause__ is None


def test_an_error_that_is_not_passed_on_does_not_make_a_success() -> None:
    with (
        pytest.raises(DumpFailed, match="was stopped before its end"),
        ChildSession(["sleep", "600"], name=NAMED, answers=True, stall_timeout=0.2) as session,
        pytest.raises(DumpFailed, match=r"wrote nothing for 0\.2 seconds"),
    ):
        session.read_line()


def test_an_output_that_ends_before_the_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.process.session._EXIT_SECONDS", 0.2)
    with (
        pytest.raises(DumpFailed, match="closed its output before it had answered"),
        ChildSession(["sh", "-c", "exec >&-; exec sleep 600"], name=NAMED, answers=True) as session,
    ):
        session.read_line()


def test_an_answer_without_an_end_is_a_failure() -> None:
    with (
        pytest.raises(DumpFailed, match="wrote a line of more than 65536 bytes"),
        ChildSession(["head", "-c", "1000000", "/dev/zero"], name=NAMED, answers=True) as session,
    ):
        session.read_line()


def _read_two_lines(session: ChildSession, numbers: list[int]) -> None:
    numbers.extend(int(session.read_line()) for _ in range(2))


@pytest.mark.slow
def test_a_process_that_it_left_behind_cannot_hang_the_reader(
    strays: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It holds stderr for ever.
    monkeypatch.setattr(child_module, "DRAIN_SECONDS", 1.0)
    with (
        pytest.raises(DumpFailed, match="exited with 3 while it was still needed"),
        ChildSession(python(FLED + "print(pid)\nsys.exit(3)"), name=NAMED, answers=True) as session,
    ):
        _read_two_lines(session, strays)


def test_without_commands_and_answers_it_has_neither() -> None:
    code = "import sys, time\nassert sys.stdin.read() == ''\nprint('x' * 3_000_000)\ntime.sleep(600)"
    with ChildSession(python(code), name=NAMED) as session:
        with pytest.raises(ValueError, match="commands=True"):
            session.tell(b"x\n")
        with pytest.raises(ValueError, match="answers=True"):
            session.read_line()


def test_its_secrets_are_masked() -> None:
    secret = Secret("hunter2")
    argv = ["sh", "-c", 'echo "password $PASSWORD refused" >&2; exit 2']
    with (
        pytest.raises(DumpFailed) as caught,
        ChildSession(argv, name=NAMED, env=env_for_child({"PASSWORD": secret}), secrets=[secret]) as session,
    ):
        wait_until(session.has_ended)
    assert caught.value.details == ("password *** refused",)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ClientMissing, match="tunnel to shop: cannot run no-such-tunnel"):
        ChildSession(["no-such-tunnel"], name=NAMED)


def test_a_forgotten_one_is_killed_and_warned_about() -> None:
    session = ChildSession(["sleep", "600"], name=NAMED)
    pid = session._child.pid
    with pytest.warns(ResourceWarning, match="tunnel to shop was neither closed nor aborted"):
        del session
    assert not is_there(pid)


class TestCompanion:
    """Streams that depend on a session."""

    @staticmethod
    def _waits(session: ChildSession) -> None:
        stream = ChildOutput(["sleep", "600"], name=NAME, companion=session)
        timer = threading.Timer(0.2, session.tell, [b"die\n"])
        timer.start()
        try:
            read_all(stream)
        finally:
            timer.join()
            assert not is_there(stream._child.pid)

    @staticmethod
    def _waits_for_an_exit(session: ChildSession) -> None:
        stream = ChildOutput(["sh", "-c", "exec >&-; exec sleep 600"], name=NAME, companion=session)
        assert read_all(stream) == b""
        session.tell(b"die\n")
        try:
            stream.close()
        finally:
            assert not is_there(stream._child.pid)

    @staticmethod
    def _has_read_everything(session: ChildSession) -> None:
        stream = ChildOutput(["echo", "hello"], name=NAME, companion=session)
        assert read_all(stream) == b"hello\n"
        session.tell(b"die\n")
        wait_until(session.has_ended)
        stream.close()

    @pytest.mark.parametrize("stream", [_waits, _waits_for_an_exit, _has_read_everything])
    def test_a_stream_fails_when_its_companion_dies_before_its_end(
        self, stream: Callable[[ChildSession], None]
    ) -> None:
        with pytest.raises(DumpFailed) as caught, ChildSession(DIES, name=NAMED, commands=True) as session:
            stream(session)
        assert caught.value.message == "tunnel to shop exited with 3 while it was still needed"
        assert caught.value.details == ("connection reset",)

    def test_a_stream_whose_companion_lives_is_a_success(self) -> None:
        with ChildSession(["sleep", "600"], name=NAMED) as session:
            stream = ChildOutput(["echo", "hello"], name=NAME, companion=session)
            assert read_all(stream) == b"hello\n"
            stream.close()
