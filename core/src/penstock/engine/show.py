"""Show: what is in a snapshot, as far as the role may see."""

from dataclasses import dataclass
from typing import Any

from penstock.format.snapshot import Manifest
from penstock.format.trust import Role
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.pool import Workers
from penstock.repository.snapshots import open_manifest

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
            "content": None if self.manifest is None else _content(self.manifest),
            "content_hidden": f"this is a {self.role} key" if self.manifest is None else None,
        }


def show(repository: Repository, entry: SnapshotEntry) -> ShowResult:
    """The snapshot with its content. Raises `DamagedObject`, `MissingObject`."""
    role = repository.access.role
    if role is not Role.OWNER:
        return ShowResult(entry, role, None)
    with Workers(1, "penstock-show", repository.sink.stop) as workers:
        return ShowResult(entry, role, workers.call(open_manifest, repository, entry))


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
        "inspection": dict(manifest.inspection),
    }
