"""What a restore would do, and what it leaves out: said before, named afterwards, its statement written down."""

import json
from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.cabinet import install_cabinet, leaving_out
from core.tests.cli.running import PASSPHRASE, Penstock
from core.tests.cli.terminals import on_terminal

pytestmark = pytest.mark.slow

VIEW = {
    "kind": "view",
    "name": "public.v",
    "reason": "no function f",
    "statement": "CREATE VIEW v;",
    "database": "shop",
}
USER = {"kind": "role", "name": "app", "reason": "reserved", "statement": "CREATE ROLE app 'hunter2';", "secret": True}
NEEDLESS = {"kind": "comment", "name": "plpgsql", "reason": "there already", "lost": False}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Penstock:
    """A repository with one snapshot of a cabinet."""
    folder = tmp_path_factory.mktemp("office")
    install_cabinet(folder / "site")
    (folder / "papers").write_text("all of them")
    penstock = Penstock(
        folder,
        {
            "PYTHONPATH": str(folder / "site"),
            "PENSTOCK_REPOSITORY": f"file://{folder / 'repository'}",
            "PENSTOCK_PASSPHRASE": PASSPHRASE,
        },
    )
    penstock("init")
    penstock("backup", "cabinet:papers")
    return penstock


@pytest.fixture
def target(office: Penstock, tmp_path: Path) -> Path:
    return tmp_path / "target"


def restore(target: Path, *more: str) -> tuple[str, ...]:
    return ("restore", "latest", "--to", f"cabinet:{target}", *more)


def test_a_dry_run_shows_steps_needs_and_what_would_be_left_out_and_changes_nothing(
    office: Penstock, target: Path
) -> None:
    told = leaving_out(early=[VIEW, USER, NEEDLESS])
    done = office(*restore(target, "--dry-run"), **told)
    assert done.stdout.splitlines()[1:] == [
        "  make the cabinet",
        "  fill it",
        "Needed:",
        "  role archivist: there",
        "  extension drawers: missing: views need it",
        "  space 1 GB: unknown",
        "Left out:",
        "  shop: view public.v: no function f",
        "  role app: reserved",
        "  comment plpgsql: there already (nothing is missing)",
        "Nothing was changed.",
    ]
    assert done.stdout.startswith("Snapshot ")
    assert "hunter2" not in done.stdout + done.stderr
    assert not target.exists()


def test_a_dry_run_as_json_has_all_of_the_plan_and_no_secret(office: Penstock, target: Path) -> None:
    document = office.json(*restore(target, "--dry-run"), **leaving_out(early=[VIEW, USER]))
    assert document["steps"] == [
        {"action": "make the cabinet", "stream": ""},
        {"action": "fill it", "stream": "papers"},
    ]
    assert [need["met"] for need in document["needs"]] == [True, False, None]
    assert [one["statement"] for one in document["left_out"]] == ["CREATE VIEW v;", None]
    assert document["streams"] == ["papers"]
    assert "hunter2" not in json.dumps(document)
    assert not target.exists()


def test_a_dry_run_writes_the_statements_to_a_file_that_is_asked_for(office: Penstock, target: Path) -> None:
    rejects = target.with_suffix(".sql")
    office(*restore(target, "--dry-run", "--rejects", str(rejects)), **leaving_out(early=[VIEW, USER, NEEDLESS]))
    text = rejects.read_text()
    assert text == (
        "-- shop: view public.v: no function f\nCREATE VIEW v;\n\n-- role app: reserved\nCREATE ROLE app 'hunter2';\n\n"
    )
    assert rejects.stat().st_mode & 0o777 == 0o600
    assert not target.exists()


def test_a_dry_run_is_refused_for_what_a_restore_is_refused_for(office: Penstock, target: Path) -> None:
    target.write_text("taken")
    office(*restore(target, "--dry-run"), code=47)
    office(*restore(target, "--dry-run", "--clean"))
    assert target.read_text() == "taken"


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_left_out_object_is_named_and_costs_only_itself(office: Penstock, target: Path, when: str) -> None:
    told: dict[str, Any] = {when: [VIEW, NEEDLESS]}
    done = office(*restore(target), code=51, **leaving_out(**told))
    assert target.read_text() == "all of them"
    assert "Left out:\n  shop: view public.v: no function f\n    CREATE VIEW v;\n" in done.stdout
    assert "penstock: error: the restore is in place, without 1 object" in done.stderr
    assert "left out: shop: view public.v: no function f" in done.stderr
    assert (done.stdout.count("public.v"), done.stderr.count("public.v")) == (1, 1)


def test_what_was_left_out_is_named_once_on_a_terminal(office: Penstock, target: Path) -> None:
    code, seen = on_terminal(office, *restore(target), answers=[], **leaving_out(early=[VIEW], late=[USER]))
    assert code == 51
    assert (seen.count("public.v"), seen.count("reserved")) == (1, 1)
    assert "without 2 objects" in seen


def test_what_is_not_missing_afterwards_is_no_failure(office: Penstock, target: Path) -> None:
    done = office(*restore(target), **leaving_out(early=[NEEDLESS]))
    assert "Left out" not in done.stdout
    assert "not needed: comment plpgsql: there already" in done.stderr


def test_a_secret_statement_is_in_the_file_alone(office: Penstock, target: Path) -> None:
    rejects = target.with_suffix(".sql")
    document = office.json(
        *restore(target, "--rejects", str(rejects)), code=51, **leaving_out(early=[USER], late=[VIEW])
    )
    assert [one["statement"] for one in document["left_out"]] == [None, "CREATE VIEW v;"]
    assert document["rejects"] == str(rejects)
    assert "hunter2" not in json.dumps(document)
    assert rejects.stat().st_mode & 0o777 == 0o600
    assert "CREATE ROLE app 'hunter2';" in rejects.read_text()
    target.unlink()
    done = office(*restore(target), code=51, **leaving_out(early=[USER]))
    assert "hunter2" not in done.stdout + done.stderr
    target.unlink()
    more = rejects.with_suffix(".more")
    done = office(*restore(target, "--rejects", str(more)), code=51, **leaving_out(early=[USER]))
    assert "hunter2" not in done.stdout + done.stderr
    assert f"The statements that repeat them are in {more}" in done.stdout


@pytest.mark.parametrize("place", ["existing", "missing/rejects.sql"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_file_for_statements_that_cannot_be_made_is_refused_first(
    office: Penstock, target: Path, place: str, dry: tuple[str, ...]
) -> None:
    (target.parent / "existing").write_text("of mine")
    done = office(*restore(target, "--rejects", str(target.parent / place), *dry), code=2, **leaving_out(late=[VIEW]))
    assert "cannot make the file" in done.stderr
    assert (target.parent / "existing").read_text() == "of mine"
    assert not target.exists()


@pytest.mark.parametrize("when", ["early", "late"])
def test_strict_is_all_or_nothing(office: Penstock, target: Path, when: str) -> None:
    told: dict[str, Any] = {when: [VIEW]}
    rejects = target.with_suffix(".sql")
    done = office(*restore(target, "--strict", "--rejects", str(rejects)), code=49, **leaving_out(**told))
    assert "shop: view public.v: no function f" in done.stderr
    assert "restore without --strict" in done.stderr
    assert not target.exists()
    assert not target.with_suffix(".half").exists()
    # What could not be restored is in the file only if the restore got so far; an empty one would be in the way.
    assert rejects.exists() is (when == "late")


def test_a_restore_that_leaves_nothing_out_leaves_no_file(office: Penstock, target: Path) -> None:
    rejects = target.with_suffix(".sql")
    document = office.json(*restore(target, "--strict", "--rejects", str(rejects)))
    assert (document["left_out"], document["rejects"]) == ([], None)
    assert not rejects.exists()


def test_of_very_many_objects_some_are_told_more_are_kept_and_all_are_counted(office: Penstock, target: Path) -> None:
    many = {**VIEW, "name": "v#", "times": 10_050}
    rejects = target.with_suffix(".sql")
    document = office.json(*restore(target, "--rejects", str(rejects)), code=51, **leaving_out(late=[many]))
    assert (len(document["left_out"]), document["left_out_count"]) == (10_000, 10_050)
    assert rejects.read_text().count("CREATE VIEW v;") == 10_050
    target.unlink()
    done = office(*restore(target), code=51, **leaving_out(late=[many]))
    assert "  and 50 more\n" in done.stdout
    assert done.stderr.count("left out: ") == 100
