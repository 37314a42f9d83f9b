"""That long runs are where they belong, and as long as they are asked to be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import soak

ROOT = Path(__file__).parents[1]
LONG = "core/tests/engine/test_killed_backups.py"


def _run(*command: str) -> str:
    ours = ("PYTEST", "COVERAGE_", "PENSTOCK_", "MAKE")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=True
    ).stdout


@pytest.mark.parametrize("target", ["check", "test", "coverage"])
def test_no_other_target_runs_them(target: str) -> None:
    assert "not soak" in _run("make", "--dry-run", target)


def test_the_target_runs_them_and_what_has_examples() -> None:
    assert '-m "soak or hypothesis"' in _run("make", "--dry-run", "soak")


@pytest.mark.slow
def test_they_run_when_they_are_asked_for_and_never_by_themselves() -> None:
    collect = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", LONG)
    assert "crash_loop" not in _run(*collect)
    asked = _run(*collect, "-m", "soak")
    assert "crash_loop" in asked
    assert "again_and_again" not in asked, "its short version"


@pytest.mark.parametrize(("scale", "rounds", "tried"), [(1.0, (20, 1), 900), (4.0, (80, 4), 3600), (0.01, (1, 1), 60)])
def test_the_variable_is_a_factor_and_examples_are_never_fewer(
    scale: float, rounds: tuple[int, int], tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "SCALE", scale)
    monkeypatch.setattr(soak, "SOAKING", True)
    assert (soak.times(20), soak.times(1)) == rounds
    assert soak.examples(60) == tried


def test_without_the_variable_there_are_no_more_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "SOAKING", False)
    assert soak.examples(60) == 60


@pytest.mark.parametrize("text", ["", "long", "0", "-1", "nan", "1e9"])
def test_a_variable_that_is_no_factor_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"PENSTOCK_SOAK='{text}' is not a number above 0"):
        soak._scale(text)
