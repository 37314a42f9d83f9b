"""What all tests of children share."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from penstock.api.process import child as child_module


@pytest.fixture
def strays() -> Iterator[list[int]]:
    """Processes that a test lets flee, to be killed at its end."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LEFT_BEHIND_SECONDS", 0.3)
