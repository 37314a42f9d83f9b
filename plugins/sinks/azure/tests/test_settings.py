import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.api import Capability, SettingsError, UsageError
from penstock_azure import AzureSettings, AzureSink


def settings(**values: Any) -> AzureSettings:
    return AzureSettings.model_validate({"account": "shopstore", "container": "backups", **values})


def test_a_url_stands_for_settings() -> None:
    url = "azure://shopstore/backups/db/nightly/?endpoint=https://blob.example.org&access_tier=Cool"
    assert AzureSink.settings_from_url(url) == {
        "account": "shopstore",
        "container": "backups",
        "prefix": "db/nightly",
        "endpoint": "https://blob.example.org",
        "access_tier": "Cool",
    }
    made = settings(**AzureSink.settings_from_url("azure://a12/b-b?deadline=90&object_lock=locked&object_lock_days=30"))
    assert (made.account, made.container, made.deadline, made.object_lock_days) == ("a12", "b-b", 90.0, 30)
    assert made.address == "https://a12.blob.core.windows.net"


@pytest.mark.parametrize(
    "url",
    [
        "azure://account:hunter2secret@host/container",
        "azure://account:hunter2secret/container",
        "azure://account/container?account_key=hunter2secret",
        "azure://account/container?sas_token=hunter2secret",
        "azure://account/container?connection_string=hunter2secret",
        "azure://account/container?sv=2020&sig=hunter2secret",
        "azure://[hunter2secret/x",
        "azure:///container?endpoint=hunter2secret",
        "azure://hunter2secret",
        "azure://account/container#hunter2secret",
        "azure://account/container?endpoint=a&endpoint=hunter2secret",
        "azure://account/container?prefix=hunter2secret",
    ],
)
def test_a_url_with_credentials_or_without_sense_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        AzureSink.settings_from_url(url)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"account_key": {"env": "X"}, "sas_token": {"env": "X"}}, "exclude each other"),
        ({"connection_string": {"env": "X"}, "endpoint": "https://host"}, "names the endpoint"),
        ({"sas_token": {"env": "X"}, "endpoint": "http://host"}, "not sent"),
        ({"endpoint": "http://host"}, "not sent"),
        ({"account_key": "hunter2secret"}, "secret"),
        ({"access_tier": "Archive"}, "access_tier"),
        ({"account": "a.b"}, "account"),
        ({"object_lock": "locked"}, "object_lock_days"),
        ({"object_lock_days": 3}, "object_lock"),
        ({"endpoint": "localhost:9000"}, "https://host"),
        ({"endpoint": "https://user:pass@host"}, "https://host"),
        ({"endpoint": "ftp://host"}, "https://host"),
        ({"endpoint": "https://host:99999"}, "https://host"),
        ({"prefix": "a//b"}, "single slashes"),
        ({"prefix": "../b"}, "single slashes"),
        ({"container": "A--b"}, "container"),
        ({"deadline": 0}, "deadline"),
    ],
)
def test_settings_without_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        settings(**values)
    assert "hunter2" not in str(caught.value)


def test_only_a_sink_that_locks_says_that_it_can() -> None:
    assert AzureSink(settings()).capabilities() == {Capability.CONDITIONAL_PUT}
    locking = AzureSink(settings(object_lock="unlocked", object_lock_days=3))
    assert locking.capabilities() == {Capability.CONDITIONAL_PUT, Capability.OBJECT_LOCK}
    assert locking.capabilities() == AzureSink.possible_capabilities


def test_an_invalid_key_or_connection_string_is_reported_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("hunter2", "AccountName=x;AccountKey=hunter2;;=", "AccountName=another;AccountKey=aHVudGVyMg=="):
        monkeypatch.setenv("AZURE_TEST_SECRET", text)
        sink = AzureSink(settings(connection_string={"env": "AZURE_TEST_SECRET"}))
        with pytest.raises(SettingsError, match="connection_string") as caught:
            sink.put("a", b"x")
        assert "hunter2" not in str(caught.value) + str(caught.value.hint)
        sink.close()


def test_without_credentials_and_without_azure_identity_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    sink = AzureSink(settings())
    with pytest.raises(SettingsError, match="azure-identity is not installed") as caught:
        sink.put("a", b"x")
    assert "penstock-azure" in str(caught.value.hint)
    sink.close()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    sink = AzureSink(settings(tls_ca=tmp_path / "none"))
    with pytest.raises(SettingsError, match="none"):
        sink.get("a")
    sink.close()
