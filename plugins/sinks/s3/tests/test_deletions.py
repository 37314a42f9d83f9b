"""Deletion at services that answer as no real one at hand does."""

from contextlib import closing
from typing import Any

import pytest
from plugins.sinks.s3.tests.scripted import Answer, Service, service

from penstock.api import ObjectLocked, SinkDenied
from penstock_s3 import S3Settings, S3Sink

__all__ = ["service"]  # a fixture


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def make(service: Service, **more: Any) -> S3Sink:
    values = {"bucket": "bucket", "endpoint": f"http://127.0.0.1:{service.port}", "conditional_put": "yes"}
    return S3Sink(S3Settings.model_validate({**values, "deadline": 20, **more}))


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (405, "MethodNotAllowed")])
def test_a_service_that_knows_no_versions_is_asked_once(service: Service, status: int, code: str) -> None:
    with closing(make(service)) as sink:
        for key in ("a", "b"):
            sink.put(key, b"x")
        service.script["GET"] = [Answer(status, code)]
        sink.delete("a")
        sink.delete("b")
    assert service.objects == {}
    assert [path for method, path in service.requests if method == "GET"] == ["/bucket?versioning"]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "ObjectLockedByBucketPolicy", "The object is locked by the bucket policy"),
        (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten"),
        (403, "AccessDenied", "Access Denied because object protected by object lock."),
    ],
)
def test_a_lock_that_is_only_told_in_words_has_no_time(service: Service, status: int, code: str, words: str) -> None:
    with closing(make(service)) as sink:
        sink.put("a", b"x")
        service.script["DELETE"] = [Answer(status, code, words=words)]
        service.script["GET"] = [Answer(501, "NotImplemented") for _ in range(3)]
        with pytest.raises(ObjectLocked, match="nobody knows") as caught:
            sink.delete("a")
        assert caught.value.locked == {"a": None}
        assert sink.get("a") == b"x"


@pytest.mark.usefixtures("keys")
def test_a_denial_is_no_lock(service: Service) -> None:
    with closing(make(service)) as sink:
        sink.put("a", b"x")
        service.script["DELETE"] = [Answer(403, "AccessDenied", words="Access Denied")]
        with pytest.raises(SinkDenied, match="access denied") as caught:
            sink.delete("a")
        assert "s3:DeleteObject " in str(caught.value.hint)
