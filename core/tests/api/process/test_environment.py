"""What children are given: an environment, and files with secrets."""

import os
import stat
from pathlib import Path

import pytest
from core.tests.api.process.children import (
    NAME,
    read_all,
)

from penstock.api import ChildInput, ChildOutput, Secret, env_for_child, private_file, run_child


def test_only_what_programs_need_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENSTOCK_PASSPHRASE", "PGPASSWORD", "PGHOST", "LANG", "LC_MESSAGES", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PGSERVICEFILE", "/etc/service")
    monkeypatch.delenv("TMPDIR", raising=False)
    env = env_for_child({"PGPASSWORD": Secret("hunter2"), "PGUSER": "me"}, inherit=["PGSERVICEFILE", "PGOPTIONS"])
    assert env.pop("PATH") == os.environ["PATH"]
    assert env.pop("HOME") == "/home/me"
    expected = {"LC_ALL": "C", "PGPASSWORD": "hunter2", "PGUSER": "me", "PGSERVICEFILE": "/etc/service"}
    assert expected.items() <= env.items()
    assert not {"PENSTOCK_PASSPHRASE", "PGHOST", "LANG", "LC_MESSAGES", "AWS_SECRET_ACCESS_KEY", "TMPDIR"} & set(env)


def test_it_is_the_default_of_every_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PASSPHRASE", "hunter2")
    check = ["sh", "-c", 'cat; test -z "$PENSTOCK_PASSPHRASE"']
    run_child(check, name=NAME, timeout=60)
    with ChildInput(check, name=NAME) as child:
        child.write(b"x")
    stream = ChildOutput(check, name=NAME)
    read_all(stream)
    stream.close()


def test_a_given_environment_is_the_whole_one() -> None:
    assert run_child(["/usr/bin/env"], name=NAME, timeout=60, env={"A": "b"}) == b"A=b\n"


@pytest.mark.parametrize("content", [Secret("pässword"), "pässword".encode()])
def test_only_this_user_can_read_it_and_only_within_the_block(content: Secret | bytes) -> None:
    before = os.umask(0)
    try:
        with private_file(content, name="pgpass") as path:
            assert path.name == "pgpass"
            assert path.read_text("utf-8") == "pässword"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert not path.parent.exists()


def test_it_is_removed_when_an_exception_leaves_the_block() -> None:
    with pytest.raises(ZeroDivisionError), private_file(b"x") as path:
        raise ZeroDivisionError
    assert not path.parent.exists()


def test_it_is_removed_when_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(FileNotFoundError), private_file(b"x", name="no/folder"):
        pass
    assert not list(tmp_path.iterdir())
