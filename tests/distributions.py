"""Wheels of all distributions, and environments that hold them and nothing of this checkout. Built once a session."""

import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted(
    [ROOT / "pyproject.toml", ROOT / "core" / "pyproject.toml", *ROOT.glob("plugins/*/*/pyproject.toml")]
)
# Not compiled: most of what comes along is never imported.
_INSTALL = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile")


def run(*argv: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed, and return what it printed."""
    result = subprocess.run(
        [*map(str, argv)], cwd=cwd, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, f"{argv} gave {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


def build(projects: Iterable[Path], into: Path) -> None:
    """The wheels of projects, by the pinned backend, two at a time."""

    def one(project: Path) -> None:
        run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", into, project)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, projects))


def named(folder: Path) -> dict[str, Path]:
    """The wheels of a folder by the names of their distributions."""
    return {wheel.name.split("-")[0].replace("_", "-"): wheel for wheel in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One wheel per distribution, built with the pinned backend."""
    folder = tmp_path_factory.mktemp("wheels")
    build((manifest.parent for manifest in MANIFESTS), folder)
    return named(folder)


@pytest.fixture(scope="session")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The constraints without the hashes: pip does not match those with a requirement that has extras."""
    path = tmp_path_factory.mktemp("pins") / "constraints.txt"
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = [line.rstrip(" \\") + "\n" for line in pinned if not line.startswith((" ", "#"))]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def clean(wheels: dict[str, Path], pins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment with `penstock[all]` from the wheels, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=True)
    # By address, so that no index can slip in another distribution of the same name.
    requirements = folder / "requirements.txt"
    requirements.write_text(
        "".join(f"{'penstock[all]' if name == 'penstock' else name} @ {w.as_uri()}\n" for name, w in wheels.items()),
        encoding="utf-8",
    )
    binaries = folder / "venv" / "bin"
    run(binaries / "python", *_INSTALL, "-c", pins, "-r", requirements, cwd=folder)
    return binaries


def above(clean: Path, folder: Path, pins: Path, projects: list[Path], *more: str) -> Path:
    """The Python of a new environment that sees all of `clean`, with the wheels of `projects` and `more` on top."""
    build(projects, folder / "wheels")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (below,) = (clean.parent / "lib").glob("python*/site-packages")
    (packages / "below.pth").write_text(f"{below}\n", encoding="utf-8")
    wheels = named(folder / "wheels").values()
    run(clean / "python", "-m", "pip", "--python", python, *_INSTALL[2:], "-c", pins, *more, *wheels, cwd=folder)
    return python
