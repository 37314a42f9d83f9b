"""The wheels alone, in a clean environment, are a working Penstock."""

import json
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.distributions import MANIFESTS, ROOT, run


@pytest.mark.slow
def test_every_distribution_builds_a_wheel(wheels: dict[str, Path]) -> None:
    names = {tomllib.loads(manifest.read_text(encoding="utf-8"))["project"]["name"] for manifest in MANIFESTS}
    assert set(wheels) == names


@pytest.mark.slow
def test_every_wheel_carries_the_licence_and_every_package_its_type_marker(wheels: dict[str, Path]) -> None:
    for name, wheel in wheels.items():
        contents = zipfile.ZipFile(wheel).namelist()
        assert any(member.endswith(".dist-info/licenses/LICENSE") for member in contents), name
        modules = [member for member in contents if ".dist-info/" not in member]
        if name == "penstock":
            assert modules == [], "the umbrella has no module of its own"
        else:
            assert {member.split("/")[0] + "/py.typed" for member in modules} <= set(contents), name


@pytest.mark.slow
def test_the_clean_environment_has_no_conflicting_dependencies(clean: Path) -> None:
    run(clean / "python", "-m", "pip", "--disable-pip-version-check", "check")


@pytest.mark.slow
def test_time_zones_need_no_files_of_the_system(clean: Path, tmp_path: Path) -> None:
    """Slim images of containers have none."""
    of_their_own = "import zoneinfo; zoneinfo.reset_tzpath([]); print(zoneinfo.ZoneInfo('Europe/Berlin').key)"
    assert "Europe/Berlin" in run(clean / "python", "-c", of_their_own, cwd=tmp_path)


@pytest.mark.slow
def test_the_installed_command_tells_its_version(clean: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert version in run(clean / "penstock", "--version", cwd=tmp_path)


@pytest.mark.slow
def test_the_installed_command_has_help(clean: Path, tmp_path: Path) -> None:
    assert "backup" in run(clean / "penstock", "--help", cwd=tmp_path)


@pytest.mark.slow
def test_the_installed_command_finds_every_bundled_plugin(clean: Path, tmp_path: Path) -> None:
    listed = names_in(json.loads(run(clean / "penstock", "plugins", "--json", cwd=tmp_path)))
    assert {"filesystem", "postgres", "sqlite"} <= listed


def names_in(document: object) -> set[str]:
    """Every `name` in a JSON document, at any depth."""
    if isinstance(document, dict):
        own = {document["name"]} if isinstance(document.get("name"), str) else set()
        return own.union(*map(names_in, document.values()))
    return set().union(*map(names_in, document)) if isinstance(document, list) else set()


def test_every_distribution_has_the_same_licence_text() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for manifest in MANIFESTS:
        assert (manifest.parent / "LICENSE").read_text(encoding="utf-8") == licence, manifest.parent.name


def test_the_umbrella_pins_every_member_to_its_version() -> None:
    umbrella, *members = (tomllib.loads(manifest.read_text(encoding="utf-8"))["project"] for manifest in by_depth())
    pinned = {*umbrella["dependencies"], *(p for group in umbrella["optional-dependencies"].values() for p in group)}
    assert {f"{member['name']}=={member['version']}" for member in members} <= pinned


def by_depth() -> list[Path]:
    """The manifests, the root's first."""
    return sorted(MANIFESTS, key=lambda manifest: len(manifest.parts))


def test_the_constraints_hold_no_addresses() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert " @ " not in text
    assert "--index" not in text
