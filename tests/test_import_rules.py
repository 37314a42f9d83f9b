"""The import rules of pyproject.toml hold, and would catch a violation."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
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


@pytest.mark.slow
def test_the_packages_keep_the_import_rules() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, by Tarjan's algorithm."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        path.append(module)
        for other in imports[module]:
            if other not in numbers:
                visit(other)
            if other in path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == numbers[module]:
            group = path[path.index(module) :]
            del path[path.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in imports:
        if module not in numbers:
            visit(module)
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_no_modules_import_each_other(package: str) -> None:
    """Imports inside functions and those for type checkers count as well."""
    graph = grimp.build_graph(package, cache_dir=None)
    assert circles({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """All packages side by side in one folder, with the same rules."""
    for package, source in SOURCES.items():
        shutil.copytree(source / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "forbidden", "rule"),
    [
        ("penstock/api", "penstock.format", "layers"),
        ("penstock/format", "penstock.repository", "layers"),
        ("penstock/repository", "penstock.engine", "layers"),
        ("penstock/engine", "penstock.workspace", "layers"),
        ("penstock/workspace", "penstock.cli", "layers"),
        ("penstock/repository", "penstock.workspace", "layers"),
        ("penstock/settings", "penstock.workspace", "plugins-and-settings-users"),
        ("penstock/plugins", "penstock.settings", "plugins-and-settings-users"),
        ("penstock/engine", "penstock.settings", "engine-without-settings"),
        ("penstock/engine", "penstock.plugins", "engine-without-plugins"),
        ("penstock/workspace", "rich", "workspace-says-nothing"),
        ("penstock/workspace", "getpass", "workspace-says-nothing"),
        ("penstock/settings", "penstock.format", "settings-and-format"),
        ("penstock/repository", "penstock.settings", "settings-and-repository"),
        ("penstock/repository", "penstock.plugins", "plugins-and-repository"),
        ("penstock/format", "penstock.plugins", "plugins-and-format"),
        ("penstock/format", "penstock.settings", "settings-and-format"),
        ("penstock/engine", "penstock.testing", "testing-stays-out"),
        ("penstock_sqlite", "penstock.engine", "plugins-use-the-api"),
        ("penstock_sqlite", "penstock.workspace", "plugins-use-the-api"),
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
