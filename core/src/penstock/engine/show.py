"""Show: what is in a snapshot, as far as the role may see."""

from dataclasses import dataclass
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject, SnapshotNotFound
from penstock.api.models import ObjectInfo
from penstock.engine.diff import compare
from penstock.engine.reported import inspection_of
from penstock.format.manifest import Manifest
from penstock.format.trust import Role
from penstock.repository import SnapshotEntry
from penstock.repository.checkpoint import phrase_of
from penstock.repository.notices import read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.differences import TooMany
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.snapshots import read_snapshot

__all__ = ["ShowResult", "show"]

#: Extents that are compared with those of the snapshot before: some seconds of work, and more than most nights change.
_IN_PASSING = 1 << 21


@dataclass(frozen=True, slots=True)
class ShowResult:
    """A snapshot and its content: None for a role that cannot open it.

    `since` is the summary of what changed since its parent, as `penstock diff` tells it; None without a parent, and
    where `since_unknown` says why nobody can tell.
    """

    entry: SnapshotEntry
    role: Role
    manifest: Manifest | None
    since: dict[str, Any] | None = None
    since_unknown: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock show`. Sizes in bytes."""
        return {
            **self.entry.to_json(),
            "checkpoint": phrase_of(self.entry.digest),
            "content": None if self.manifest is None else _content(self.manifest),
            "content_hidden": f"this is a {self.role} key" if self.manifest is None else None,
            "since": self.since,
            "since_unknown": self.since_unknown,
        }


def show(entry: SnapshotEntry) -> ShowResult:
    """The snapshot with its content. Raises `DamagedObject`, `MissingObject`."""
    role = entry.domain.access.role
    if role is not Role.OWNER:
        return ShowResult(entry, role, None)
    with SnapshotReader(entry) as reader:
        manifest = reader.manifest
    return ShowResult(entry, role, manifest, *_since(entry))


def _since(entry: SnapshotEntry) -> tuple[dict[str, Any] | None, str | None]:
    """What changed since its parent; or why nobody can tell, which keeps nobody from the snapshot itself."""
    domain, parent = entry.domain, entry.head.parent
    if parent is None:
        return None, None
    try:
        with Workers(domain.sink.connections, "penstock-show", domain.sink.stop) as workers:
            notices = read_notices(domain, workers)
            info = ObjectInfo(domain.at.snapshot_key(parent), 0)
            before = workers.call(read_snapshot, domain, info, notices)
        return compare(before, entry, most=_IN_PASSING).summary(), None
    except (DamagedObject, MissingObject, SnapshotNotFound) as error:
        return None, error.message
    except TooMany:
        return None, "too much of it changed to be told in passing: penstock diff does"


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
        "inspection": inspection_of(manifest),
    }
