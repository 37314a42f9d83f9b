"""docker-compose.test.yml starts what the tests can use, and nothing that others can reach."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.servers import azure, gcs, mongodb, mysql, postgres, s3

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.test.yml"
COMPOSE = Path(sys.executable).parent / "docker-compose"
#: The variables that make fixtures use a service from outside.
READ = {
    *postgres.URL_VARIABLES.values(),
    *mysql.URL_VARIABLES.values(),
    *(module.URL_VARIABLE for module in (azure, gcs, mongodb, s3)),
}


def compose(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(COMPOSE), "-f", str(file), "config", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as compose itself understands them."""
    done = compose(FILE, "--format", "json")
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


@pytest.fixture(scope="module")
def assignments() -> dict[str, str]:
    """The variables that the file's comments tell to set."""
    return dict(re.findall(r"(?m)^ *# (PENSTOCK_TEST_[A-Z0-9_]+)=(\S+)$", FILE.read_text(encoding="utf-8")))


def test_the_file_is_valid() -> None:
    done = compose(FILE, "-q")
    assert done.returncode == 0, done.stderr


def test_a_key_that_there_is_not_would_be_noticed(tmp_path: Path) -> None:
    bad = tmp_path / "compose.yml"
    bad.write_text(FILE.read_text(encoding="utf-8").replace("healthcheck:", "health_check:"), encoding="utf-8")
    done = compose(bad, "-q")
    assert done.returncode == 1
    assert "health_check" in done.stderr


def test_every_service_publishes_on_loopback_alone(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service.get("network_mode") is None, name
        assert service["ports"], name
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}, name


def test_every_service_tells_when_it_is_ready_and_has_a_version(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert re.search(r":[^:]*[0-9][^:]*$", service["image"]), name


def test_the_variables_of_the_file_are_those_that_fixtures_read(assignments: dict[str, str]) -> None:
    assert assignments.keys() == READ


def test_no_fixture_reads_a_variable_that_is_not_told_of() -> None:
    """Each module has its variables as constants, and these are what it asks the environment for."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "servers").glob("*.py"))
    asked = re.findall(r"os\.environ(?:\.get)?[\[(]([^\])]+?)[,\])]", text)
    assert {name for name in asked if "URL" in name} == {"URL_VARIABLE", "URL_VARIABLES[major", "URL_VARIABLES[vendor"}
    assert {name.strip('"') for name in asked if "PENSTOCK" in name} == {"PENSTOCK_TEST_REQUIRE"}


def test_every_variable_leads_to_a_service_and_every_service_has_one(
    assignments: dict[str, str], services: dict[str, Any]
) -> None:
    published = {f"{port['host_ip']}:{port['published']}" for one in services.values() for port in one["ports"]}
    assert {urlsplit(url).netloc.rpartition("@")[2] for url in assignments.values()} == published


def test_there_is_a_service_for_everything_that_the_matrix_has(services: dict[str, Any]) -> None:
    names = {*(f"postgres-{major}" for major in postgres.MAJORS), *mysql.VENDORS, "mongodb", "s3", "gcs", "azure"}
    assert services.keys() == names
