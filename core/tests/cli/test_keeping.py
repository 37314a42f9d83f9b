"""What is kept: forget, undelete, tag and hold, as a maintainer and as a writer."""

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

pytestmark = pytest.mark.slow

OWNER = ("--passphrase-file", "passphrase")
OPS = ("--key", "ops.key")
KEEP = 'keep = { last = 1, daily = 2, tags = ["release"], at_least = 1 }\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Penstock:
    """Three nights of a shop with a policy, and a maintainer's key."""
    folder = tmp_path_factory.mktemp("keeping")
    database(folder / "shop.db", rows=10)
    (folder / "passphrase").touch(0o600)
    (folder / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    write_settings(folder, KEEP)
    penstock = Penstock(folder)
    penstock("init", *OWNER)
    penstock("key", "add", "--role", "maintainer", "--label", "operations", "--out", "ops.key", *OWNER)
    for night in range(3):
        with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
            connection.execute("INSERT INTO orders (note) VALUES (?)", [f"night {night}"])
        penstock("backup", "shop", *(("--tag", "monthly", "--tag", "before-2.0") if night == 0 else ()))
    return penstock


@pytest.fixture
def shop(made: Penstock, tmp_path: Path) -> Penstock:
    """A copy of it, which a test may change."""
    folder = tmp_path / "shop"
    shutil.copytree(made.folder, folder)
    return Penstock(folder)


def write_settings(folder: Path, keep: str, more: str = "") -> None:
    """Write the settings, with what `[backups.shop]` says beside its URL."""
    text = '[repositories.main]\ntype = "filesystem"\npath = "repository"\n[backups.shop]\nurl = "sqlite:shop.db"\n'
    (folder / "penstock.toml").write_text(text + keep + more, encoding="utf-8")


def ids(shop: Penstock, *arguments: str) -> list[str]:
    """The listed snapshots, oldest first."""
    return [one["id"] for one in shop.json("snapshots", *arguments)["snapshots"]]


def test_the_plan_shows_each_snapshot_with_what_keeps_it_and_changes_nothing(shop: Penstock) -> None:
    first, second, third = ids(shop)
    shown = shop("forget").stdout.splitlines()
    assert shown[0].split() == ["ID", "BACKUP", "DOMAIN", "FINISHED", "(UTC)", "REASONS"]
    assert [line.split()[0] for line in shown[1:4]] == [third[:8], second[:8], first[:8]]
    assert shown[1].endswith("  keep    last 1 of 1, daily 1 of 2")
    assert shown[2].endswith("  forget")
    assert shown[4:] == [
        "1 snapshot kept; 2 snapshots to forget.",
        "Nothing is forgotten yet: run it again with --apply.",
    ]
    document = shop.json("forget")
    assert (document["kept"], document["forgotten"], document["applied"]) == (1, 2, False)
    newest, _, oldest = document["snapshots"]
    assert (newest["id"], newest["kept"], newest["reasons"]) == (third, True, ["last 1 of 1", "daily 1 of 2"])
    assert (oldest["kept"], oldest["reasons"], oldest["not_counted"]) == (False, [], None)
    assert oldest["tags"] == ["before-2.0", "monthly"]
    assert ids(shop) == [first, second, third]


def test_what_is_forgotten_is_gone_from_every_list_and_comes_back(shop: Penstock) -> None:
    first, second, third = ids(shop)
    done = shop("forget", "--apply", *OPS)
    assert done.stdout.splitlines()[-2:] == [
        "1 snapshot kept; 2 snapshots forgotten.",
        "Until a prune sweeps them, penstock undelete takes them back.",
    ]
    assert ids(shop) == [third]
    assert ids(shop, "--forgotten") == [first, second]
    assert first[:8] in shop("snapshots", "--forgotten").stdout
    error = shop.json("show", first[:8], code=15)["error"]
    assert error["type"] == "SnapshotNotFound"
    assert f"penstock undelete {first[:8]}" in error["hint"]
    assert shop.json("forget", "--apply", *OPS)["forgotten"] == 0
    shop("check", "--read-data", *OWNER)
    assert shop("undelete", first[:8], second, *OPS).stdout.splitlines() == [
        f"Snapshot {first[:8]} of shop is listed again.",
        f"Snapshot {second[:8]} of shop is listed again.",
    ]
    assert ids(shop) == [first, second, third]
    assert shop("snapshots", "--forgotten").stdout == "No forgotten snapshots.\n"
    shop("restore", first, "--to", "sqlite:first.db", *OWNER)
    assert len(rows_of(shop.folder / "first.db")) == 11


def test_the_latest_is_never_one_that_was_forgotten(shop: Penstock) -> None:
    _, second, third = ids(shop)
    assert shop.json("forget", third, "--apply", *OPS)["forgotten"] == 1
    assert shop.json("show", "latest")["id"] == second
    restored = shop("restore", "latest:shop", "--to", "sqlite:latest.db", "--quiet", *OWNER)
    assert restored.stderr == "", "this host has seen it, and it is not there: nobody is alarmed"
    assert len(rows_of(shop.folder / "latest.db")) == 12
    shop("backup", "shop")
    assert len(ids(shop)) == 3
    assert shop.json("undelete", third[:8], *OPS)["snapshots"][0]["id"] == third


def test_snapshots_are_forgotten_by_their_ids_whatever_the_settings_keep(shop: Penstock) -> None:
    first, second, third = ids(shop)
    planned = shop("forget", third[:8], third, "latest")
    assert planned.stdout.splitlines()[-2:] == [
        "1 snapshot to forget.",
        "Nothing is forgotten yet: run it again with --apply.",
    ]
    document = shop.json("forget", third[:8], first[:8], "--apply", *OPS)
    assert [one["id"] for one in document["snapshots"]] == [third, first]
    assert ids(shop) == [second]
    shop("forget", "00ff", code=15)
    assert "--backup" in shop("forget", second, "--backup", "shop", code=2).stderr


def test_a_hold_is_in_the_way(shop: Penstock) -> None:
    first, _, third = ids(shop)
    held = shop("hold", first[:8], "--reason", "the auditors", *OPS).stdout
    assert " by operations: the auditors" in held
    assert shop.json("forget")["snapshots"][2]["reasons"] == ["hold: the auditors"]
    for apply in ((), ("--apply",)):
        error = shop.json("forget", first, third, *apply, *OPS, code=17)["error"]
        assert (error["type"], error["details"]) == ("SnapshotHeld", [f"{first}: the auditors"])
        assert f"penstock hold {first[:8]} --release" in error["hint"]
    assert len(ids(shop)) == 3
    released = shop.json("hold", first, "--release", "--reason", "the audit is over", *OPS)
    assert released["holds"] == []
    assert "holds: none" in shop("tag", first).stdout
    assert shop.json("forget", "--apply", *OPS)["forgotten"] == 2


def test_a_hold_needs_a_reason_which_is_shown_harmlessly(shop: Penstock) -> None:
    assert "--reason TEXT" in shop("hold", "latest", *OPS, code=2).stderr
    assert "--reason TEXT" in shop("hold", "latest", "--release", "--reason", "  ", *OPS, code=2).stderr
    shown = shop("hold", "latest", "--reason", "a\x1b[31mred\nline", *OPS).stdout
    assert "a?[31mred line" in shown
    assert shop.json("hold", "latest", "--reason", "x" * 1001, *OPS, code=2)["error"]["type"] == "UsageError"
    assert "not UTF-8" in shop("hold", "latest", "--reason", "\udcff", *OPS, code=2).stderr
    assert "\x1b" not in shown + shop("tag", "latest").stdout + shop("forget").stdout


def test_no_backup_is_left_without_a_snapshot(shop: Penstock) -> None:
    everything = ids(shop)
    for apply in ((), ("--apply",)):
        error = shop.json("forget", *everything, *apply, *OPS, code=18)["error"]
        assert error["type"] == "NothingKept"
    assert ids(shop) == everything


def test_the_last_snapshots_of_a_retired_backup_are_forgotten_by_its_name(shop: Penstock) -> None:
    first, second, third = ids(shop)
    shop("backup", "shop", "--name", "other")
    other = ids(shop)[3]
    assert "--retired" in shop.json("forget", first, second, third, code=18)["error"]["hint"]
    shop("hold", second, "--reason", "the auditors", *OPS)
    document = shop.json("forget", "--backup", "shop", "--retired")
    assert {one["id"]: one["reasons"] for one in document["snapshots"]} == {
        third: [],
        second: ["hold: the auditors"],
        first: [],
    }
    assert len(ids(shop)) == 4, "nothing without --apply"
    shop("hold", second, "--release", "--reason", "the audit is over", *OPS)
    assert shop.json("forget", "--backup", "shop", "--retired", "--apply", *OPS)["forgotten"] == 3
    assert ids(shop) == [other]
    assert shop.json("undelete", third, *OPS)["snapshots"][0]["id"] == third
    assert "--backup" in shop("forget", "--retired", code=2).stderr
    shop("forget", "--backup", "nobody", "--retired", code=15)


def test_a_writer_sees_the_plan_and_changes_nothing(shop: Penstock) -> None:
    first, *_ = ids(shop)
    assert shop.json("forget")["forgotten"] == 2
    assert shop.json("tag", first)["tags"] == ["before-2.0", "monthly"]
    shop("hold", first, "--reason", "the auditors", *OPS)
    for arguments in (
        ("forget", "--apply"),
        ("forget", first, "--apply"),
        ("undelete", first),
        ("tag", first, "release"),
        ("tag", first, "--remove", "monthly"),
        ("hold", first, "--reason", "mine"),
        ("hold", first, "--release", "--reason", "mine"),
    ):
        error = shop.json(*arguments, code=23)["error"]
        assert error["type"] == "RoleForbids", arguments
        assert "maintainer" in error["message"]
    assert len(ids(shop)) == 3
    assert [one["reason"] for one in shop.json("tag", first)["holds"]] == ["the auditors"]


def test_tags_are_given_by_a_backup_and_added_and_taken_away_later(shop: Penstock) -> None:
    first, second, _ = ids(shop)
    assert "  tags: before-2.0, monthly\n" in shop("tag", first[:8]).stdout
    assert shop.json("tag", first, "release", "--remove", "monthly", *OPS)["tags"] == ["before-2.0", "release"]
    assert shop.json("forget")["snapshots"][2]["reasons"] == ["tag release"]
    shop("forget", "--apply", *OPS)
    assert second not in ids(shop)
    assert first in ids(shop)
    assert shop.json("tag", first, "--remove", "release", *OPS)["tags"] == ["before-2.0"]
    assert shop.json("forget", "--apply", *OPS)["forgotten"] == 1
    assert shop.json("tag", "latest", "a b", *OPS, code=2)["error"]["message"] == "not a tag: 'a b'"
    assert "at once" in shop("tag", "latest", "one", "--remove", "one", *OPS, code=2).stderr


def test_a_backup_with_what_is_no_tag_is_not_begun(shop: Penstock) -> None:
    before = ids(shop)
    done = shop("backup", "shop", "--tag", "a b", code=2)
    assert "not a tag" in done.stderr
    assert "started" not in done.stderr
    assert ids(shop) == before


def test_undelete_takes_ids(shop: Penstock) -> None:
    assert "penstock snapshots --forgotten" in shop("undelete", "latest", *OPS, code=2).stderr
    assert "--forgotten" in shop("undelete", "00ff", *OPS, code=15).stderr
    first, *_ = ids(shop)
    assert shop.json("undelete", first, *OPS)["snapshots"][0]["id"] == first


def test_a_backup_without_a_policy_is_never_forgotten(shop: Penstock) -> None:
    shop("backup", "sqlite:shop.db", "--name", "other")
    (other,) = (one for one in shop.json("forget")["snapshots"] if one["backup"] == "other")
    assert other["reasons"] == ["no policy: nothing of this backup is forgotten"]
    assert shop.json("forget", "--backup", "shop", "--apply", *OPS)["forgotten"] == 2
    assert shop.json("forget", "--backup", "other", code=8)["error"]["type"] == "NoPolicy"
    write_settings(shop.folder, KEEP, "[defaults]\nkeep = { last = 1 }\n")
    assert shop.json("forget", "--backup", "other")["snapshots"][0]["reasons"] == ["last 1 of 1"]


def test_settings_that_say_nothing_of_what_is_kept_are_an_error(shop: Penstock) -> None:
    write_settings(shop.folder, "")
    for apply in ((), ("--apply", *OPS)):
        error = shop.json("forget", *apply, code=8)["error"]
        assert error["type"] == "NoPolicy"
        assert "shop" in error["message"]
        assert "keep" in error["hint"]
    first, *_ = ids(shop)
    assert shop.json("forget", first, "--apply", *OPS)["forgotten"] == 1


@pytest.mark.parametrize("keep", ["{}", "{ last = 0, daily = 0 }", "{ at_least = 5 }", "{ tags = [] }"])
def test_a_policy_that_keeps_nothing_is_refused(shop: Penstock, keep: str) -> None:
    write_settings(shop.folder, f"keep = {keep}\n")
    error = shop.json("forget", "--apply", *OPS, code=7)["error"]
    assert error["type"] == "PolicyKeepsNothing"
    assert "backups.shop.keep: keeps nothing but what at_least says" in error["message"]
    assert "backups.shop.keep" in shop("config", "check", code=7).stderr


def test_a_misspelt_rule_is_told_with_the_right_one(shop: Penstock) -> None:
    write_settings(shop.folder, "keep = { dayly = 3 }\n")
    said = shop("forget", code=3).stderr
    assert "backups.shop.keep.dayly: unknown key; did you mean daily? (allowed: last, within," in said


def test_a_repository_without_snapshots_has_nothing_to_forget(penstock: Penstock, tmp_path: Path) -> None:
    write_settings(tmp_path, KEEP, '[backups.crm]\nurl = "sqlite:crm.db"\n')
    environ: dict[str, Any] = {"PENSTOCK_PASSPHRASE": PASSPHRASE}
    penstock("init", **environ)
    for apply in ((), ("--apply",)):
        assert penstock("forget", *apply, **environ).stdout == "No snapshots.\n"
        assert penstock.json("forget", *apply, **environ)["snapshots"] == []
    # A backup of the settings that was never made is no mistake; a name that nobody knows is one.
    assert penstock("forget", "--backup", "crm").stdout == "No snapshots.\n"
    assert "there is no backup shopp" in penstock("forget", "--backup", "shopp", code=15).stderr


def test_days_are_those_of_the_time_zone_of_the_settings(shop: Penstock) -> None:
    """Midnight in Kiritimati, which is ten in the morning in UTC, is between the second night and the third."""
    # In two days: what the store dates before the host's own time counts as of the future.
    day = (datetime.now(UTC) + timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    moments = dict(zip(ids(shop), [day + timedelta(hours=hours) for hours in (8, 9.5, 10.5)], strict=True))
    for path in (shop.folder / "repository").rglob("snapshots/*"):
        os.utime(path, (moments[path.name].timestamp(),) * 2)
    daily = "keep = { daily = 5, at_least = 1 }\n"
    write_settings(shop.folder, daily)
    assert [one["kept"] for one in shop.json("forget")["snapshots"]] == [True, False, False]
    write_settings(shop.folder, daily + 'timezone = "Pacific/Kiritimati"\n')
    assert [one["kept"] for one in shop.json("forget")["snapshots"]] == [True, True, False]
