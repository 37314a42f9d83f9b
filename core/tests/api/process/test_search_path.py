"""Programs are looked for in the folders that PATH names in full: what lies in the working directory is not run."""

import os
import shutil
from pathlib import Path

import pytest
from core.tests.api.process.children import NAME

from penstock.api import ChildOutput, PenstockError, env_for_child, run_child


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the working directory, and in a folder below it, under a name that no other has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    for folder in (tmp_path, tmp_path / "bin"):
        program = folder / "penstock-trap"
        program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\n", encoding="utf-8")
        program.chmod(0o755)
    return tmp_path / "sprung"


PATHS = [".", "", "bin", "./bin", "bin/..", "::", ".:bin:"]


@pytest.mark.parametrize("path", PATHS)
def test_a_relative_folder_is_not_searched(trap: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{system}")
    assert shutil.which("penstock-trap") is not None or path in ("", "::")
    assert env_for_child()["PATH"] == system
    with pytest.raises(PenstockError, match="penstock-trap"):
        run_child(["penstock-trap"], name=NAME, timeout=60)
    with pytest.raises(PenstockError, match="penstock-trap"):
        ChildOutput(["penstock-trap"], name=NAME)
    # Nor by what a child of ours runs.
    with pytest.raises(PenstockError):
        run_child(["sh", "-c", "penstock-trap"], name=NAME, timeout=60)
    assert not trap.exists()


def test_a_folder_that_is_named_in_full_is_searched(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{trap.parent / 'bin'}{os.pathsep}{os.environ['PATH']}")
    run_child(["penstock-trap"], name=NAME, timeout=60)
    assert trap.exists()
