"""penstock prune, as a maintainer runs it."""

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, passes

pytestmark = pytest.mark.slow

OWNER = ("--passphrase-file", "passphrase")
OPS = ("--key", "ops.key")


@pytest.fixture
def shop(tmp_path: Path) -> Penstock:
    """Two nights, and a maintainer's key."""
    database(tmp_path / "shop.db", rows=10)
    (tmp_path / "passphrase").touch(0o600)
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    (tmp_path / "penstock.toml").write_text(
        '[repositories.main]\ntype = "filesystem"\npath = "repository"\n[backups.shop]\nurl = "sqlite:shop.db"\n'
        "keep = { last = 1, at_least = 1 }\n"
    )
    penstock = Penstock(tmp_path)
    penstock("init", *OWNER)
    penstock("key", "add", "--role", "maintainer", "--label", "operations", "--out", "ops.key", *OWNER)
    penstock("backup", "shop")
    (tmp_path / "shop.db").unlink()
    database(tmp_path / "shop.db", rows=500)
    penstock("backup", "shop")
    return penstock


def test_a_day_of_maintenance(shop: Penstock) -> None:
    passes(shop.folder / "repository", timedelta(days=1))
    shop("forget", "--apply", *OPS)
    plan = shop("prune", "--dry-run", *OPS).stdout
    assert "Would delete 0 objects, 0 B; 1 snapshot kept." in plan
    assert "would be deleted by a run after" in plan
    named = shop.json("prune", *OPS)["domains"]["main"]
    assert named["doomed_size"] > 0
    assert named["deleted"] == 0
    assert "its grace" in shop("prune", *OPS).stdout
    passes(shop.folder / "repository", timedelta(days=1))
    done = shop.json("prune", *OPS)
    assert done["domains"]["main"]["deleted"] == named["doomed"] + 1
    assert done["deleted_size"] == named["doomed_size"]
    shop("check", "--read-data", *OPS)
    assert "1 snapshot kept" in shop("prune", *OPS).stdout
    shop("restore", "latest", "--to", "sqlite:back.db", *OWNER)


def test_forgetting_and_pruning_in_one_run(shop: Penstock) -> None:
    passes(shop.folder / "repository", timedelta(days=1))
    said = shop("forget", "--apply", "--prune", "--grace", "10m", *OPS).stdout
    assert "1 snapshot forgotten." in said
    assert "will be deleted by a run after" in said
    passes(shop.folder / "repository", timedelta(minutes=15))
    done = shop.json("forget", "--apply", "--prune", "--grace", "10m", *OPS)
    assert (done["applied"], done["forgotten"]) == (True, 0)
    assert done["prune"]["domains"]["main"]["deleted"] > 1
    shop("check", "--read-data", *OPS)
    assert len(shop.json("snapshots", *OPS)["snapshots"]) == 1


def test_a_prune_that_is_refused_behind_a_forget_says_what_was_forgotten(shop: Penstock) -> None:
    killed_while_running(shop)
    error = shop.json("forget", "--apply", "--prune", *OPS, code=60)["error"]
    assert error["type"] == "PruneRunning"
    assert error["details"] == ["snapshots forgotten before: 1"]
    assert len(shop.json("snapshots", *OPS)["snapshots"]) == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--prune",),
        ("--apply", "--grace", "1d"),
        ("--apply", "--prune", "--gone"),
        ("--apply", "--prune", "--grace", "soon"),
    ],
)
def test_a_prune_behind_a_forget_needs_the_right_options(shop: Penstock, options: tuple[str, ...]) -> None:
    assert shop.json("forget", *options, *OPS, code=2)["error"]["type"] == "UsageError"


def test_what_is_refused(shop: Penstock) -> None:
    assert shop("prune", code=23).stderr
    assert shop.json("prune", "--grace", "soon", *OPS, code=2)["error"]["message"].startswith("--grace must be")
    assert shop.json("prune", "--max-bytes", "lots", *OPS, code=2)["error"]["type"] == "UsageError"
    killed_while_running(shop)
    assert shop.json("prune", *OPS, code=60)["error"]["type"] == "PruneRunning"
    shop("prune", "--take-over", *OPS)
    passes(shop.folder / "repository", timedelta(minutes=11))
    shop("prune", *OPS)


def killed_while_running(shop: Penstock) -> None:
    """A prune that is killed leaves its lease: it seems to run."""
    (domain,) = (shop.folder / "repository" / "d").iterdir()
    leases = domain / "leases"
    before = set(leases.iterdir())
    while True:
        with subprocess.Popen(
            [sys.executable, "-m", "penstock", "prune", *OPS],
            cwd=shop.folder,
            env=shop.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running:
            while running.poll() is None and not set(leases.iterdir()) - before:
                time.sleep(0.001)
            running.kill()
        if set(leases.iterdir()) - before:
            return


def test_a_backup_stores_everything_anew_as_often_as_the_settings_say(shop: Penstock) -> None:
    passes(shop.folder / "repository", timedelta(days=2))
    (usual,) = shop.json("backup", "shop")["backups"]
    settings = shop.folder / "penstock.toml"
    settings.write_text(settings.read_text() + 'renew_every = "1d"\n')
    passes(shop.folder / "repository", timedelta(days=2))
    (anew,) = shop.json("backup", "shop")["backups"]
    assert anew["stored"] > 1.5 * usual["stored"], "beside what each run stores, all rows"
    shop("check", "--read-data", *OPS)
