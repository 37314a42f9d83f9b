"""The table of what ran where, as a run prints it, in one process and in several."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import versions
from tests.servers.gcs import GcsServer

ROOT = Path(__file__).parents[1]
TESTS = """
from collections.abc import Callable

import pytest
from tests.servers.gcs import GcsServer


@pytest.fixture
def store() -> GcsServer:
    return GcsServer("http://127.0.0.1:1", "a store 1.2")


@pytest.mark.parametrize("place", range(2))
def test_that_notes_by_itself(place: int, ran: Callable[..., None]) -> None:
    ran(SOURCE="an engine 3.4", CLIENT="its dump 5.6", SINK="a sink 7")


@pytest.mark.cell("an engine x a sink")
def test_a_cell(ran: Callable[..., None]) -> None:
    ran(SINK="a sink 7", FIGURES="8 bytes")


@pytest.mark.cell("another engine x a sink")
def test_a_cell_that_cannot_run() -> None:
    pytest.skip("there is no such engine today")


def test_with_a_server(store: GcsServer) -> None:
    pass


def test_that_fails(ran: Callable[..., None]) -> None:
    ran(SINK="a sink 7")
    raise AssertionError


def test_without_a_server() -> None:
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "two workers"])
def test_a_run_ends_with_what_ran_where(workers: int, tmp_path: Path) -> None:
    (tmp_path / "test_them.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.what_ran"]
    command += [f"--numprocesses={workers}", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COVERAGE_"))}
    environ = kept | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    table = done.stdout.partition("what ran where")[2].partition("short test summary")[0].splitlines()
    rows = [re.split(r" {2,}", re.sub(r"  [0-9]+\.[0-9](?= |$)", "  S", line)) for line in table[1:]]
    assert [row for row in rows if len(row) > 5] == [
        ["TEST", "SOURCE", "CLIENT", "SINK", "RESULT", "SECONDS"],
        ["matrix: an engine x a sink", "-", "-", "a sink 7", "1 passed", "S", "8 bytes"],
        ["matrix: another engine x a sink", "-", "-", "-", "1 skipped", "S", "there is no such engine today"],
        ["test_that_fails", "-", "-", "a sink 7", "1 failed", "S"],
        ["test_that_notes_by_itself", "an engine 3.4", "its dump 5.6", "a sink 7", "2 passed", "S"],
        ["test_with_a_server", "-", "-", "a store 1.2", "1 passed", "S"],
    ]


def test_what_is_no_server_is_in_no_column() -> None:
    assert versions.of_fixture("a text") == {}
    assert versions.of_fixture(GcsServer("http://127.0.0.1:1", "a store 1.2")) == {"SINK": "a store 1.2"}
