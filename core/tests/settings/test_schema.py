import json
from pathlib import Path
from typing import Any

from penstock.plugins import PluginHost, PluginInfo
from penstock.settings import BackupSettings, RepositorySettings, settings_schema

PUBLISHED = Path(__file__).parents[3] / "docs" / "penstock.schema.json"
BUNDLED = {path.name for path in (Path(__file__).parents[3] / "plugins").glob("*/*") if path.is_dir()}


def bundled() -> list[PluginInfo]:
    return [plugin for plugin in PluginHost().plugins() if plugin.name in BUNDLED]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        mine = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return mine.union(*(references(one) for one in value.values()))
    return set().union(*(references(one) for one in value)) if isinstance(value, list) else set()


def test_the_published_schema_is_that_of_the_bundled_plugins() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == settings_schema(bundled()), (
        "publish it again: penstock config schema > docs/penstock.schema.json"
    )


def test_every_reference_leads_somewhere() -> None:
    schema = settings_schema(bundled())
    assert references(schema) == {f"#/$defs/{name}" for name in schema["$defs"]}


def test_every_bundled_plugin_is_in_it_by_type_and_by_url() -> None:
    schema = settings_schema(bundled())
    titles = {
        form["title"]
        for table in ("repositories", "backups")
        for form in schema["properties"][table]["additionalProperties"]["anyOf"]
    }
    assert titles >= {f"{plugin.name} by type" for plugin in bundled()}
    assert "sqlite by URL" in titles


def test_no_setting_of_a_bundled_plugin_hides_behind_one_of_our_own() -> None:
    ours = {*RepositorySettings.model_fields, *BackupSettings.model_fields}
    for plugin in bundled():
        assert not ours & set(plugin.settings_schema.get("properties", {})), plugin.name
