"""Origins: which snapshots of a domain are copies, found again by what a copy keeps of the original's head."""

from collections.abc import Iterable

from blake3 import blake3

from penstock.format.encoding import encode_json
from penstock.format.head import Head
from penstock.repository import SnapshotEntry
from penstock.repository.temporary import TemporaryTables

__all__ = ["Origins"]


class Origins:
    """The snapshots of a domain by their origins, in a temporary file. To be closed."""

    def __init__(self) -> None:
        self._tables = TemporaryTables(
            "CREATE TABLE copies (origin BLOB PRIMARY KEY, snapshot BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    def add(self, entries: Iterable[SnapshotEntry]) -> None:
        """These are there."""
        for entry in entries:
            self.note(entry.head, entry.digest)

    def note(self, head: Head, digest: bytes) -> None:
        """This is there."""
        row = (_origin(head), head.snapshot, digest)
        self._tables.change("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", row)

    def find(self, head: Head) -> tuple[bytes, bytes] | None:
        """The copy of the snapshot that has this head, in whatever repository: its id, and the digest of its head."""
        rows = self._tables.rows("SELECT snapshot, digest FROM copies WHERE origin = ?", (_origin(head),))
        return rows[0] if rows else None


def _origin(head: Head) -> bytes:
    """What a copy has in common with its original: no host begins two dumps of a backup in one microsecond."""
    kept = {
        "backup": head.backup,
        "finished": head.finished,
        "host": head.host,
        "size": head.size,
        "source": head.source,
        "started": head.started,
        "streams": head.streams,
    }
    return blake3(encode_json(kept)).digest()
