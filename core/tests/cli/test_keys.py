"""Who gets in, and with what."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock

pytestmark = pytest.mark.slow

OWNER = ("--passphrase-file", "passphrase")
# Gives the child a terminal of its own: getpass asks there.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'penstock', *sys.argv[1:]])"
)


def on_terminal(penstock: Penstock, *arguments: str, answers: list[str]) -> tuple[int, str]:
    """Run it on a pseudo-terminal; each answer is typed when the next question has been asked."""
    controller, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *arguments],
        cwd=penstock.folder,
        env={**penstock.environ, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = ""
    limit = time.monotonic() + 300
    try:
        while time.monotonic() < limit:
            if not select.select([controller], [], [], 1)[0]:
                continue
            try:
                block = os.read(controller, 4096)
            except OSError:  # EIO: the child has closed its end
                break
            if not block:
                break
            seen += block.decode(errors="replace")
            if answers and seen.endswith(": "):
                os.write(controller, (answers.pop(0) + "\n").encode())
        return child.wait(timeout=300), seen
    finally:
        child.kill()
        child.wait()
        os.close(controller)


def test_a_terminal_is_asked_twice_for_a_new_passphrase(penstock: Penstock, tmp_path: Path) -> None:
    repo = "file://" + str(tmp_path / "r")
    code, seen = on_terminal(penstock, "init", repo, answers=[PASSPHRASE, "something else"])
    assert code == 2
    assert "the two passphrases differ" in seen
    assert not (tmp_path / "r").exists()
    code, seen = on_terminal(penstock, "init", repo, answers=[PASSPHRASE, PASSPHRASE])
    assert code == 0, seen
    assert "New passphrase for" in seen
    assert PASSPHRASE not in seen
    penstock("key", "export", "--out", "owner.key", "--repo", repo, PENSTOCK_PASSPHRASE=PASSPHRASE)


def test_a_terminal_is_asked_when_the_key_is_a_writers(shop: Penstock) -> None:
    code, seen = on_terminal(shop, "restore", "latest", "--to", "sqlite:asked.db", answers=[PASSPHRASE])
    assert code == 0, seen
    assert "Passphrase of main" in seen
    assert (shop.folder / "asked.db").exists()


def test_show_on_a_terminal_can_do_without_the_passphrase(shop: Penstock) -> None:
    code, seen = on_terminal(shop, "show", "latest", answers=[""])
    assert code == 0, seen
    assert "this is a writer key" in seen


def test_a_writer_key_cannot_restore(shop: Penstock) -> None:
    assert shop.json("restore", "latest", "--to", "sqlite:w.db", code=23)["error"]["type"] == "RoleForbids"
    assert shop("cat", "latest", "shop.db", code=23).stdout == ""


def test_a_key_that_was_named_is_the_only_one_tried(shop: Penstock) -> None:
    (writer,) = (shop.folder / "config/penstock/keys").iterdir()
    named = ("--key", str(writer), *OWNER)
    assert "is a writer key" in shop("cat", "latest", "shop.db", *named, code=23).stderr
    shop("cat", "latest", "shop.db", *OWNER, code=23, PENSTOCK_KEY_FILE=str(writer))
    shop("check", "--key", "owner.key", "--read-data")
    assert "cannot read the key file" in shop("snapshots", "--key", "nowhere.key", *OWNER, code=20).stderr


def test_without_any_key_the_ways_in_are_named(shop: Penstock, tmp_path: Path) -> None:
    done = shop("snapshots", code=20, XDG_CONFIG_HOME=str(tmp_path))
    assert "--key FILE" in done.stderr
    assert "PENSTOCK_PASSPHRASE" in done.stderr


def test_the_settings_key_and_passphrase_are_used(shop: Penstock, tmp_path: Path) -> None:
    settings = tmp_path / "penstock.toml"
    repository = f'[repositories.main]\ntype = "filesystem"\npath = "{shop.folder / "repository"}"\n'
    elsewhere: dict[str, Any] = {"XDG_CONFIG_HOME": str(tmp_path), "PENSTOCK_CONFIG": str(settings)}
    settings.write_text(repository + f'key = "{shop.folder / "owner.key"}"\n', encoding="utf-8")
    assert shop.json("show", "latest", **elsewhere)["content"] is not None
    settings.write_text(repository + f'passphrase = {{ file = "{shop.folder / "passphrase"}" }}\n', encoding="utf-8")
    assert shop.json("show", "latest", **elsewhere)["content"] is not None
    settings.write_text(repository + 'key = "gone.key"\n', encoding="utf-8")
    assert "gone.key" in shop("snapshots", code=20, **elsewhere).stderr


def test_a_wrong_passphrase_opens_nothing(shop: Penstock) -> None:
    done = shop("show", "latest", code=22, PENSTOCK_PASSPHRASE="wrong-and-secret")
    assert "wrong-and-secret" not in done.stderr


def test_a_missing_passphrase_file_is_named(shop: Penstock) -> None:
    assert "nowhere" in shop("show", "latest", "--passphrase-file", "nowhere", code=4).stderr


@pytest.mark.slow
def test_keys_are_added_listed_and_revoked(shop: Penstock) -> None:
    added = shop.json("key", "add", "--role", "writer", "--label", "web host", "--out", "web.key", *OWNER)
    shop("snapshots", "--key", "web.key")
    listed = {one["key"]: one for one in shop.json("key", "list")["keys"]}
    assert listed[added["key"]]["label"] == "web host"
    assert listed[added["key"]]["revoked"] is None
    shop("key", "revoke", added["key"][:8], *OWNER)
    assert shop.json("snapshots", "--key", "web.key", code=21)["error"]["type"] == "WrongKey"
    assert shop.json("key", "list")["keys"][-1]["revoked"] is not None


@pytest.mark.slow
def test_a_maintainer_checks_and_does_not_back_up(shop: Penstock) -> None:
    shop("key", "add", "--role", "maintainer", "--label", "ops", "--out", "ops.key", *OWNER)
    shop("check", "--key", "ops.key")
    shop("backup", "shop", "--key", "ops.key", code=23)


def test_only_the_owner_changes_keys(shop: Penstock) -> None:
    shop("key", "add", "--role", "writer", "--label", "x", "--out", "x.key", code=23)
    assert not (shop.folder / "x.key").exists()
    shop("key", "export", "--out", "x.key", code=23)


@pytest.mark.slow
def test_a_second_passphrase_opens_it_too(shop: Penstock) -> None:
    (shop.folder / "second").write_text("another-one\n", encoding="utf-8")
    shop("key", "add-passphrase", "--label", "safe", "--new-passphrase-file", "second", *OWNER)
    assert shop.json("show", "latest", "--passphrase-file", "second")["content"] is not None
    shop("key", "add-passphrase", *OWNER, code=20)


def test_a_key_file_that_others_can_read_is_warned_of(shop: Penstock) -> None:
    copy = shop.folder / "open.key"
    copy.write_bytes((shop.folder / "owner.key").read_bytes())
    copy.chmod(0o644)
    assert "chmod 600" in shop("snapshots", "--key", "open.key", "--quiet").stderr


@pytest.mark.parametrize("content", [b"", b"not a key", b'{"penstock_key":1}', b"\xff\xfe"])
def test_what_is_no_key_file_is_refused(shop: Penstock, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.key").write_bytes(content)
    assert shop.json("snapshots", "--key", str(tmp_path / "bad.key"), code=20)["error"]["type"] == "KeyProblem"
