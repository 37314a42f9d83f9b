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
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is not waited for; what comes may take its time on a busy machine."""
    monkeypatch.setattr(child_module, "LEFT_BEHIND_SECONDS", 0.3)
    monkeypatch.setattr(child_module, "DRAIN_SECONDS", 30.0)
