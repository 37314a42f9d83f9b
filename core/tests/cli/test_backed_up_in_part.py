"""A backup without what its source cannot dump: a snapshot of everything else, each object named, and no success."""

import json
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.cabinet import install_cabinet, not_dumping
from core.tests.cli.running import PASSPHRASE, Penstock

pytestmark = pytest.mark.slow

VIEW = {
    "kind": "view",
    "name": "v",
    "reason": "no table t",
    "statement": "CREATE VIEW v AS 'hunter2';",
    "database": "shop",
    "secret": True,
}
NEEDLESS = {"kind": "cache", "name": "c", "reason": "made anew", "lost": False}


@pytest.fixture
def office(tmp_path: Path) -> Penstock:
    """An empty repository, and two cabinets in the settings."""
    install_cabinet(tmp_path / "site")
    for name in ("papers", "letters"):
        (tmp_path / name).write_text(f"all {name}")
    repository = '[repositories.main]\ntype = "filesystem"\npath = "repository"\n'
    backups = [f"[backups.{name}]\nurl = 'cabinet:{tmp_path / name}'\n" for name in ("papers", "letters", "nowhere")]
    (tmp_path / "penstock.toml").write_text("".join([repository, *backups]))
    penstock = Penstock(
        tmp_path,
        {
            "PYTHONPATH": str(tmp_path / "site"),
            "PENSTOCK_PASSPHRASE": PASSPHRASE,
        },
    )
    penstock("init")
    return penstock


@pytest.mark.parametrize("when", ["early", "late"])
def test_it_is_committed_and_named_and_has_an_exit_code_of_its_own(office: Penstock, tmp_path: Path, when: str) -> None:
    told: dict[str, Any] = {when: [VIEW, NEEDLESS]}
    done = office("backup", f"cabinet:{tmp_path / 'papers'}", code=52, **not_dumping(**told))
    assert "  Left out:\n    shop: view v: no table t\n" in done.stdout
    assert "penstock: error: the snapshot of papers is committed, without 1 object" in done.stderr
    assert "  shop: view v: no table t\n" in done.stderr
    assert "left out: shop: view v: no table t" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    office("restore", "latest", "--to", f"cabinet:{tmp_path / 'target'}")
    assert (tmp_path / "target").read_text() == "all papers"
    shown = office.json("show", "latest")["content"]["inspection"]["left_out"]
    assert shown == [{"kind": "view", "name": "v", "reason": "no table t", "database": "shop"}]
    assert "left out:\n  shop: view v: no table t\n" in office("show", "latest").stdout


def test_as_json_the_backup_has_both_a_snapshot_and_an_error(office: Penstock, tmp_path: Path) -> None:
    document = office.json("backup", f"cabinet:{tmp_path / 'papers'}", code=52, **not_dumping(early=[VIEW]))
    (one,) = document["backups"]
    assert one["snapshot"]
    assert (one["error"]["type"], one["error"]["exit_code"]) == ("BackedUpInPart", 52)
    assert document["error"] == one["error"]
    assert (one["left_out"][0]["name"], one["left_out"][0]["statement"], one["left_out_count"]) == ("v", None, 1)
    assert "hunter2" not in json.dumps(document)


def test_an_inspection_says_so_before(office: Penstock, tmp_path: Path) -> None:
    url = f"cabinet:{tmp_path / 'papers'}"
    assert "left out:\n  shop: view v: no table t\n" in office("inspect", url, **not_dumping(early=[VIEW])).stdout
    assert office.json("inspect", url, **not_dumping(early=[VIEW]))["left_out"][0]["statement"] is None
    assert "left out" not in office("inspect", url).stdout


def test_what_is_not_missing_afterwards_is_no_failure(office: Penstock, tmp_path: Path) -> None:
    done = office("backup", f"cabinet:{tmp_path / 'papers'}", **not_dumping(early=[NEEDLESS]))
    assert "Left out" not in done.stdout


def test_of_several_backups_each_that_is_not_whole_is_named(office: Penstock) -> None:
    done = office("backup", "papers", "letters", code=52, **not_dumping(early=[VIEW]))
    assert "penstock: error: 2 of 2 backups are not whole" in done.stderr
    assert "letters: the snapshot of letters is committed, without 1 object" in done.stderr
    document = office.json("backup", "papers", "nowhere", code=50, **not_dumping(early=[VIEW]))
    assert "2 of 2 backups failed or are not whole" in document["error"]["message"]
    assert [one["snapshot"] is None for one in document["backups"]] == [False, True]


def test_of_very_many_objects_the_manifest_names_some_and_all_are_counted(office: Penstock, tmp_path: Path) -> None:
    many = {**VIEW, "name": "v#", "times": 10_050}
    document = office.json("backup", f"cabinet:{tmp_path / 'papers'}", code=52, **not_dumping(late=[many]))
    (one,) = document["backups"]
    assert (len(one["left_out"]), one["left_out_count"]) == (10_000, 10_050)
    assert len(office.json("show", "latest")["content"]["inspection"]["left_out"]) == 1000
