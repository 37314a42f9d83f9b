from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.api import Capability, SettingsError, UsageError
from penstock_gcs import GcsSettings, GcsSink


def settings(**values: Any) -> GcsSettings:
    return GcsSettings.model_validate({"bucket": "shop-backups", **values})


def test_a_url_stands_for_settings() -> None:
    assert GcsSink.settings_from_url("gs://shop-backups/db/nightly/?endpoint=https://gcs.example.org&project=shop") == {
        "bucket": "shop-backups",
        "prefix": "db/nightly",
        "endpoint": "https://gcs.example.org",
        "project": "shop",
    }
    made = settings(**GcsSink.settings_from_url("gs://b-b?deadline=90&object_lock=locked&object_lock_days=30"))
    assert (made.bucket, made.deadline, made.object_lock_days) == ("b-b", 90.0, 30)


@pytest.mark.parametrize(
    "url",
    [
        "gs://me:hunter2secret@bucket/prefix",
        "gs://bucket:hunter2secret/prefix",
        "gs://bucket?credentials_json=hunter2secret",
        "gs://bucket?key=hunter2secret",
        "gs://[hunter2secret/x",
        "gs:///prefix?project=hunter2secret",
        "gs://bucket/prefix#hunter2secret",
        "gs://bucket?project=a&project=hunter2secret",
        "gs://bucket/p?prefix=hunter2secret",
    ],
)
def test_a_url_with_credentials_or_without_sense_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        GcsSink.settings_from_url(url)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"credentials_json": {"env": "X"}, "credentials_file": "/x"}, "exclude each other"),
        ({"credentials_json": {"env": "X"}, "anonymous": True}, "not sent"),
        ({"credentials_file": "/x", "endpoint": "http://host"}, "not sent"),
        ({"credentials_json": "hunter2secret"}, "secret"),
        ({"object_lock": "locked"}, "object_lock_days"),
        ({"object_lock_days": 3}, "object_lock"),
        ({"endpoint": "localhost:9000"}, "https://host"),
        ({"endpoint": "https://user:pass@host"}, "https://host"),
        ({"endpoint": "ftp://host"}, "https://host"),
        ({"endpoint": "https://host:99999"}, "https://host"),
        ({"kms_key": "mine"}, "kms_key"),
        ({"prefix": "a//b"}, "single slashes"),
        ({"prefix": "../b"}, "single slashes"),
        ({"bucket": "A/b"}, "bucket"),
        ({"deadline": 0}, "deadline"),
    ],
)
def test_settings_without_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        settings(**values)
    assert "hunter2" not in str(caught.value)


def test_only_a_sink_that_locks_says_that_it_can() -> None:
    assert GcsSink(settings()).capabilities() == {Capability.CONDITIONAL_PUT}
    locking = GcsSink(settings(object_lock="unlocked", object_lock_days=3))
    assert locking.capabilities() == {Capability.CONDITIONAL_PUT, Capability.OBJECT_LOCK}
    assert locking.capabilities() == GcsSink.possible_capabilities


@pytest.mark.parametrize(
    "content", ["hunter2", '{"type": "service_account", "private_key": "hunter2"}', '{"type": "hunter2"}', "[1]"]
)
def test_a_file_without_credentials_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(content)
    sink = GcsSink(settings(credentials_file=path))
    with pytest.raises(SettingsError, match=r"credentials\.json holds") as caught:
        sink.put("a", b"x")
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)
    assert caught.value.__cause__ is None
    sink.close()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for values in ({"credentials_file": tmp_path / "none"}, {"tls_ca": tmp_path / "none", "anonymous": True}):
        sink = GcsSink(settings(**values))
        with pytest.raises(SettingsError, match="none"):
            sink.get("a")
        sink.close()
