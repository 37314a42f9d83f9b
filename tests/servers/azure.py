"""Azure Blob Storage for the tests: Azurite, or a service from outside.

Azurite comes with `tests/install-servers`. `PENSTOCK_TEST_AZURE_URL` names a service from outside, with account and
key: `http://account:key@127.0.0.1:54100/account`. Without either, tests that need one are skipped, or fail where
`PENSTOCK_TEST_REQUIRE` names `azure`. Azurite knows neither immutability policies nor Azure's identities.
"""

import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.servers.certificate import write_certificate
from tests.servers.postgres import free_port, missing
from tests.servers.running import running, told_by

_ROOT = Path(__file__).parents[2]
#: Names a service from outside.
URL_VARIABLE = "PENSTOCK_TEST_AZURE_URL"
_AZURITE = _ROOT / ".servers" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "penstocktest"


@dataclass(frozen=True)
class AzureServer:
    """A service that runs, and what it is. `ca` is None where it speaks no TLS, or has a certificate that all trust."""

    endpoint: str
    account: str
    key: str = field(repr=False)
    key_file: Path
    version: str
    ca: Path | None = None

    def client(self) -> Any:
        """A client of its own, that is no part of what is tested."""
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.storage.blob import BlobServiceClient

        credential = AzureNamedKeyCredential(self.account, self.key)
        verify = True if self.ca is None else str(self.ca)
        return BlobServiceClient(self.endpoint, credential=credential, connection_verify=verify)

    def new_container(self) -> str:
        """A new container, which goes with the server."""
        name = f"penstock-{secrets.token_hex(6)}"
        with self.client() as client:
            client.create_container(name)
        return name

    def settings(self, container: str, **more: Any) -> dict[str, Any]:
        """What a sink needs to be told to reach the container, with the account's key unless `more` says otherwise."""
        given = {"account_key", "sas_token", "connection_string"} & more.keys()
        key = {} if given else {"account_key": {"file": str(self.key_file)}}
        place = {} if "connection_string" in more else {"endpoint": self.endpoint}
        ca = {} if self.ca is None else {"tls_ca": str(self.ca)}
        return {"account": self.account, "container": container, **place, **key, **ca, **more}


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """The service from outside, or Azurite."""
    if url := os.environ.get(URL_VARIABLE):
        parts = urlsplit(url)
        key = unquote(parts.password or "")
        endpoint = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        yield AzureServer(
            endpoint, unquote(parts.username or ""), key, _key_file(tmp_path_factory, key), told_by(endpoint)
        )
    else:
        with _azurite(tmp_path_factory, tls=False) as server:
            yield server


@pytest.fixture(scope="session")
def azure_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """Azurite with TLS."""
    with _azurite(tmp_path_factory, tls=True) as server:
        yield server


@contextmanager
def _azurite(folders: pytest.TempPathFactory, *, tls: bool) -> Iterator[AzureServer]:
    node = shutil.which("node")
    if node is None or not _AZURITE.is_file():
        missing("azure", "Azurite is not installed: run tests/install-servers")
    port = free_port()
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    with tempfile.TemporaryDirectory(prefix="penstock-azurite-") as folder:
        command = [
            node, str(_AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder,
            "--silent", "--disableTelemetry", "--skipApiVersionCheck",
        ]  # fmt: skip
        ca = None
        if tls:
            ca, private = Path(folder, "certificate.pem"), Path(folder, "key.pem")
            write_certificate(ca, private)
            command += ["--cert", str(ca), "--key", str(private), "--oauth", "basic"]
        address = f"{'https' if tls else 'http'}://127.0.0.1:{port}/{ACCOUNT}"
        with running(command, address, ca=ca, AZURITE_ACCOUNTS=f"{ACCOUNT}:{key}"):
            yield AzureServer(address, ACCOUNT, key, _key_file(folders, key), told_by(address, ca), ca)


def _key_file(folders: pytest.TempPathFactory, key: str) -> Path:
    path = folders.mktemp("azure") / "key"
    path.touch(mode=0o600)
    path.write_text(key + "\n", encoding="utf-8")
    return path
