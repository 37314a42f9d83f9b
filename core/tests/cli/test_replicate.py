"""`penstock replicate`: into one place and into several, and what is said of it."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(penstock: Penstock) -> Penstock:
    """A host with settings, a repository and a backup, and places for replicas."""
    folder = penstock.folder
    database(folder / "shop.db")
    places = "".join(f'[repositories.{name}]\nurl = "file://{folder}/{name}"\n' for name in ("main", "cloud", "tape"))
    shop = f'[backups.shop]\ntype = "sqlite"\npath = "{folder}/shop.db"\nrepository = "main"\n'
    (folder / "penstock.toml").write_text(places + shop)
    penstock.environ["PENSTOCK_REPOSITORY"] = "main"
    penstock("init", "main", PENSTOCK_PASSPHRASE=PASSPHRASE)
    penstock("backup", "shop")
    return penstock


def test_a_replica_is_used_as_the_original(shop: Penstock) -> None:
    folder = shop.folder
    made = shop.json("replicate", "--to", "cloud", PENSTOCK_PASSPHRASE=PASSPHRASE)
    (target,) = made["targets"]
    assert (len(target["copied"]), target["there"], target["left_out"], target["error"]) == (1, 0, [], None)
    assert target["bytes"] > 1000
    assert made["sink"]["put"]["requests"] == target["objects"] + 1  # and the time of the snapshot
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.execute("INSERT INTO orders (note) VALUES ('late')")
    shop("backup", "shop")
    text = shop("replicate", "--to", "cloud", PENSTOCK_PASSPHRASE=PASSPHRASE).stdout
    assert "copied 1 snapshot" in text
    assert "1 there before" in text
    shutil.rmtree(folder / "main")
    # This host's key and cache have seen the original.
    assert len(shop.json("snapshots", "--repo", "cloud")["snapshots"]) == 2
    shop("check", "--read-data", "--repo", "cloud", PENSTOCK_PASSPHRASE=PASSPHRASE)
    back = folder / "back.db"
    shop("restore", "latest", "--to", f"sqlite:{back}", "--repo", "cloud", PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert rows_of(back) == rows_of(folder / "shop.db")


def test_a_maintainers_key_will_do_and_a_writers_does_not(shop: Penstock) -> None:
    key = shop.folder / "ops.key"
    shop("key", "add", "--role", "maintainer", "--label", "ops", "--out", str(key), PENSTOCK_PASSPHRASE=PASSPHRASE)
    shop("replicate", "--to", "cloud", "--key", str(key))
    refused = shop.json("replicate", "--to", "tape", code=23)
    assert refused["error"]["type"] == "RoleForbids"
    assert not any((shop.folder / "tape").glob("*"))


def test_one_place_that_fails_keeps_no_other_back(shop: Penstock) -> None:
    elsewhere = f"file://{shop.folder}/elsewhere"
    shop("init", elsewhere, "--no-writer-key", PENSTOCK_PASSPHRASE=PASSPHRASE)
    made = shop.json("replicate", "--to", elsewhere, "--to", "cloud", code=50, PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert [one["error"] and one["error"]["exit_code"] for one in made["targets"]] == [61, None]
    assert shop.json("snapshots", "--repo", "cloud")["snapshots"]
    alone = shop.json("replicate", "--to", elsewhere, code=61, PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert alone["error"]["type"] == "OtherRepository"


def test_damage_has_an_exit_code_of_its_own(shop: Penstock) -> None:
    (pack,) = Path(shop.folder / "main").glob("d/*/packs/*/*")
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    made = shop.json("replicate", "--to", "cloud", "--to", "tape", code=53, PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert made["error"]["type"] == "ReplicatedInPart"
    for target in made["targets"]:
        assert (len(target["left_out"]), target["damage_count"], target["error"]["exit_code"]) == (1, 1, 53)
    told = shop("replicate", "--to", "cloud", code=53, PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert "left out" in told.stdout
    assert pack.name in told.stderr


def test_a_target_has_to_be_named(shop: Penstock) -> None:
    shop("replicate", code=2, PENSTOCK_PASSPHRASE=PASSPHRASE)
    shop("replicate", "--to", "main", code=2, PENSTOCK_PASSPHRASE=PASSPHRASE)
    shop("replicate", "--to", "nowhere", code=3, PENSTOCK_PASSPHRASE=PASSPHRASE)


def test_a_password_in_a_url_is_shown_to_nobody(shop: Penstock) -> None:
    wrong = "file://me:hunter2@host/x?nonsense=1"
    told = shop("replicate", "--to", wrong, "--to", "cloud", code=50, PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert "hunter2" not in told.stdout + told.stderr
    assert "copied 1 snapshot" in told.stdout
