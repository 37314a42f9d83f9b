"""No way to end leaks a descriptor, a thread or a process."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.api.process.children import NAME, children, descriptors, read_all

from penstock.api import ChildInput, ChildOutput, ClientMissing, DumpFailed, DumpStalled, RestoreFailed, run_child


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


@pytest.mark.slow
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
    threads = set(threading.enumerate())
    before = descriptors(), children()
    for _ in range(50):
        path()
    assert set(threading.enumerate()) <= threads
    assert (descriptors(), children()) == before
