"""That a test which fails takes nothing down with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import os
import weakref
import warnings

held = []


class Unclosed:
    def __init__(self) -> None:
        self.itself = self
        self.descriptor = os.open("/dev/null", os.O_RDONLY)
        held.append(weakref.ref(self))

    def __del__(self) -> None:
        os.close(self.descriptor)
        warnings.warn("not closed", ResourceWarning)


def test_that_fails_with_something_open() -> None:
    unclosed = Unclosed()
    raise ValueError(unclosed)


def test_that_comes_next() -> None:
    assert [one() for one in held] == [None]
"""


@pytest.mark.slow
def test_what_a_failed_test_left_open_is_not_blamed_on_the_next(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    (tmp_path / "test_open.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.frames", "-p", "no:cacheprovider"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COVERAGE_"))}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "ResourceWarning" not in done.stdout
