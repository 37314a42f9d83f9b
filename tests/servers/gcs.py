"""Google Cloud Storage for the tests: two emulators, which complement each other.

fake-gcs-server keeps the conditions on uploads and takes any checksum; gcp-storage-emulator compares the CRC32C and
ignores conditions. Both are installed by `tests/install-servers`. `PENSTOCK_TEST_GCS_URL` names a service from outside
in place of the first: `http://127.0.0.1:54443`. Without either, tests that need one are skipped, or fail where
`PENSTOCK_TEST_REQUIRE` names `gcs`.
"""

import json
import mmap
import os
import re
import secrets
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.servers.postgres import free_port, missing
from tests.servers.running import running, told_by

_ROOT = Path(__file__).parents[2]
#: Names a service from outside.
URL_VARIABLE = "PENSTOCK_TEST_GCS_URL"
_FAKE = _ROOT / ".servers" / "gcs" / "fake-gcs-server" / "fake-gcs-server"
_CHECKING = _ROOT / ".servers" / "gcs" / "gcp-storage-emulator"


@dataclass(frozen=True)
class GcsServer:
    """An emulator that runs, and what it is."""

    endpoint: str
    version: str

    def new_bucket(self) -> str:
        """A new bucket, which goes with the server."""
        name = f"penstock-{secrets.token_hex(6)}"
        request = urllib.request.Request(
            f"{self.endpoint}/storage/v1/b?project=penstock-test",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30):
            return name

    def settings(self, bucket: str, **more: Any) -> dict[str, Any]:
        """What a sink needs to be told to reach the bucket."""
        return {"bucket": bucket, "endpoint": self.endpoint, **more}


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """A server that keeps conditions: the one from outside, or fake-gcs-server."""
    if url := os.environ.get(URL_VARIABLE):
        yield GcsServer(url.rstrip("/"), told_by(url))
        return
    if not os.access(_FAKE, os.X_OK):
        missing("gcs", "fake-gcs-server is not installed: run tests/install-servers")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="penstock-gcs-") as folder:
        command = [
            str(_FAKE), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-log-level", "error",
            "-backend", "filesystem", "-filesystem-root", folder,
            "-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}",
        ]  # fmt: skip
        with running(command, f"http://127.0.0.1:{port}/storage/v1/b?project=x"):
            yield GcsServer(f"http://127.0.0.1:{port}", _version_of_fake())


@pytest.fixture(scope="session")
def gcs_with_checksums() -> Iterator[GcsServer]:
    """gcp-storage-emulator, which refuses a wrong CRC32C, and lets anything be overwritten."""
    if not (_CHECKING / "gcp_storage_emulator").is_dir():
        missing("gcs", "gcp-storage-emulator is not installed: run tests/install-servers")
    port = free_port()
    start = (
        "import sys; sys.path.insert(0, sys.argv[1]); from gcp_storage_emulator.server import create_server as make; "
        "make('127.0.0.1', int(sys.argv[2]), in_memory=True).run()"
    )
    command = [sys.executable, "-W", "ignore", "-c", start, str(_CHECKING), str(port)]
    with running(command, f"http://127.0.0.1:{port}/"):
        (told,) = _CHECKING.glob("gcp_storage_emulator-*.dist-info")
        version = told.name.removesuffix(".dist-info").partition("-")[2]
        yield GcsServer(f"http://127.0.0.1:{port}", f"gcp-storage-emulator {version}")


def _version_of_fake() -> str:
    # It has no option that tells it; Go writes what it builds into the program.
    with _FAKE.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
        found = re.search(rb"\nmod\tgithub\.com/fsouza/fake-gcs-server\tv([0-9.]+)", program)
        version = found.group(1).decode() if found else "of an unknown version"
    return f"fake-gcs-server {version}"
