"""The JSON schema of penstock.toml, including the settings of plugins, for editors and other programs."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.plugins import PluginInfo
from penstock.settings.models import BackupSettings, Defaults, PluginTable, RepositorySettings

__all__ = ["settings_schema"]

_NAMES = {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"}


def settings_schema(plugins: Iterable[PluginInfo]) -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a file that uses only these plugins."""
    definitions: dict[str, Any] = {}
    known = sorted(plugins, key=lambda plugin: (plugin.kind, plugin.name))
    sinks = [form for one in known if one.kind == "sink" for form in _forms(RepositorySettings, one, definitions)]
    sources = [form for one in known if one.kind == "source" for form in _forms(BackupSettings, one, definitions)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "penstock.toml",
        "description": "The settings of Penstock, including those of its plugins.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "repositories": _tables("repositories by name", sinks),
            "backups": _tables("backups by name", sources),
            "defaults": _moved(Defaults.model_json_schema(), "defaults", definitions),
        },
        "$defs": dict(sorted(definitions.items())),
    }


def _tables(description: str, forms: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "propertyNames": _NAMES,
        "additionalProperties": {"anyOf": forms} if forms else False,
    }


def _forms(model: type[PluginTable], plugin: PluginInfo, definitions: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """A table with `type`, and, if the plugin takes URLs, one with `url`, which may leave out any setting."""
    own = _moved(model.model_json_schema(), model.__name__, definitions)["properties"]
    theirs = _moved(plugin.settings_schema, f"{plugin.kind}.{plugin.name}", definitions)
    common = {name: value for name, value in own.items() if name not in ("url", "type")}
    properties = {**theirs.get("properties", {}), **common}
    shape: dict[str, Any] = {"type": "object", "additionalProperties": False}
    if plugin.summary:
        shape["description"] = plugin.summary
    yield {
        **shape,
        "title": f"{plugin.name} by type",
        "required": ["type", *theirs.get("required", ())],
        "properties": {"type": {"const": plugin.name}, **properties},
    }
    if plugin.schemes:
        schemes = "|".join(re.escape(scheme) for scheme in plugin.schemes)
        yield {
            **shape,
            "title": f"{plugin.name} by URL",
            "required": ["url"],
            "properties": {"url": {"type": "string", "pattern": f"^(?:{schemes}):"}, **properties},
        }


def _moved(schema: Mapping[str, Any], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """`schema` with its own definitions moved to `definitions`, where each is kept once.

    Different definitions of one name get `prefix` in front.
    """
    mine = schema.get("$defs", {})
    names = {name: name if definitions.get(name, body) == body else f"{prefix}.{name}" for name, body in mine.items()}
    for name, body in mine.items():
        definitions[names[name]] = _referring(body, names)
    return {
        key: _referring(value, names) for key, value in schema.items() if key not in ("$defs", "title", "description")
    }


def _referring(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: f"#/$defs/{names[one.removeprefix('#/$defs/')]}" if key == "$ref" else _referring(one, names)
            for key, one in value.items()
        }
    return [_referring(one, names) for one in value] if isinstance(value, list) else value
