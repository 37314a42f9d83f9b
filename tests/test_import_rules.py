"""The import rules of pyproject.toml hold, and would catch a violation."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"penstock": ROOT / "core" / "src"} | {
    package.name: package.parent for package in ROOT.glob("plugins/*/*/src/*") if (package / "__init__.py").exists()
}
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
RULES: dict[str, str] = {contract["id"]: contract["name"] for contract in CONTRACTS}


def lint_imports(folder: Path, *search_path: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in `folder`, with `search_path` before the installed packages."""
    run = "import sys; sys.path[:0] = sys.argv[1:]; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    return subprocess.run(
        [sys.executable, "-c", run, *map(str, search_path)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_packages_keep_the_import_rules() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """All packages side by side in one folder, with the same rules."""
    for package, source in SOURCES.items():
        shutil.copytree(source / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "forbidden", "rule"),
    [
        ("penstock/api", "penstock.format", "layers"),
        ("penstock/format", "penstock.repository", "layers"),
        ("penstock/repository", "penstock.engine", "layers"),
        ("penstock/engine", "penstock.cli", "layers"),
        ("penstock/plugins", "penstock.engine", "plugins-and-settings-users"),
        ("penstock/settings", "penstock.format", "settings-and-format"),
        ("penstock/repository", "penstock.settings", "settings-and-repository"),
        ("penstock/repository", "penstock.plugins", "plugins-and-repository"),
        ("penstock/format", "penstock.plugins", "plugins-and-format"),
        ("penstock/format", "penstock.settings", "settings-and-format"),
        ("penstock/engine", "penstock.testing", "testing-stays-out"),
        ("penstock_sqlite", "penstock.engine", "plugins-use-the-api"),
        ("penstock_postgres", "penstock.testing", "plugins-use-the-api"),
        ("penstock_filesystem", "penstock_sqlite", "plugins-independent"),
        ("penstock/cli", "penstock_sqlite", "core-knows-no-plugin"),
    ],
)
def test_a_forbidden_import_is_caught(copy: Path, module: str, forbidden: str, rule: str) -> None:
    (copy / module / "trespass.py").write_text(f"import {forbidden}\n", encoding="utf-8")
    result = lint_imports(copy, copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{RULES[rule]} BROKEN" in " ".join(result.stdout.split())
