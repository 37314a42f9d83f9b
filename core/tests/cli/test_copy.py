"""`penstock copy`: snapshots of one owner in the repository of another, as operators do it."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

pytestmark = pytest.mark.slow

#: The other owner's.
OTHERS = "battery-staple-horse"
OURS: dict[str, Any] = {"PENSTOCK_PASSPHRASE": PASSPHRASE}
BOTH: dict[str, Any] = {**OURS, "PENSTOCK_TO_PASSPHRASE": OTHERS}


@pytest.fixture
def shop(penstock: Penstock) -> Penstock:
    """A host with a backup in its owner's repository, and another owner's repository."""
    folder = penstock.folder
    database(folder / "shop.db", rows=20000)
    places = "".join(f'[repositories.{name}]\nurl = "file://{folder}/{name}"\n' for name in ("main", "away"))
    shop = f'[backups.shop]\ntype = "sqlite"\npath = "{folder}/shop.db"\nrepository = "main"\n'
    (folder / "penstock.toml").write_text(places + shop)
    penstock.environ["PENSTOCK_REPOSITORY"] = "main"
    penstock("init", "main", **OURS)
    penstock("init", "away", "--no-writer-key", "--owner-key", "others.key", PENSTOCK_PASSPHRASE=OTHERS)
    penstock("backup", "shop")
    return penstock


def change(shop: Penstock, note: str) -> None:
    with closing(sqlite3.connect(shop.folder / "shop.db")) as connection, connection:
        connection.execute("UPDATE orders SET note = ? WHERE id = 77", (note,))


def damage(place: Path) -> None:
    """Turn over a bit of the data of the newest pack."""
    pack = max(place.glob("d/*/packs/*/*"), key=lambda path: path.stat().st_mtime_ns)
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)


def test_another_owner_restores_what_was_copied(shop: Penstock) -> None:
    folder = shop.folder
    (one,) = shop.json("copy", "latest:shop", "--to", "away", **BOTH)["copies"]
    assert (one["there"], one["dated"], one["error"]) == (False, True, None)
    before = rows_of(folder / "shop.db")
    change(shop, "late")
    shop("backup", "shop")
    again = shop.json("copy", "--backup", "shop", "--to", "away", **BOTH)
    assert [told["there"] for told in again["copies"]] == [True, False]
    assert again["copies"][1]["stored"] < one["stored"] / 3
    assert again["sink"]["put"]["requests"] > 3
    shutil.rmtree(folder / "main")
    away = ("--repo", "away", "--key", "others.key")
    shop("check", "--read-data", *away)
    shop("restore", one["copy"], "--to", "sqlite:first.db", *away)
    shop("restore", "latest:shop", "--to", "sqlite:second.db", *away)
    assert rows_of(folder / "first.db") == before
    assert rows_of(folder / "second.db") == rows_of(folder / "shop.db") != before
    text = shop("snapshots", *away).stdout
    assert text.count("sqlite") == 2


def test_people_see_a_line_for_each(shop: Penstock) -> None:
    text = shop("copy", "--all", "--to", "away", **BOTH).stdout
    assert "copied as" in text
    assert "1 stream" in text
    assert "there already" in shop("copy", "--all", "--to", "away", **BOTH).stdout


def test_each_repository_is_opened_with_its_own_key_alone(shop: Penstock) -> None:
    copying = ("copy", "latest", "--to", "away")
    # What opens the one is not tried on the other.
    missing = shop.json(*copying, code=20, **OURS)["error"]
    assert "--to-passphrase-file" in missing["hint"]
    assert "PENSTOCK_TO_PASSPHRASE" in missing["hint"]
    shop(*copying, code=22, PENSTOCK_PASSPHRASE=OTHERS, PENSTOCK_TO_PASSPHRASE=OTHERS)
    shop(*copying, code=22, PENSTOCK_PASSPHRASE=PASSPHRASE, PENSTOCK_TO_PASSPHRASE=PASSPHRASE)
    shop(*copying, code=23, PENSTOCK_TO_PASSPHRASE=OTHERS)  # this host's key is a writer's
    secret = shop.folder / "secret"
    secret.touch(0o600)
    secret.write_text(OTHERS + "\n")
    assert not shop.json(*copying, "--to-passphrase-file", "secret", **OURS)["copies"][0]["there"]
    assert shop.json(*copying, "--to-key", "others.key", **OURS)["copies"][0]["there"]
    assert shop.json(*copying, PENSTOCK_TO_KEY_FILE="others.key", **OURS)["copies"][0]["there"]
    os.chmod(secret, 0o644)  # noqa: PTH101
    assert "everybody" in shop(*copying, "--to-passphrase-file", "secret", code=20, **OURS).stderr


def test_a_writers_key_there_will_do_and_it_is_said_what_that_means(shop: Penstock) -> None:
    shop(
        *("key", "add", "--repo", "away", "--role", "writer", "--domain", "main", "--label", "courier"),
        *("--name", "shop", "--out", "courier.key"),
        PENSTOCK_PASSPHRASE=OTHERS,
    )
    done = shop("copy", "latest", "--to", "away", "--to-key", "courier.key", **OURS)
    assert "copied as" in done.stdout
    assert "Retention there goes by the time of the copying" in done.stderr
    dated = shop.json("copy", "latest", "--to", "away", **BOTH)["copies"][0]
    assert (dated["there"], dated["dated"]) == (True, True)


def test_damage_has_an_exit_code_of_its_own_and_keeps_no_other_back(shop: Penstock) -> None:
    change(shop, "late")
    shop("backup", "shop")
    damage(shop.folder / "main")
    alone = shop.json("copy", "latest", "--to", "away", code=56, **BOTH)
    assert alone["error"]["type"] == "NotCopied"
    assert alone["copies"][0]["copy"] is None
    assert "packs/" in alone["error"]["message"]
    both = shop.json("copy", "--all", "--to", "away", code=56, **BOTH)
    assert [one["error"] is None for one in both["copies"]] == [True, False]
    assert both["error"]["message"] == "1 of 2 snapshots were not copied"
    assert len(shop.json("snapshots", "--repo", "away", "--key", "others.key")["snapshots"]) == 1
    head = max((shop.folder / "main").glob("d/*/snapshots/*"), key=lambda path: path.stat().st_mtime_ns)
    head.chmod(0o600)
    head.write_bytes(b"something else")
    lost = shop.json("copy", "--all", "--to", "away", code=56, **BOTH)
    assert [one["there"] for one in lost["copies"]] == [True]
    assert head.name in lost["error"]["details"][0]
    told = shop("copy", "--all", "--to", "away", code=56, **BOTH)
    assert head.name in told.stderr


def test_what_is_refused(shop: Penstock) -> None:
    for arguments in ((), ("latest", "--all"), ("latest", "--backup", "shop")):
        refused = shop.json("copy", *arguments, "--to", "away", code=2, **BOTH)
        assert refused["error"]["message"].startswith("which snapshots?")
    shop("copy", "latest", code=2, **BOTH)
    same = shop.json("copy", "latest", "--to", "main", code=2, PENSTOCK_TO_PASSPHRASE=PASSPHRASE, **OURS)
    assert "the same repository" in same["error"]["message"]
    shop("copy", "latest", "--to", "nowhere", code=3, **BOTH)
    shop("copy", "--backup", "blog", "--to", "away", code=15, **BOTH)
    shop("copy", "latest", "--to", "away", "--memory", "127MiB", code=2, **BOTH)
    shop("copy", "latest", "--to", f"file://{shop.folder}/empty", code=10, **BOTH)
    wrong = shop("copy", "latest", "--to", "file://me:hunter2@host/x?nonsense=1", code=2, **BOTH)
    assert "hunter2" not in wrong.stdout + wrong.stderr


def test_a_repository_without_snapshots_is_no_error(shop: Penstock) -> None:
    turned = ("copy", "--all", "--repo", "away", "--to", "main", "--key", "others.key")
    assert shop.json(*turned)["copies"] == []
    assert "No snapshots yet." in shop(*turned).stdout
