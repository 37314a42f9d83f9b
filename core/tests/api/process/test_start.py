"""How children start, and what is said when they cannot."""

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.api.process.children import (
    NAME,
    children,
    descriptors,
    is_there,
    python,
    read_all,
    wait_until,
)

from penstock.api import ChildInput, ChildOutput, ClientMissing, DumpFailed, run_child


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ClientMissing) as caught:
        ChildOutput(["no-such-dump", "--all"], name=NAME)
    expected = "dump of shop: cannot run no-such-dump: it is not installed, or not in PATH"
    assert caught.value.message == expected
    assert caught.value.hint


def test_a_file_that_is_not_executable_is_named_with_the_reason(tmp_path: Path) -> None:
    program = tmp_path / "dump"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(ClientMissing, match=r"dump: Permission denied"):
        ChildInput([str(program)], name=NAME)


def test_a_script_without_its_interpreter_is_named_with_the_reason(tmp_path: Path) -> None:
    program = tmp_path / "dump"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(ClientMissing, match="interpreter that its first line names is missing"):
        run_child([str(program)], name=NAME, timeout=60)


def test_a_file_that_is_no_program_is_named_with_the_reason(tmp_path: Path) -> None:
    program = tmp_path / "dump"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(ClientMissing, match="Exec format error"):
        run_child([str(program)], name=NAME, timeout=60)


def test_a_system_without_room_is_not_a_missing_program() -> None:
    with pytest.raises(DumpFailed, match="could not be started: Argument list too long"):
        ChildOutput(["true", "x" * (1 << 22)], name=NAME)


@pytest.mark.slow
def test_a_thread_that_cannot_start_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    popen = subprocess.Popen

    def spy(*args: object, **options: object) -> object:
        process = popen(*args, **options)  # type: ignore[call-overload]
        started.append(process.pid)
        return process

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = descriptors()
    monkeypatch.setattr(subprocess, "Popen", spy)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        ChildOutput(["yes"], name=NAME)
    assert len(started) == 1
    assert not is_there(started[0])
    assert descriptors() == before


@pytest.mark.parametrize("argv", ["true", []])
def test_a_command_line_instead_of_a_list_is_refused(argv: list[str]) -> None:
    with pytest.raises(TypeError, match="argv is a list"):
        ChildOutput(argv, name=NAME)


def test_the_child_reads_nothing_and_has_no_terminal() -> None:
    code = (
        "import os, sys\nassert sys.stdin.read() == ''\nassert os.getsid(0) == os.getpgid(0) == os.getpid()\n"
        "try: os.open('/dev/tty', os.O_RDWR)\nexcept OSError: pass\nelse: raise SystemExit('a terminal')"
    )
    assert run_child(python(code), name=NAME, timeout=60) == b""


def test_an_inherited_pipe_reaches_the_child_and_no_other_descriptor_does() -> None:
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


def interrupted_before(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    raise KeyboardInterrupt


def interrupted_behind(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    start(thread)
    raise KeyboardInterrupt


def interrupted_long_before(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    """It was asked for, and the system starts it when everything is over."""
    threading.Timer(0.2, start, (thread,)).start()
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("interrupted", [interrupted_before, interrupted_behind, interrupted_long_before])
@pytest.mark.parametrize("which", ["stderr", "kept output"])
def test_an_interrupt_while_a_drain_is_started_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, which: str, interrupted: Callable[..., None]
) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if not thread.name.startswith("drain of"):
            start(thread)
            return
        begun.append(thread)
        if len(begun) == (1 if which == "stderr" else 2):
            interrupted(start, thread)
        start(thread)

    run_child(["true"], name=NAME, timeout=60)  # the guardian is there from now on
    before = descriptors(), children()
    monkeypatch.setattr(threading.Thread, "start", started)
    with pytest.raises(KeyboardInterrupt):
        run_child(["sh", "-c", "echo out; echo err >&2; exec sleep 600"], name=NAME, timeout=60)
    if interrupted is interrupted_long_before:
        wait_until(lambda: begun[-1].ident is not None)
    wait_until(lambda: not any(thread.is_alive() for thread in begun))
    assert (descriptors(), children()) == before
