"""Credentials, locks, pages and a whole backup."""

import json
import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.servers.gcs import GcsServer
from tests.servers.tampering import Act, TamperingProxy

from penstock.api import RestoreTarget, Secret, SinkDenied, SinkError, SinkUnreachable
from penstock.api.object_store import clock
from penstock.engine import backup, check, restore
from penstock.repository import Repository
from penstock.repository.snapshots import list_snapshots
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock_gcs import GcsSettings, GcsSink

pytestmark = pytest.mark.server


def make(server: GcsServer, bucket: str, **more: Any) -> GcsSink:
    return GcsSink(GcsSettings.model_validate(server.settings(bucket, **{"deadline": 30, **more})))


def service_account(token_uri: str) -> tuple[str, str]:
    """Credentials as Google hands them out, and the private key in them."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {"type": "service_account", "private_key": key.decode(), "token_uri": token_uri}
    return json.dumps(info | {"client_email": "writer@shop.example"}), key.decode()


def test_a_refused_key_is_said_and_not_shown(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with TamperingProxy(gcs.endpoint) as tokens:
        tokens.script = [Act("POST", status=400, body=b'{"error": "invalid_grant"}', stay=True)]
        text, key = service_account(f"{tokens.endpoint}/token")
        monkeypatch.setenv("GCS_TEST_KEY", text)
        (tmp_path / "key.json").write_text(text)
        for place in ({"credentials_json": {"env": "GCS_TEST_KEY"}}, {"credentials_file": tmp_path / "key.json"}):
            sink = GcsSink(GcsSettings.model_validate({"bucket": "shop", "deadline": 20, **place}))
            with closing(sink), pytest.raises(SinkDenied, match="invalid_grant") as caught:
                sink.put("a", b"x")
            assert key[40:80] not in "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
            assert key[40:80] not in repr(sink) + repr(sink.settings) + repr(vars(sink))


def test_tokens_that_cannot_be_had_are_an_unreachable_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCS_TEST_KEY", service_account("http://127.0.0.1:9/token")[0])
    values = {"bucket": "shop", "deadline": 2, "credentials_json": {"env": "GCS_TEST_KEY"}}
    with closing(GcsSink(GcsSettings.model_validate(values))) as sink, pytest.raises(SinkUnreachable, match="token"):
        sink.put("a", b"x")


def test_a_listing_goes_page_by_page(gcs: GcsServer) -> None:
    first = {"items": [{"name": "a", "size": "1", "timeCreated": "2026-01-01T00:00:00Z"}], "nextPageToken": "t/2"}
    with TamperingProxy(gcs.endpoint) as http, closing(make(gcs, gcs.new_bucket(), endpoint=http.endpoint)) as sink:
        http.script = [Act("GET", status=200, body=json.dumps(first).encode()), Act("GET", status=200, body=b"{}")]
        pages = sink.list()
        assert http.asked("GET") == 0
        assert next(pages).key == "a"
        assert http.asked("GET") == 1
        assert list(pages) == []
        assert "pageToken=t%2F2" in http.seen[-1].path


@pytest.mark.parametrize("mode", ["unlocked", "locked"])
def test_a_lock_is_part_of_the_put_and_lengthened_on_demand(gcs: GcsServer, mode: str) -> None:
    lock = {"object_lock": mode, "object_lock_days": 30, "event_based_hold": True, "storage_class": "NEARLINE"}
    with TamperingProxy(gcs.endpoint) as http:
        sink = make(gcs, gcs.new_bucket(), endpoint=http.endpoint, **lock)
        with closing(sink):
            sink.put("a", b"x")
            sent = json.loads(http.seen[-1].body.split(b"\r\n\r\n")[1].split(b"\r\n")[0])
            assert (sent["retention"]["mode"].lower(), sent["eventBasedHold"]) == (mode, True)
            assert sent["storageClass"] == "NEARLINE"
            until = datetime.fromisoformat(sent["retention"]["retainUntilTime"])
            assert abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
            sink.retain("a", datetime.now(UTC) + timedelta(days=7))
            assert http.asked("PATCH") == 0, "a longer lock is left as it is"
            http.script = [Act("PATCH", status=200, body=b"{}")]
            sink.retain("a", datetime.now(UTC) + timedelta(days=60))
            assert http.asked("PATCH") == 1
            assert json.loads(http.seen[-1].body)["retention"]["mode"].lower() == mode


def test_a_lock_goes_by_the_time_of_the_service(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_host_time", lambda: datetime.now(UTC) - timedelta(days=90))
    with TamperingProxy(gcs.endpoint) as http:
        bucket = gcs.new_bucket()
        with closing(make(gcs, bucket, endpoint=http.endpoint, object_lock="locked", object_lock_days=3)) as sink:
            sink.preflight()
            sink.put("a", b"x")
            sent = json.loads(http.seen[-1].body.split(b"\r\n\r\n")[1].split(b"\r\n")[0])
            until = datetime.fromisoformat(sent["retention"]["retainUntilTime"])
            assert abs(until - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=1)


def test_a_sink_without_locks_retains_nothing(gcs: GcsServer) -> None:
    with closing(make(gcs, "shop")) as sink, pytest.raises(SinkError, match="locks no objects"):
        sink.retain("a", datetime.now(UTC))


def test_nights_are_backed_up_checked_and_restored(gcs: GcsServer, tmp_path: Path) -> None:
    passphrase = Secret("correct horse battery staple")
    with closing(make(gcs, gcs.new_bucket(), prefix="db")) as sink:
        Repository.create(sink, passphrase=passphrase)
        nights = [
            backup(
                Repository.open(sink, passphrase),
                SyntheticSource(SyntheticSettings(size=24 * 2**20, streams=2, generation=generation)),
                name="shop", source_type="synthetic", cache_dir=tmp_path / "cache", memory=128 * 2**20,
                compression="auto", listener=lambda _: None,
            )
            for generation in range(2)
        ]  # fmt: skip
        assert nights[1].stored < nights[0].stored / 10, "the second night adds what changed"
        owner = Repository.open(sink, passphrase)
        assert not check(owner, read_data=True, cache_dir=None, listener=lambda _: None).findings
        for entry in list_snapshots(owner):
            target = SyntheticSource()
            restore(
                entry, target, target=RestoreTarget(), streams=None, verify_first=True,
                listener=lambda _: None,
            )  # fmt: skip
            assert sum(target.taken.values()) == 48 * 2**20
