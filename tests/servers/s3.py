"""S3 for the tests: a real one (Ceph's gateway, or one from outside), and moto, quick but gullible.

`PENSTOCK_TEST_S3_URL` names a service from outside, with its keys: `http://key:secret@127.0.0.1:59000`. Without it, and
without Ceph (see `tests/install-servers`), tests that need a real one are skipped, or fail where
`PENSTOCK_TEST_REQUIRE` names `s3`. moto comes with the development dependencies and is always there. It takes every
secret and every checksum, and keeps all in memory: never the only witness.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.servers.ceph import PROGRAMS, Ceph
from tests.servers.postgres import free_port, missing
from tests.servers.running import told_by

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Names a service from outside.
URL_VARIABLE = "PENSTOCK_TEST_S3_URL"
#: A base64 secret as AWS makes them, with the characters that get mangled in URLs.
SECRET_KEY = "wJalr/XUtnFEMI+K7MDENG/bPxRfiCYPENSTOCKTEST"
ACCESS_KEY = "PENSTOCKTESTACCESS"


@dataclass(frozen=True)
class S3Server:
    """A service that runs, and what it is. `tls_endpoint` and `ca` are None where it speaks no TLS."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    secret_file: Path
    version: str
    tls_endpoint: str | None = None
    ca: Path | None = None
    #: Makes a user of this name, with an access key and a secret; None where that cannot be done.
    add_user: Callable[[str, str, str], None] | None = field(default=None, repr=False)

    def client(self) -> "S3Client":
        """A client of its own, that is no part of what is tested."""
        import boto3.session
        from botocore.config import Config

        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=20),
        )
        return client

    def new_bucket(self, *, lock: bool = False) -> str:
        """A new bucket; with `lock`, one whose objects can be locked. It goes with the server."""
        name = f"penstock-{secrets.token_hex(6)}"
        client = self.client()
        try:
            client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        finally:
            client.close()
        return name

    def settings(self, bucket: str, **more: Any) -> dict[str, Any]:
        """What a sink needs to be told to reach the bucket."""
        return {
            "bucket": bucket,
            "endpoint": self.endpoint,
            "access_key_id": self.access_key,
            "secret_access_key": {"file": str(self.secret_file)},
            **more,
        }


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Ceph's gateway, with TLS on a second port."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        missing("s3", f"Ceph is not installed ({', '.join(lacking)}): run tests/install-servers")
    cluster = Ceph()
    try:
        cluster.start(ACCESS_KEY, SECRET_KEY)
        yield S3Server(
            f"http://127.0.0.1:{cluster.port}", ACCESS_KEY, SECRET_KEY, _secret_file(tmp_path_factory, SECRET_KEY),
            cluster.version, f"https://127.0.0.1:{cluster.tls_port}", cluster.certificate, cluster.add_user,
        )  # fmt: skip
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> S3Server:
    """A real service: the one from outside, or Ceph."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        server: S3Server = request.getfixturevalue("ceph")
        return server
    parts = urlsplit(url)
    secret = unquote(parts.password or "")
    endpoint = f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    secret_file = _secret_file(tmp_path_factory, secret)
    return S3Server(endpoint, unquote(parts.username or ""), secret, secret_file, told_by(endpoint))


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """moto's server, in a process of its own."""
    with _moto_process() as port:
        secret_file = _secret_file(tmp_path_factory, SECRET_KEY)
        version = f"moto {metadata.version('moto')}"
        yield S3Server(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY, secret_file, version)


@contextmanager
def _moto_process() -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        if shutil.which("setpriv"):  # the kernel stops it when the test session is killed
            command = ["setpriv", "--pdeathsig=KILL", *command]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COVERAGE_"))},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 240
            while True:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5):
                    break
                if child.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"moto did not start:\n{log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.1)
            yield port
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()


def _secret_file(folders: pytest.TempPathFactory, secret: str) -> Path:
    path = folders.mktemp("s3") / "secret"
    path.touch(mode=0o600)
    path.write_text(secret + "\n", encoding="utf-8")
    return path
