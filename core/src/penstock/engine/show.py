"""Show: what is in a snapshot, as far as the role may see."""

from dataclasses import dataclass
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject, SnapshotNotFound
from penstock.api.models import ObjectInfo
from penstock.engine.diff import compare, opened
from penstock.engine.reported import inspection_of
from penstock.format.manifest import Manifest
from penstock.format.trust import Role
from penstock.repository import SnapshotEntry
from penstock.repository.checkpoint import phrase_of
from penstock.repository.notices import read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.content import Content
from penstock.repository.read.differences import TooMany
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
    stop = entry.domain.sink.stop
    with Workers(entry.domain.sink.connections, "penstock-show", stop) as workers, opened(entry, workers) as content:
        return ShowResult(entry, role, content.manifest, *_since(content, workers))


def _since(content: Content, workers: Workers) -> tuple[dict[str, Any] | None, str | None]:
    """What changed since its parent; or why nobody can tell, which keeps nobody from the snapshot itself."""
    domain, parent = content.entry.domain, content.entry.head.parent
    if parent is None:
        return None, None
    try:
        notices = read_notices(domain, workers)
        before = workers.call(read_snapshot, domain, ObjectInfo(domain.at.snapshot_key(parent), 0), notices)
        with opened(before, workers) as earlier:
            return compare(earlier, content, workers, most=_IN_PASSING).summary(), None
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
