"""What settings were called, or are called by the engines' own tools: refused in every plugin, with the name here."""

import pytest

from penstock.api import PluginSettings, RestoreTarget, SettingsError, UsageError
from penstock.plugins import PluginHost
from penstock_azure.settings import AzureSettings
from penstock_gcs.settings import GcsSettings
from penstock_mongodb.settings import MongoSettings
from penstock_mysql.settings import MySQLSettings
from penstock_postgres.options import RestoreOptions as PostgresOptions
from penstock_postgres.settings import PostgresSettings
from penstock_s3.settings import S3Settings

SINKS: dict[str, type[PluginSettings]] = {"azure": AzureSettings, "gcs": GcsSettings, "s3": S3Settings}
SOURCES: dict[str, type[PluginSettings]] = {
    "mongodb": MongoSettings,
    "mysql": MySQLSettings,
    "postgres": PostgresSettings,
}
MODELS = {**SINKS, **SOURCES}
NAMES = [(plugin, old, now) for plugin, model in MODELS.items() for old, now in model.former.items()]


@pytest.mark.parametrize(("plugin", "old", "now"), NAMES)
def test_a_former_setting_is_refused_with_its_name_now(plugin: str, old: str, now: str) -> None:
    fields = MODELS[plugin].model_fields
    assert now in fields
    assert old not in fields
    make = PluginHost().make_sink if plugin in SINKS else PluginHost().make_source
    with pytest.raises(SettingsError) as caught:
        make(plugin, {old: "hunter2secret"})
    assert f"{old} is not a setting; use {now}" in caught.value.message
    assert "hunter2" not in f"{caught.value}{caught.value.hint}{caught.value.details}"


@pytest.mark.parametrize(
    ("plugin", "url", "now"),
    [
        ("s3", "s3://bucket/x?kms_key_id=hunter2", "kms_key"),
        ("gcs", "gs://bucket/x?kms_key_name=hunter2", "kms_key"),
        ("azure", "azure://account/container?max_connections=hunter2", "connections"),
        ("mysql", "mysql://db/shop?ssl_mode=hunter2", "tls"),
    ],
)
def test_a_former_parameter_of_a_url_is_refused_with_its_name_now(plugin: str, url: str, now: str) -> None:
    host = PluginHost()
    with pytest.raises(UsageError) as caught:
        (host.make_sink_from_url if plugin in SINKS else host.make_source_from_url)(url)
    assert f"Use {now}" in (caught.value.hint or "")
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("url", ["s3://bucket/x?aws_secret_access_key=hunter2", "mysql://db/shop?passwd=hunter2"])
def test_a_secret_under_a_former_name_is_refused_as_a_secret(url: str) -> None:
    host = PluginHost()
    with pytest.raises(UsageError, match="everyone on this host could read") as caught:
        (host.make_sink_from_url if url.startswith("s3") else host.make_source_from_url)(url)
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"


def test_a_former_option_of_a_restore_is_refused_with_its_name_now() -> None:
    for old, now in PostgresOptions.former.items():
        assert now in PostgresOptions.model_fields
        assert old not in PostgresOptions.model_fields
        with pytest.raises(UsageError, match=f"unknown option {old} ") as caught:
            PostgresOptions.of(RestoreTarget(options={old: "no"}))
        assert caught.value.hint == f"Use {now} instead."
