"""A run that is forked is the same as one that is started."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE
from tests import warm

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "PENSTOCK_REPOSITORY": f"file://{tmp_path}/repository",
    }


@pytest.fixture(params=["warm", "cold"])
def run(request: pytest.FixtureRequest, tmp_path: Path, environment: dict[str, str]) -> Callable[..., Done]:
    def warmly(*arguments: str, stdin: str = "") -> Done:
        assert warm.can_start(environment)
        return warm.run(arguments, folder=tmp_path, environment=environment, stdin=stdin, timeout=300)

    def coldly(*arguments: str, stdin: str = "") -> Done:
        command = [sys.executable, "-m", "penstock", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, input=stdin, capture_output=True, text=True)

    return warmly if request.param == "warm" else coldly


@pytest.mark.slow
def test_it_reads_its_streams_its_folder_and_its_environment(
    run: Callable[..., Done], tmp_path: Path, environment: dict[str, str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "shöp.db")) as db, db:
        db.execute("CREATE TABLE orders (note TEXT)")
    made = run("init", "--passphrase-file", "/dev/stdin", "--owner-key", "owner.key", stdin=PASSPHRASE + "\n")
    assert (made.returncode, (tmp_path / "owner.key").stat().st_mode & 0o777) == (0, 0o600), made.stderr
    done = run("backup", "sqlite:shöp.db", "--name", "shop", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["name"] for one in json.loads(done.stdout)["backups"]] == ["shop"]
    assert "shop" in run("snapshots").stdout
    environment["PENSTOCK_PASSPHRASE"] = PASSPHRASE + " and more"
    refused = run("restore", "latest", "--to", "sqlite:again.db")
    assert (refused.returncode, "Traceback" in refused.stderr) == (22, False), refused.stderr
    environment["PENSTOCK_PASSPHRASE"] = PASSPHRASE
    assert run("restore", "latest", "--to", "sqlite:again.db").returncode == 0
    assert (tmp_path / "again.db").read_bytes() == (tmp_path / "shöp.db").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code"), [(("--version",), 0), (("nonsense",), 2), (("key", "--help"), 0)])
def test_it_ends_as_the_command_does(
    arguments: tuple[str, ...], code: int, run: Callable[..., Done], tmp_path: Path
) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(code)
    assert list(tmp_path.glob("*")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_signals_reach_it_and_how_it_ended_is_told(
    number: int, code: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    arguments = ("demo", "--rows", "3000000", "--json")
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        started = warm.start(arguments, folder=tmp_path, environment=environment, stdout=out, stderr=err)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("penstock-demo-*/shop.db")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert os.getsid(started.pid) == started.pid
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.01)
    assert started.poll() is None
    started.send_signal(number)
    assert started.wait(60) == code
    started.send_signal(signal.SIGKILL)
    assert "Traceback" not in (tmp_path / "err").read_text(encoding="utf-8")


def test_what_is_looked_at_when_it_starts_is_not_for_it(environment: dict[str, str]) -> None:
    for name, value in {"PYTHONWARNINGS": "error", "LC_ALL": "C", "LANG": "C", "COVERAGE_FILE": "x"}.items():
        assert not warm.can_start({**environment, name: value})
