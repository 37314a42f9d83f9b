"""What the settings make of requests, and what becomes of odd answers."""

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from plugins.sinks.s3.tests.scripted import Answer, Service, service
from tests.clock import clock
from tests.servers.s3 import S3Server

from penstock.api import SinkDenied, SinkError, SinkUnreachable
from penstock_s3 import S3Settings, S3Sink

pytestmark = pytest.mark.slow

__all__ = ["clock", "service"]  # fixtures


def make(values: dict[str, Any]) -> S3Sink:
    return S3Sink(S3Settings.model_validate(values))


@pytest.fixture
def settings(service: Service, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Those of a sink at the scripted service."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
    return {"bucket": "shop", "endpoint": f"http://127.0.0.1:{service.port}", "deadline": 30}


def test_storage_class_and_encryption_are_asked_for(moto: S3Server) -> None:
    bucket = moto.new_bucket()
    values = moto.settings(bucket, storage_class="STANDARD_IA", sse="aws:kms", kms_key="alias/backups")
    with closing(make(values)) as sink, closing(moto.client()) as client:
        sink.put("packs/a", b"x", if_absent=True)
        found = client.head_object(Bucket=bucket, Key="packs/a")
    assert found["StorageClass"] == "STANDARD_IA"
    assert found["ServerSideEncryption"] == "aws:kms"
    assert found["SSEKMSKeyId"] == "alias/backups"


def test_a_session_token_is_sent_and_never_logged(
    service: Service, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2secret")
    monkeypatch.setenv("MY_TOKEN", "hunter2token")
    references = {"secret_access_key": {"env": "MY_SECRET"}, "session_token": {"env": "MY_TOKEN"}}
    caplog.set_level(logging.DEBUG)
    with closing(make({**settings, "access_key_id": "AK", **references})) as sink:
        sink.put("a", b"x")
        service.script["PUT"] = [Answer(400, "ExpiredToken")]
        with pytest.raises(SinkDenied, match="expired"):
            sink.put("a", b"x")
    assert service.tokens == ["hunter2token"] * 2
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("kept", ["settings", "shared"])
def test_credentials_that_were_replaced_in_their_file_are_read_again(
    service: Service, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    shared = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    references = {
        "access_key_id": "AK",
        "secret_access_key": {"file": str(tmp_path / "secret")},
        "session_token": {"command": ["cat", str(tmp_path / "token")]},
    }

    def keep(token: str) -> None:
        (tmp_path / "secret").write_text(f"secret of {token}")
        (tmp_path / "token").write_text(token)
        shared.write_text(
            f"[default]\naws_access_key_id = AK\naws_secret_access_key = SK\naws_session_token = {token}\n"
        )

    keep("first")
    with closing(make({**settings, **(references if kept == "settings" else {})})) as sink:
        sink.put("a", b"1")
        service.script["PUT"] = [Answer(400, "ExpiredToken")]
        with pytest.raises(SinkDenied, match="expired"):
            sink.put("a", b"2")
        keep("second")
        service.script["PUT"] = [Answer(400, "ExpiredToken")]
        sink.put("a", b"3")
        assert sink.get("a") == b"3"
        (tmp_path / "secret").unlink()
        shared.unlink()
        service.script["PUT"] = [Answer(403, "InvalidAccessKeyId")]
        with pytest.raises(SinkDenied, match="unknown access key"):
            sink.put("a", b"4")
    assert service.tokens == ["first", "first", "first", "second", "second", "second"]


def test_a_service_that_keeps_the_framing_of_uploads_is_told_from_damage(
    service: Service, settings: dict[str, Any]
) -> None:
    with closing(make(settings)) as sink:
        sink.put("a", b'{"a": 1}')
        framed = b'8\r\n{"a": 1}\r\n0\r\nx-amz-checksum-crc32:6QkLuA==\r\n\r\n'
        service.objects["/shop/a"] = (framed, {})
        with pytest.raises(SinkError, match="kept the framing of the upload") as caught:
            sink.get("a")
    assert 'checksums = "when_required"' in str(caught.value.hint)
    assert not caught.value.retryable


def test_a_service_without_ranges_gives_the_range_all_the_same(service: Service, settings: dict[str, Any]) -> None:
    service.objects["/shop/a"] = (b"0123456789", {})
    with closing(make(settings)) as sink:
        assert sink.get("a", start=3, length=4) == b"3456"
        assert sink.get("a", start=8) == b"89"
        assert sink.get("a", start=20, length=1) == b""


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("given", ["bytes 0-3/100", "bytes 1-10/100", "bytes */100", "items 0-9"])
def test_a_range_that_was_not_asked_for_is_refused(service: Service, settings: dict[str, Any], given: str) -> None:
    service.objects["/shop/a"] = (b"0123", {"Content-Range": given})
    with closing(make(settings)) as sink, pytest.raises(SinkUnreachable, match="asked for bytes"):
        sink.get("a", length=10)


@pytest.mark.parametrize("values", [{"start": -1}, {"length": -1}])
def test_a_negative_range_is_refused(service: Service, settings: dict[str, Any], values: dict[str, int]) -> None:
    with closing(make(settings)) as sink, pytest.raises(SinkError, match="negative"):
        sink.get("a", **values)
    assert not service.requests
