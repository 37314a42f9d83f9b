"""The runbooks: each command of the page, run in its order where that has happened which the page is about."""

import re
import shlex
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, passes, rows_of
from tests.distributions import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
PLACES = ("main", "cloud", "new")


class Runbook:
    """The commands of one section, a block at a time."""

    def __init__(self, title: str, shop: Penstock) -> None:
        (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
        self._blocks: list[str] = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self._shop = shop

    def __enter__(self) -> "Runbook":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        assert kind is not None or not self._blocks, "commands that were not run"

    def block(self, **filled: str) -> list[CompletedProcess[str]]:
        """Run the next block, with what is in capitals filled in; each command must exit as the page says."""
        done = []
        for line in self._blocks.pop(0).splitlines():
            assert line.startswith("$ penstock "), line
            said, _, comment = line.partition(" #")
            arguments = [filled[word] if word.isupper() else word for word in shlex.split(said)[2:]]
            done.append(self._shop(*arguments, code=int(comment or 0)))
        return done


def settings(folder: Path) -> str:
    """Those of the page, with folders for all places."""
    text: str
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for place in PLACES:
        text, count = re.subn(rf'(\[repositories\.{place}\].*?\nurl = )"[^"]*"', rf'\1"file://{folder}/{place}"', text)
        assert count == 1
    return text.replace("/srv/shop/shop.db", f"{folder}/shop.db")


@pytest.fixture
def shop(penstock: Penstock) -> Penstock:
    """A host as the page has it, with one backup, and somebody at the terminal who types the passphrase."""
    folder = penstock.folder
    database(folder / "shop.db")
    (folder / "penstock.toml").write_text(settings(folder))
    penstock.environ |= {"PENSTOCK_PASSPHRASE": PASSPHRASE, "PENSTOCK_TO_PASSPHRASE": PASSPHRASE}
    penstock("init", "main", "--owner-key", "owner.key")
    penstock("backup", "shop")
    return penstock


def another_night(shop: Penstock, note: str = "late") -> str:
    """One more snapshot, which differs: its id."""
    with closing(sqlite3.connect(shop.folder / "shop.db")) as connection, connection:
        connection.execute("INSERT INTO orders (note) VALUES (?)", (note,))
    return str(shop.json("backup", "shop")["backups"][0]["snapshot"])


def snapshots(shop: Penstock, place: str = "main") -> list[str]:
    return [one["id"] for one in shop.json("snapshots", "--repo", place)["snapshots"]]


def key_named(shop: Penstock, *, role: str, label: str = "") -> str:
    (key,) = (
        one["key"]
        for one in shop.json("key", "list", "--repo", "main", "--key", "owner.key")["keys"]
        if one["role"] == role and one["label"].startswith(label) and not one["revoked"]
    )
    return str(key)


def test_every_section_says_the_same_things() -> None:
    sections = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert len(sections) == 6
    for title, text in sections:
        for what in ("**You see**", "**Lost**", "**Check afterwards**", "```console"):
            assert what in text or (what == "**Lost**" and "Lost is" in text), f"{title}: {what}"


def test_a_lost_host(shop: Penstock) -> None:
    before, old = rows_of(shop.folder / "shop.db"), key_named(shop, role="writer")
    for path in (shop.folder / "config", shop.folder / "cache"):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("shop.db", "main.key", "owner.key"):
        (shop.folder / name).unlink()
    with Runbook("A lost host", shop) as runbook:
        runbook.block()
        assert rows_of(shop.folder / "shop.db") == before
        runbook.block(OLD_KEY=old)
        (verified,) = runbook.block()
        assert "signed by new-host" in verified.stdout
    assert len(snapshots(shop)) == 2


def test_a_lost_passphrase(shop: Penstock) -> None:
    old = key_named(shop, role="slot")
    new = shop.folder / "new-passphrase"
    new.touch(0o600)
    new.write_text("battery-staple-horse\n")
    shop.environ["PENSTOCK_PASSPHRASE"] = "nobody-knows-it"
    with Runbook("A lost passphrase", shop) as runbook:
        runbook.block()
        runbook.block(OLD_PASSPHRASE=old)
        shop("key", "test", "--repo", "main", code=22, PENSTOCK_PASSPHRASE=PASSPHRASE)
        shop("restore", "latest", "--to", "sqlite:back.db", "--repo", "main", "--passphrase-file", "new-passphrase")
        assert rows_of(shop.folder / "back.db") == rows_of(shop.folder / "shop.db")
        runbook.block()
        runbook.block()


def test_a_stolen_key(shop: Penstock) -> None:
    shop("key", "add", "--repo", "main", "--role", "maintainer", "--label", "ops", "--out", "ops.key")
    writer, maintainer = key_named(shop, role="writer"), key_named(shop, role="maintainer")
    (first,) = snapshots(shop)
    stolen = datetime.now(UTC).isoformat()
    own, thiefs = another_night(shop), another_night(shop, "forged")
    (shop.folder / "main.key").rename(shop.folder / "stolen.key")
    with Runbook("A stolen key", shop) as runbook:
        runbook.block(STOLEN_KEY=writer, TIME=stolen, SNAPSHOT=own)
        assert snapshots(shop) == [first, own]
        shop("backup", "shop", "--key", "stolen.key", code=21)
        runbook.block()
        shop("forget", first, "--apply", "--repo", "main", "--key", "ops.key")
        forgot = datetime.now(UTC).isoformat()
        runbook.block(STOLEN_MAINTAINER_KEY=maintainer, TIME=forgot, FORGOTTEN_SNAPSHOT=first)
        assert len(snapshots(shop)) == 3
        runbook.block()
        assert len(snapshots(shop, "new")) == 4
        checked, _ = runbook.block()
        assert thiefs in checked.stdout
        passes(shop.folder / "main", timedelta(days=1))
        runbook.block()


def test_a_damaged_bucket(shop: Penstock) -> None:
    (first,) = snapshots(shop)
    before = rows_of(shop.folder / "shop.db")
    shop("replicate", "--repo", "main", "--to", "cloud")
    (pack,) = (shop.folder / "main").glob("d/*/packs/*/*")
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.write_bytes(data)
    with Runbook("A damaged bucket", shop) as runbook:
        (checked,) = runbook.block()
        assert pack.name in checked.stdout
        runbook.block()
        runbook.block(SNAPSHOT=first)
        runbook.block(SNAPSHOT=first)
        assert rows_of(shop.folder / "restored.db") == before
        runbook.block()
        runbook.block(SNAPSHOT=first)


def test_a_full_bucket(shop: Penstock) -> None:
    (first,) = snapshots(shop)
    last = another_night(shop)
    place = shop.folder / "main"
    with Runbook("A full bucket", shop) as runbook:
        plan, *_ = runbook.block()
        assert first[:8] in plan.stdout
        passes(place, timedelta(hours=1))
        runbook.block()
        assert not list(place.glob(f"d/*/snapshots/{first}"))
        (checked,) = runbook.block()
        assert "No damage found" in checked.stdout
    assert snapshots(shop)[0] == last
    assert len(snapshots(shop)) == 2


def test_moving_to_another_cloud(shop: Penstock) -> None:
    with Runbook("Moving to another cloud", shop) as runbook:
        runbook.block()
        another_night(shop)
        runbook.block()
        shutil.rmtree(shop.folder / "main")
        runbook.block()
        (listed,) = runbook.block()
        assert listed.stdout.count("sqlite") == 3
