"""Credentials that are replaced where they are kept, against a token service that knows two accounts."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from penstock.api import Deadline
from penstock.api.object_store.http import Http
from penstock_gcs import GcsSettings
from penstock_gcs.credentials import Authority
from penstock_gcs.refusals import service_of


class _Tokens(BaseHTTPRequestHandler):
    """A token for every assertion: their number."""

    given = 0

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        assert parse_qs(self.rfile.read(int(self.headers["Content-Length"])))[b"assertion"]
        type(self).given += 1
        body = json.dumps({"access_token": f"token{type(self).given}", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def token_service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Tokens", (_Tokens,), {"given": 0})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            thread.join()


def account(email: str, tokens: str) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    info = {"type": "service_account", "client_email": email, "private_key": pem, "token_uri": tokens}
    return json.dumps(info | {"project_id": "shop"})


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["credentials_file", "credentials_json", "environment"])
def test_a_key_that_was_replaced_in_its_file_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    place = tmp_path / "key.json"
    settings: dict[str, Any] = {"credentials_file": str(place)}
    if kept == "credentials_json":
        settings = {"credentials_json": {"command": ["cat", str(place)]}}
    if kept == "environment":
        settings = {}
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(place))
    chosen = GcsSettings.model_validate({"bucket": "shop", **settings})
    http = Http(service_of(chosen), ca=None, connect_timeout=5, read_timeout=5, connections=1)
    authority = Authority(chosen, http.pools)

    def token() -> str:
        return authority.headers("a", "GET", "https://storage.googleapis.com/", Deadline(20))["authorization"]

    with token_service() as tokens:
        place.write_text(account("first@shop", tokens))
        assert [token(), token()] == ["Bearer token1"] * 2
        assert not authority.kept.renew(authority.kept.generation)
        place.unlink()
        assert not authority.kept.renew(authority.kept.generation)
        assert token() == "Bearer token1"
        place.write_text(account("second@shop", tokens))
        before = authority.kept.generation
        assert authority.kept.renew(before)
        assert authority.kept.renew(before)  # for another thread that was refused with the former ones
        assert authority.kept.generation == before + 1
        assert token() == "Bearer token2"
    http.close()
