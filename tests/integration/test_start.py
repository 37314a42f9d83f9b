"""What a run loads: help is quick, and nobody pays for an engine or a cloud that is not used."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.integration import databases
from tests.integration.cases import FilesystemCase
from tests.integration.running import COMMAND, Host

#: Each takes its time to import.
HEAVY = {
    *("pydantic", "pydantic_core", "cryptography", "psycopg", "rich", "boto3", "botocore", "google", "azure"),
    *("zstandard", "blake3", "pyfastcdc", "sqlite3", "pluggy", "asyncio", "ssl", "http", "tomllib"),
}
#: The distributions that a local backup of SQLite takes.
LOCAL = ("penstock-core", "penstock-sqlite", "penstock-filesystem")


def _needs(*distributions: str) -> set[str]:
    """The names of distributions and of all that they need, extras aside."""
    found: set[str] = set()
    rest = [canonicalize_name(name) for name in distributions]
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            for text in metadata.requires(name) or ():
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    rest.append(canonicalize_name(requirement.name))
    return found


@pytest.fixture(scope="module")
def foreign() -> set[str]:
    """The packages that come with other plugins alone: SDKs, drivers, and whatever these bring along."""
    plugins = {one.dist.name for one in metadata.entry_points(group="penstock.plugins") if one.dist is not None}
    distributions = _needs(*plugins - set(LOCAL)) - _needs(*LOCAL) - {canonicalize_name(name) for name in plugins}
    found = {
        package
        for package, owners in metadata.packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & distributions
    }
    assert {"boto3", "botocore", "urllib3", "google", "requests", "azure", "psycopg", "pymysql", "pymongo"} <= found
    return found


def _imported(host: Host, *arguments: str) -> set[str]:
    """Every module that a run imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(COMMAND), *arguments],
        cwd=host.folder,
        # Without those of coverage, which imports for itself.
        env={name: value for name, value in host.environment().items() if not name.startswith("COVERAGE_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + re.sub(r"(?m)^import time:.*\n", "", done.stderr)
    modules = set(re.findall(r"(?m)^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr))
    assert "penstock.cli.app" in modules
    return modules


def _roots(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("backup", "--help"), ("key", "--help")], ids=" ".join
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...], host: Host) -> None:
    modules = _imported(host, *arguments)
    # typer itself judges the values of options with pydantic; before a command is named there are none to judge.
    allowed = {"pydantic", "pydantic_core"} if len(arguments) > 1 else set()
    assert _roots(modules) & HEAVY <= allowed
    assert {module for module in modules if module.startswith(("penstock.", "penstock_"))} & {
        *("penstock.api", "penstock.engine", "penstock.repository", "penstock.format", "penstock.plugins"),
        *("penstock.settings", "penstock_postgres", "penstock_sqlite", "penstock_filesystem"),
    } == set()


def test_a_local_backup_loads_no_sdk_and_no_driver_of_another_engine(
    repository: FilesystemCase, host: Host, foreign: set[str]
) -> None:
    databases.make_sqlite(Path(host.folder / "shop.db"), 100)
    modules = _imported(host, "backup", "sqlite:shop.db")
    assert _roots(modules) & foreign == set()
    assert not [module for module in modules if re.fullmatch(r"penstock_\w+\.connection", module)]
    assert "penstock_sqlite.source" in modules
    assert len(repository.keys("snapshots/")) == 1


def test_help_loads_no_sdk_and_no_driver(host: Host, foreign: set[str]) -> None:
    assert _roots(_imported(host, "--help")) & foreign == set()
