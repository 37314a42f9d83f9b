"""What a repair did, found lost, and could not do."""

from dataclasses import dataclass, field
from typing import Any

from penstock.engine.checking.findings import Finding
from penstock.engine.repairing.losses import LostStream
from penstock.repository.snapshots import SnapshotEntry

__all__ = ["MAX_LISTED", "LostSnapshot", "Mended", "RepairReport"]

#: A report lists so many of each at most, and so many streams of a snapshot; it counts all of them.
MAX_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Mended:
    """An object that was put anew, and the replica that had it whole."""

    key: str
    source: str

    def to_json(self) -> dict[str, str]:
        """As it stands in the document of `penstock repair`."""
        return {"key": self.key, "from": self.source}


@dataclass(frozen=True, slots=True)
class LostSnapshot:
    """A snapshot that cannot be restored whole: the first of its lost streams, and how many these are."""

    entry: SnapshotEntry
    streams: tuple[LostStream, ...]
    stream_count: int

    @classmethod
    def of(cls, entry: SnapshotEntry, streams: list[LostStream]) -> "LostSnapshot":
        """With as many of the streams as are listed."""
        return cls(entry, tuple(streams[:MAX_LISTED]), len(streams))

    def to_json(self) -> dict[str, Any]:
        """As it stands in the document of `penstock repair`; `stream` is null where nobody knows which."""
        return {
            "snapshot": self.entry.id.hex(),
            "backup": self.entry.head.backup,
            "domain": self.entry.domain.label,
            "finished": self.entry.head.finished,
            "streams": [{"stream": one.stream, "problem": one.problem} for one in self.streams],
            "stream_count": self.stream_count,
        }


@dataclass(slots=True)
class RepairReport:
    """What was done, or with `dry_run` would be. Sizes in bytes; of what is counted, lists hold the first.

    `quick`: the data of packs was not read. `lost` snapshots cannot be restored whole; `heads` are those that are gone
    or cannot be read, of which nobody knows more. `recovered` were found bad before and are whole again. `waiting` come
    back with a run after the next prune.
    """

    dry_run: bool
    quick: bool
    snapshots: int = 0
    mended: list[Mended] = field(default_factory=list)
    mended_count: int = 0
    mended_size: int = 0
    #: Packs that got an index object, and those that would need one of a key that knows chunks.
    indexed: int = 0
    unindexed: int = 0
    #: Packs that no writer relies on any more, since nobody has them whole.
    distrusted: int = 0
    lost: list[LostSnapshot] = field(default_factory=list)
    lost_count: int = 0
    heads: list[Finding] = field(default_factory=list)
    head_count: int = 0
    recovered: list[bytes] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every snapshot that is known of can be restored."""
        return not (self.lost_count or self.head_count or self.waiting)

    def add_mended(self, key: str, source: str) -> None:
        """An object was put."""
        self.mended_count += 1
        if len(self.mended) < MAX_LISTED:
            self.mended.append(Mended(key, source))

    def add_lost(self, one: LostSnapshot) -> None:
        """A snapshot is lost."""
        self.lost_count += 1
        if len(self.lost) < MAX_LISTED:
            self.lost.append(one)

    def add_head(self, one: Finding) -> None:
        """A head is lost."""
        self.head_count += 1
        if len(self.heads) < MAX_LISTED:
            self.heads.append(one)

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock repair`."""
        return {
            "dry_run": self.dry_run,
            "quick": self.quick,
            "snapshots": self.snapshots,
            "mended": [one.to_json() for one in self.mended],
            "mended_count": self.mended_count,
            "mended_size": self.mended_size,
            "indexed": self.indexed,
            "unindexed": self.unindexed,
            "distrusted": self.distrusted,
            "lost": [one.to_json() for one in self.lost],
            "lost_count": self.lost_count,
            "heads": [one.to_json() for one in self.heads],
            "head_count": self.head_count,
            "recovered": [one.hex() for one in self.recovered],
            "waiting": [one.hex() for one in self.waiting],
        }
