"""Who gets in, and with what."""

import re
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database
from core.tests.cli.terminals import on_terminal

pytestmark = pytest.mark.slow

OWNER = ("--passphrase-file", "passphrase")


def test_a_terminal_is_asked_twice_for_a_new_passphrase(penstock: Penstock, tmp_path: Path) -> None:
    repo = "file://" + str(tmp_path / "r")
    code, seen = on_terminal(penstock, "init", repo, answers=[PASSPHRASE, "something else"])
    assert code == 2
    assert "the two passphrases differ" in seen
    assert not (tmp_path / "r").exists()
    code, seen = on_terminal(penstock, "init", repo, answers=[PASSPHRASE, PASSPHRASE, "a slip", PASSPHRASE])
    assert code == 0, seen
    assert "New passphrase for" in seen
    assert "guesses or more" in seen
    assert seen.count("does not open it") == 1
    assert "was not tried" not in seen
    assert PASSPHRASE not in seen
    penstock("key", "export", "--out", "owner.key", "--repo", repo, PENSTOCK_PASSPHRASE=PASSPHRASE)


def test_a_passphrase_is_made_up_where_none_is_entered(penstock: Penstock, tmp_path: Path) -> None:
    def shown(seen: str) -> str:
        (passphrase,) = re.findall(r"^    ([a-z]+(?:-[a-z]+)+)\r$", seen, re.MULTILINE)
        assert passphrase.count("-") >= 5
        return str(passphrase)

    made: list[str] = []

    def again(seen: str) -> str:
        made.append(shown(seen))
        return made[0]

    repo = "file://" + str(tmp_path / "r")
    code, seen = on_terminal(penstock, "init", repo, answers=["", again, ""])
    assert code == 0, seen
    assert "was not tried" in seen
    assert penstock.json("key", "test", "--repo", repo, PENSTOCK_PASSPHRASE=made[0])["role"] == "owner"
    assert penstock.json("key", "test", "--repo", repo, PENSTOCK_PASSPHRASE="another", code=22)


def test_a_weak_passphrase_is_said_to_be_weak(penstock: Penstock, tmp_path: Path) -> None:
    repo = "file://" + str(tmp_path / "r")
    code, seen = on_terminal(penstock, "init", repo, answers=["hunter2", "hunter2", "hunter2"])
    assert code == 0, seen
    assert "too few for what opens every backup" in seen


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


def test_a_writer_has_a_domain_of_its_own_and_names(shop: Penstock) -> None:
    made = ("key", "add", "--role", "writer", "--label", "till", "--name", "till*", "--out", "till.key")
    added = shop.json(*made, *OWNER)
    (entry,) = (one for one in shop.json("key", "list", *OWNER)["keys"] if one["key"] == added["key"])
    assert (entry["domain"], entry["names"]) == ("till", ["till*"])
    refused = shop.json("backup", "shop", "--key", "till.key", code=23)
    assert "was not granted to store a backup named shop" in refused["error"]["message"]
    assert shop.json("key", "test", "--key", "till.key")["domains"] == ["till"]
    wrong = ("key", "add", "--role", "maintainer", "--label", "x", "--domain", "till", "--out", "x.key", *OWNER)
    shop(*wrong, code=2)


def test_what_a_revoked_key_signed_is_kept_as_the_owner_says(penstock: Penstock, tmp_path: Path) -> None:
    database(tmp_path / "shop.db", rows=10)
    environ: dict[str, Any] = {"PENSTOCK_REPOSITORY": f"file://{tmp_path}/r", "PENSTOCK_PASSPHRASE": PASSPHRASE}
    penstock("init", "--owner-key", "owner.key", **environ)
    first, second = (
        penstock.json("backup", "sqlite:shop.db", "--name", "shop", **environ)["backups"][0] for _ in range(2)
    )
    environ["PENSTOCK_KEY_FILE"] = "owner.key"
    (writer,) = (one["key"] for one in penstock.json("key", "list", **environ)["keys"] if one["role"] == "writer")
    since = second["started"]
    revoked = penstock.json("key", "revoke", writer, "--since", since, **environ)
    assert [one["id"] for one in revoked["kept"]] == [first["snapshot"]]
    assert [one["id"] for one in revoked["left_out"]] == [second["snapshot"]]
    assert [one["id"] for one in penstock.json("snapshots", **environ)["snapshots"]] == [first["snapshot"]]
    kept = penstock.json("key", "keep", second["snapshot"][:12], **environ)["kept"]
    assert [one["id"] for one in kept] == [second["snapshot"]]
    assert len(penstock.json("snapshots", **environ)["snapshots"]) == 2
    penstock("key", "revoke", writer, "--since", "yesterday", code=2, **environ)


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
    (shop.folder / "second").touch(0o600)
    (shop.folder / "second").write_text("another-one\n", encoding="utf-8")
    shop("key", "add-passphrase", "--label", "safe", "--new-passphrase-file", "second", *OWNER)
    assert shop.json("show", "latest", "--passphrase-file", "second")["content"] is not None
    shop("key", "add-passphrase", *OWNER, code=20)


def test_files_with_secrets_that_everybody_can_read_are_refused(shop: Penstock) -> None:
    for name, option in (("owner.key", "--key"), ("passphrase", "--passphrase-file")):
        copy = shop.folder / f"open-{name}"
        copy.write_bytes((shop.folder / name).read_bytes())
        copy.chmod(0o644)
        assert "chmod o=" in shop("show", "latest", option, copy.name, code=20).stderr
        copy.chmod(0o640)  # a group of its own, which services have
        shop("show", "latest", option, copy.name)


@pytest.mark.parametrize("content", [b"", b"not a key", b'{"penstock_key":1}', b"\xff\xfe"])
def test_what_is_no_key_file_is_refused(shop: Penstock, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.key").write_bytes(content)
    assert shop.json("snapshots", "--key", str(tmp_path / "bad.key"), code=20)["error"]["type"] == "KeyProblem"
