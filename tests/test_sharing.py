"""That tests which share servers run in one worker: nothing else would tell, but the time that all of them take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sharing import NAMED, group_of

ROOT = Path(__file__).parents[1]
TESTS = """
import os
from pathlib import Path

import pytest


@pytest.mark.parametrize("number", range(8))
def test_where_it_runs(number: int) -> None:
    with Path(__file__).with_suffix(".workers").open("a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")
"""


@pytest.mark.slow
def test_the_tests_of_a_group_run_in_one_worker(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "tests").mkdir()
    for name in ("packaging", "plugin_authors", "other"):
        (tmp_path / "tests" / f"test_{name}.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.sharing", "--numprocesses=2", "--dist=loadscope"]
    command += ["--no-loadscope-reorder", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)]
    command += ["--import-mode=importlib"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COVERAGE_"))}
    environ = kept | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = {path.stem: path.read_text(encoding="utf-8").split() for path in tmp_path.glob("tests/*.workers")}
    assert {name: len(workers) for name, workers in ran.items()} == dict.fromkeys(
        ["test_packaging", "test_plugin_authors", "test_other"], 8
    )
    assert len(set(ran["test_packaging"] + ran["test_plugin_authors"])) == 1
    assert not set(ran["test_packaging"]) & set(ran["test_other"]), "one worker ran everything"


def test_the_files_that_are_named_exist() -> None:
    assert [name for name in NAMED if not (ROOT / name).is_file()] == []


def test_the_groups_are_files_but_for_those_that_are_named() -> None:
    assert group_of("tests/test_docs.py::test_a") == group_of("tests/test_docs.py::test_b[x::y]")
    assert group_of("tests/test_docs.py::test_a") != group_of("tests/test_compose.py::test_a")
    assert group_of("tests/test_packaging.py::test_a") == group_of("tests/test_plugin_authors.py::test_b")
    nights = "tests/integration/test_nights.py::test_{}"
    assert group_of(nights.format("a")) != group_of(nights.format("b"))


def test_the_cells_of_a_source_are_a_group() -> None:
    story = "tests/integration/test_story.py::test_{}[{}]"
    assert group_of(story.format("a", "postgres-18-gcs")) == group_of(story.format("b", "postgres-18-filesystem"))
    assert group_of(story.format("a", "postgres-18-gcs")) != group_of(story.format("a", "postgres-17-gcs"))
    assert group_of(story.format("a", "mysql-gcs")) != group_of(story.format("a", "mariadb-gcs"))


def test_all_that_needs_ceph_is_a_group() -> None:
    story = "tests/integration/test_story.py::test_a[{}-s3]"
    faulty = "tests/integration/test_faulty_services.py::test_a[{}]"
    kit = "plugins/sinks/s3/tests/test_conformance.py::TestRealService::test_a"
    assert (
        len({group_of(one) for one in (story.format("mysql"), story.format("sqlite"), faulty.format("s3"), kit)}) == 1
    )
    assert group_of(faulty.format("gcs")) != group_of(faulty.format("s3"))
    assert group_of("plugins/sinks/s3/tests/test_settings.py::test_a") != group_of(kit)
