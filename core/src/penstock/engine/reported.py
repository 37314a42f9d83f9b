"""What a source reported about a database, as far as a manifest has it: whoever has a writer's key may write others."""

from collections.abc import Mapping
from typing import Any

from penstock.format.manifest import Manifest

__all__ = ["inspection_of"]


def inspection_of(manifest: Manifest) -> dict[str, Any]:
    """What has the form of such a report; of texts that are not there, the empty ones."""
    found: Mapping[str, Any] = manifest.inspection
    warnings, inventory, left_out = (found.get(name) for name in ("warnings", "inventory", "left_out"))
    return {
        **{name: _text(found.get(name)) for name in ("client_version", "engine", "server_version")},
        "inventory": [item for item in inventory if _is_item(item)] if isinstance(inventory, list) else [],
        "warnings": list(filter(_text, warnings)) if isinstance(warnings, list) else [],
        "left_out": list(filter(None, map(_left_out, left_out))) if isinstance(left_out, list) else [],
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _left_out(value: object) -> dict[str, str] | None:
    names = ("kind", "name", "reason", "database")
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in names):
        return None
    return {name: value[name] for name in names}


def _is_item(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("exact"), bool):
        return False
    texts = all(isinstance(value.get(name), str) for name in ("kind", "name"))
    return texts and all(isinstance(value.get(name), int | None) for name in ("rows", "size"))
