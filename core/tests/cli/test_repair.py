"""`penstock repair`: on the folder sink, with a replica and without one."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(penstock: Penstock) -> Penstock:
    """A host with two backups of one database and of another, a replica, and the folder as it is then."""
    folder = penstock.folder
    places = "".join(f'[repositories.{name}]\nurl = "file://{folder}/{name}"\n' for name in ("main", "cloud", "other"))
    backups = "".join(
        f'[backups.{name}]\ntype = "sqlite"\npath = "{folder}/{name}.db"\nrepository = "main"\n'
        for name in ("shop", "web")
    )
    (folder / "penstock.toml").write_text(f"{places}{backups}[defaults]\nkeep = {{ last = 9 }}\n")
    penstock.environ |= {"PENSTOCK_REPOSITORY": "main", "PENSTOCK_PASSPHRASE": PASSPHRASE}
    penstock("init", "main")
    for name in ("shop", "web"):
        database(folder / f"{name}.db", rows=500)
        penstock("backup", name)
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.execute("INSERT INTO orders (note) VALUES ('late')")
    penstock("backup", "shop")
    penstock("replicate", "--to", "cloud")
    return penstock


def objects(shop: Penstock, kind: str = "**") -> list[Path]:
    return sorted(path for path in (shop.folder / "main").glob(f"{kind}/*") if path.is_file())


def contents(shop: Penstock) -> dict[Path, bytes]:
    """All but leases, which no replica has."""
    return {path: path.read_bytes() for path in objects(shop) if path.parent.name != "leases"}


def keys_of(document: dict[str, Any]) -> list[str]:
    return sorted(one["key"] for one in document["mended"])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def test_half_of_a_folder_comes_back_from_a_replica(shop: Penstock) -> None:
    before = contents(shop)
    chance = random.Random(5)
    harmed = chance.sample(sorted(before), len(before) // 2)
    config = shop.folder / "main" / "penstock.json"
    for path in sorted({config, *harmed}):
        if chance.randrange(2):
            path.unlink()
        else:
            flip(path, chance.randrange(path.stat().st_size))
    told = shop.json("repair", "--from", "cloud", "--dry-run")
    assert told["dry_run"]
    assert contents(shop) != before
    done = shop.json("repair", "--from", "cloud")
    assert keys_of(done) == keys_of(told)
    assert {shop.folder / "main" / key for key in keys_of(done)} == {config, *harmed}
    assert done["mended_count"] == len({config, *harmed})
    assert {one["from"] for one in done["mended"]} == {f"{shop.folder}/cloud"}
    after = contents(shop)
    assert {path: after[path] for path in before} == before
    # When the heads were written that came back.
    assert {path.parent.name for path in after.keys() - before.keys()} <= {"marks"}
    shop("check", "--read-data")
    for name in ("shop", "web"):
        back = shop.folder / f"{name}.back"
        shop("restore", f"latest:{name}", "--to", f"sqlite:{back}")
        assert rows_of(back) == rows_of(shop.folder / f"{name}.db")
    text = shop("repair", "--from", "cloud").stdout
    assert "Mended 0 objects" in text
    assert "No snapshot is lost." in text


def test_what_is_lost_is_named_and_the_next_backup_stores_it_anew(shop: Penstock) -> None:
    shown = {one["id"]: one["backup"] for one in shop.json("snapshots")["snapshots"]}
    pack = max(objects(shop, "d/*/packs/*"), key=lambda path: path.stat().st_size)
    flip(pack, 1000)
    done = shop.json("repair", code=54)
    assert done["error"]["type"] == "RepairedInPart"
    assert done["distrusted"] == 1
    assert done["lost"]
    for one in done["lost"]:
        assert one["backup"] == shown[one["snapshot"]]
        assert [lost["stream"] for lost in one["streams"]] == [f"{one['backup']}.db"]
        assert pack.name in one["streams"][0]["problem"]
    lost = {one["snapshot"] for one in done["lost"]}
    text = shop("repair", code=54)
    assert all(one[:8] in text.stdout for one in lost)
    assert ".db" in text.stdout
    assert "Lost: " in text.stdout
    marked = {one["id"]: one for one in shop.json("forget")["snapshots"]}
    assert {one for one, told in marked.items() if "lost: " in str(told["not_counted"])} == lost
    for name in ("shop", "web"):
        shop("backup", name)
        back = shop.folder / f"{name}.back"
        shop("restore", f"latest:{name}", "--to", f"sqlite:{back}")
        assert rows_of(back) == rows_of(shop.folder / f"{name}.db")
    mended = shop.json("repair", "--from", "cloud")
    assert set(mended["recovered"]) == lost
    shop("check", "--read-data")


def test_what_it_refuses(shop: Penstock) -> None:
    assert shop.json("repair", "--from", "main", code=2)["error"]["type"] == "UsageError"
    shop("init", "other", "--no-writer-key")
    assert shop.json("repair", "--from", "other", code=61)["error"]["type"] == "OtherRepository"
    shutil.rmtree(shop.folder / "main")
    (shop.folder / "main").mkdir()
    missing = shop.json("repair", "--from", "cloud", code=10)["error"]
    assert "penstock replicate" in missing["hint"]
    assert not objects(shop)
