"""Each thing that is looked for before a dump has a name, a reason, and a database that shows it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from plugins.sources.sqlite.tests.bank import make_bank, source

from penstock.api import found_by
from penstock_sqlite import inventory
from penstock_sqlite.checks import CHECKS
from penstock_sqlite.settings import CheckName, SqliteSettings
from penstock_sqlite.view import View

SOUND = {
    "leaves_files": False, "journal_mode": "wal", "copied": False, "immutable": False, "damage": (), "unreadable": (),
    "unchecked": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("leaves-files", {"leaves_files": True}),
        ("writers-wait", {"journal_mode": "delete"}),
        ("damaged", {"damage": ("row 1 missing from index x", "and more")}),
        ("unreadable-table", {"unreadable": ("table t cannot be read: malformed",)}),
        ("unchecked", {"unchecked": "no such collation sequence: mine"}),
    ],
)
def test_each_check_finds_what_it_is_named_after(name: str, answer: dict[str, object]) -> None:
    found = {check.name: [*check.find({**SOUND, **answer})] for check in CHECKS}
    assert [check for check, said in found.items() if said] == [name]
    quiet = SqliteSettings.model_validate({"path": "a.db", "warnings": {"ignore": [name]}})
    assert [*found_by(CHECKS, {**SOUND, **answer}, quiet.warnings)] == []
    loud = SqliteSettings.model_validate({"path": "a.db"})
    assert [*found_by(CHECKS, {**SOUND, **answer}, loud.warnings)] == [f"{said} [{name}]" for said in found[name]]
    assert [*found_by(CHECKS, SOUND, loud.warnings)] == []


def test_the_settings_know_all_names_and_each_has_a_reason() -> None:
    assert tuple(check.name for check in CHECKS) == get_args(CheckName)
    assert all(check.reason for check in CHECKS)


def test_a_collation_that_only_the_application_has_is_said_before_the_dump(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "collated.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t(a TEXT COLLATE mine UNIQUE)")
        connection.execute("INSERT INTO t VALUES ('x')")
    (warning,) = source(tmp_path / "collated.db").inspect().warnings
    assert "no such collation sequence: mine" in warning


def test_a_glance_that_takes_too_long_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with bank.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xa5" * 4096 * 20)
    monkeypatch.setattr(inventory, "_STEPS_BETWEEN_CALLS", 1)
    with View(str(bank), 0) as view:
        assert inventory.glance(view, on_wait=lambda: None, seconds=-1) == ((), "")
        damage, unchecked = inventory.glance(view, on_wait=lambda: None)
    assert damage
    assert not unchecked
