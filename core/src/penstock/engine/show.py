"""Show: what is in a snapshot, as far as the role may see."""

from penstock.format.snapshot import Manifest
from penstock.format.trust import Role
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.snapshots import open_manifest

__all__ = ["show"]


def show(repository: Repository, entry: SnapshotEntry) -> Manifest | None:
    """The manifest, or None for a role that cannot open it. Raises `DamagedObject`, `MissingObject`."""
    if repository.access.role is not Role.OWNER:
        return None
    return open_manifest(repository, entry)
