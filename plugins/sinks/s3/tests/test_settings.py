from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.api import Capability, SecretUnavailable, SettingsError, Sink, UsageError
from penstock.plugins import PluginHost
from penstock.settings import load_settings
from penstock_s3 import S3Settings, S3Sink

KEYS = {"access_key_id": "AK", "secret_access_key": {"env": "MY_SECRET"}}


def settings(**values: Any) -> S3Settings:
    return S3Settings.model_validate({"bucket": "shop-backups", **values})


def test_a_url_stands_for_settings() -> None:
    url = (
        "s3://shop-backups/db/nightly/?endpoint=https://s3.example.org:9000&region=eu-1&addressing=path&profile=backup"
    )
    assert S3Sink.settings_from_url(url) == {
        "bucket": "shop-backups",
        "prefix": "db/nightly",
        "endpoint": "https://s3.example.org:9000",
        "region": "eu-1",
        "addressing": "path",
        "profile": "backup",
    }
    made = settings(**S3Sink.settings_from_url("s3://b-b?deadline=90&object_lock=governance&object_lock_days=30"))
    assert (made.bucket, made.deadline, made.object_lock_days) == ("b-b", 90.0, 30)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAEXAMPLE:hunter2secret@bucket/prefix",
        "s3://hunter2secret@bucket",
        "s3://bucket:hunter2secret/prefix",
        "s3://bucket?secret_access_key=hunter2secret",
        "s3://bucket?session_token=hunter2secret",
        "s3://bucket?access_key_id=hunter2secret",
        "s3://bucket?aws_secret=hunter2secret",
        "s3://[hunter2secret/x",
        "s3:///prefix?region=hunter2secret",
        "s3://bucket/prefix#hunter2secret",
        "s3://bucket?region=a&region=hunter2secret",
        "s3://bucket/p?prefix=hunter2secret",
    ],
)
def test_a_url_with_credentials_or_without_sense_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Sink.settings_from_url(url)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"access_key_id": "AK"}, "go together"),
        ({"secret_access_key": {"env": "X"}}, "go together"),
        ({"session_token": {"env": "X"}}, "goes with access_key_id"),
        ({**KEYS, "profile": "x"}, "exclude each other"),
        ({"kms_key": "k"}, "sse"),
        ({"object_lock": "governance"}, "object_lock_days"),
        ({"object_lock_days": 3}, "object_lock"),
        ({"storage_class": "DEEP_ARCHIVE"}, "cannot be read at once"),
        ({"endpoint": "localhost:9000"}, "https://host"),
        ({"endpoint": "https://user:pass@host"}, "https://host"),
        ({"endpoint": "ftp://host"}, "https://host"),
        ({"endpoint": "https://host:99999"}, "https://host"),
        ({"prefix": "a//b"}, "single slashes"),
        ({"prefix": "../b"}, "single slashes"),
        ({"prefix": "a\nb"}, "single slashes"),
        ({"bucket": "a/b"}, "bucket"),
        ({"checksums": "never"}, "checksums"),
        ({"deadline": 0}, "deadline"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(**values)


def test_a_secret_in_place_of_its_reference_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        PluginHost().make_sink("s3", {"bucket": "b-b", "access_key_id": "AK", "secret_access_key": "hunter2secret"})
    assert "hunter2" not in str(caught.value)


def test_the_prefix_may_begin_and_end_with_a_slash() -> None:
    assert settings(prefix="/a/b/").prefix == "a/b"
    assert settings(prefix="/").prefix == ""


def test_a_location_is_bucket_prefix_and_endpoint() -> None:
    assert S3Sink(settings(prefix="db")).location == "s3://shop-backups/db"
    made = S3Sink(settings(endpoint="https://host:9000/", **KEYS))
    assert made.location == "s3://shop-backups at https://host:9000"


def test_the_host_finds_it_by_name_and_by_url() -> None:
    host = PluginHost()
    assert host.sink("s3") is S3Sink
    made: Sink = host.make_sink_from_url("s3://shop-backups/db", {"region": "eu-central-1"})
    assert made.location == "s3://shop-backups/db"
    (info,) = [one for one in host.plugins() if one.name == "s3"]
    assert info.capabilities == {Capability.CONDITIONAL_PUT, Capability.OBJECT_LOCK}


def test_object_lock_is_declared_when_it_is_set() -> None:
    without = S3Sink(settings(conditional_put="no"))
    locking = S3Sink(settings(conditional_put="no", object_lock="compliance", object_lock_days=30))
    assert without.capabilities() == set()
    assert locking.capabilities() == {Capability.OBJECT_LOCK}


def test_a_missing_secret_is_reported_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_SECRET", raising=False)
    sink = S3Sink(settings(endpoint="http://127.0.0.1:9", **KEYS))
    with pytest.raises(SecretUnavailable, match="MY_SECRET"):
        sink.get("a")


def test_a_missing_file_of_authorities_is_named(tmp_path: Path) -> None:
    sink = S3Sink(settings(endpoint="https://127.0.0.1:9", tls_ca=str(tmp_path / "none.pem")))
    with pytest.raises(SettingsError, match=r"none\.pem"):
        sink.get("a")


def test_the_readme_names_every_setting_and_its_example_is_valid(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in readme.splitlines() if line.startswith("| `"))
    assert {name for name in S3Settings.model_fields if f"`{name}`" not in rows} == set()
    (tmp_path / "penstock.toml").write_text(readme.partition("```toml")[2].partition("```")[0], encoding="utf-8")
    made = load_settings(tmp_path / "penstock.toml").make_sink("main", PluginHost())
    assert made.location == "s3://acme-backups/shop"
