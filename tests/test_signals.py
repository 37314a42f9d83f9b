"""That tests may send signals to what they start, even when the whole run was started with these ignored."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.signals import NUMBERS

ROOT = Path(__file__).parents[1]
TESTS = """
import signal
import subprocess
import sys

import pytest

CHILD = "import signal; print('ready', flush=True); signal.pause()"


@pytest.mark.parametrize("name", {names})
def test_the_signal_ends_a_child(name: str) -> None:
    number = signal.Signals[name]
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            child.send_signal(number)
            child.wait(60)
        finally:
            child.kill()
    assert child.returncode in (-number, 1 if number == signal.SIGINT else -number)


def test_an_interruption_is_one() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_others_are_still_ignored() -> None:
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"], ids=["one process", "workers of pytest-xdist"])
def test_signals_reach_children_of_a_run_that_was_started_with_them_ignored(tmp_path: Path, workers: str) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    names = [number.name for number in NUMBERS]
    (tmp_path / "test_children.py").write_text(TESTS.format(names=names), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.signals", f"--numprocesses={workers}"]
    command += ["--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)]
    # As a shell does for what stands before `&`, and nohup.
    ignore = f"trap '' {' '.join(str(number.value) for number in NUMBERS)}; exec \"$@\""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COVERAGE_", "PENSTOCK_"))
    }
    done = subprocess.run(
        ["sh", "-c", ignore, "sh", *command],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(NUMBERS) + 2} passed" in done.stdout


def test_no_signal_is_ignored_while_tests_run() -> None:
    assert [number.name for number in NUMBERS if signal.getsignal(number) is signal.SIG_IGN] == []
