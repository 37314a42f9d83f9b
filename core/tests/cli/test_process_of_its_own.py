"""What the command does to its own process, and leaves to others elsewhere."""

import os
import subprocess
import sys

import pytest

from penstock.cli.own_process import lighten

STEADY = """
import gc, sys
from penstock.cli.own_process import steady
steady()
frozen = gc.get_freeze_count()
left = [[] for _ in range(1000)]  # by a first run, for the collector
steady()
print(frozen > 0, gc.get_freeze_count() == frozen, sys.getswitchinterval())
"""


@pytest.mark.parametrize(("before", "after"), [(None, "__all__"), ("", "")])
def test_plugins_of_pydantic_are_off_unless_somebody_said_otherwise(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", before or "")  # so that it is put back at the end
    if before is None:
        monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS")
    lighten()
    assert os.environ["PYDANTIC_DISABLE_PLUGINS"] == after


def test_what_is_loaded_is_frozen_once() -> None:
    done = subprocess.run([sys.executable, "-c", STEADY], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["True", "True", "0.02"]
