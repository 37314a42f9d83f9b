"""Show: what is in a snapshot, as far as the role may see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.format.manifest import Manifest
from penstock.format.trust import Role
from penstock.repository import SnapshotEntry
from penstock.repository.checkpoint import phrase_of
from penstock.repository.read.reader import SnapshotReader

__all__ = ["ShowResult", "show"]


@dataclass(frozen=True, slots=True)
class ShowResult:
    """A snapshot and its content: None for a role that cannot open it."""

    entry: SnapshotEntry
    role: Role
    manifest: Manifest | None

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock show`. Sizes in bytes."""
        return {
            **self.entry.to_json(),
            "checkpoint": phrase_of(self.entry.digest),
            "content": None if self.manifest is None else _content(self.manifest),
            "content_hidden": f"this is a {self.role} key" if self.manifest is None else None,
        }


def show(entry: SnapshotEntry) -> ShowResult:
    """The snapshot with its content. Raises `DamagedObject`, `MissingObject`."""
    role = entry.domain.access.role
    if role is not Role.OWNER:
        return ShowResult(entry, role, None)
    with SnapshotReader(entry) as reader:
        return ShowResult(entry, role, reader.manifest)


def _content(manifest: Manifest) -> dict[str, Any]:
    return {
        "consistency": manifest.consistency,
        "streams": [
            {
                "name": stream.name,
                "format": stream.format,
                "phase": stream.phase,
                "optional": stream.optional,
                "size": stream.size,
                "blake3": stream.digest.hex(),
            }
            for stream in manifest.streams
        ],
        "inspection": _inspection(manifest.inspection),
    }


def _inspection(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the source reported, as far as it has the form of such a report: whoever has a writer's key may differ."""
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
