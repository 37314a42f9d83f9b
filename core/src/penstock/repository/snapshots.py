"""Snapshots: listing, finding and opening them. Nothing unsigned is ever shown."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, RepositoryError, SnapshotNotFound
from penstock.api.models import ObjectInfo
from penstock.format.encoding import ID_BYTES, Malformed
from penstock.format.snapshot import Catalogue, Manifest, SealedSnapshot, decode_snapshot
from penstock.format.trust import digest_of
from penstock.repository import layout
from penstock.repository.repository import Repository
from penstock.repository.sessions import data_sealer

__all__ = [
    "SnapshotEntry",
    "find_snapshot",
    "list_snapshots",
    "open_manifest",
    "read_snapshot",
]

_READERS = 8
_LISTED = "penstock snapshots lists those that there are"


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """A verified snapshot: signed by a writer that the owner granted, its catalogue entry open."""

    id: bytes
    catalogue: Catalogue
    object_size: int
    digest: str
    sealed: SealedSnapshot = field(repr=False)


def read_snapshot(repository: Repository, key: str) -> SnapshotEntry:
    """Read and verify one snapshot object; raises `DamagedObject`, `MissingObject`."""
    try:
        data = repository.sink.get(key)
    except ObjectMissing:
        raise MissingObject(key, "the snapshot is gone") from None
    try:
        sealed = decode_snapshot(layout.id_of(key), data)
        writer = repository.grants.writer(sealed.writer)
        if writer is None:
            raise Malformed("it is signed by nobody whom the owner granted to write")
        sealed.verify(repository.id, writer)
        digest = digest_of(data)
        pinned = repository.grants.pinned_snapshots(sealed.writer)
        if pinned is not None and pinned.get(sealed.snapshot.hex()) != digest:
            raise Malformed("its writer was revoked before this snapshot was known")
        catalogue = sealed.open_catalogue(repository.index_sealer, repository.id)
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    return SnapshotEntry(sealed.snapshot, catalogue, len(data), digest, sealed)


def list_snapshots(
    repository: Repository, on_damage: Callable[[RepositoryError], None] | None = None
) -> list[SnapshotEntry]:
    """All of them, oldest first, and each after its parent.

    The first that is not what was written raises `DamagedObject`; or, with `on_damage`, is told to it and left out.
    """

    def read(info: ObjectInfo) -> SnapshotEntry | RepositoryError:
        try:
            return read_snapshot(repository, info.key)
        except (DamagedObject, MissingObject) as error:
            if on_damage is None:
                raise
            return error

    entries = []
    with ThreadPoolExecutor(_READERS, "penstock-snapshots") as pool:
        for found in pool.map(read, repository.sink.list(layout.SNAPSHOTS)):
            if isinstance(found, SnapshotEntry):
                entries.append(found)
            elif on_damage is not None:
                on_damage(found)
    return _in_order(entries)


def _in_order(entries: list[SnapshotEntry]) -> list[SnapshotEntry]:
    """By their times; yet none before its parent, for clocks are set back, and a second is long for a small backup."""
    by_id = {entry.id: entry for entry in entries}
    places: dict[bytes | None, tuple[str, str, int]] = {}
    for entry in entries:
        line: list[SnapshotEntry] = []
        following: SnapshotEntry | None = entry
        while following is not None and following.id not in places:
            # Noted at once, so that a ring of parents, which takes a forger, has an end too.
            places[following.id] = ("", "", 0)
            line.append(following)
            following = by_id.get(following.catalogue.parent or b"")
        for one in reversed(line):
            started, finished, depth = places.get(one.catalogue.parent, ("", "", -1))
            times = one.catalogue
            places[one.id] = (max(times.started, started), max(times.finished, finished), depth + 1)
    return sorted(entries, key=lambda entry: (*places[entry.id], entry.id))


def find_snapshot(repository: Repository, text: str) -> SnapshotEntry:
    """`latest`, `latest:<backup>`, or the beginning of an id, if it is long enough to be the only one."""
    if text == "latest" or text.startswith("latest:"):
        backup = text.partition(":")[2]
        entries = [entry for entry in list_snapshots(repository) if not backup or entry.catalogue.backup == backup]
        if not entries:
            what = f"the backup {backup}" if backup else "this repository"
            raise SnapshotNotFound(f"there is no snapshot of {what} yet", hint=_LISTED)
        return entries[-1]
    if not 0 < len(text) <= 2 * ID_BYTES or any(digit not in "0123456789abcdef" for digit in text):
        raise SnapshotNotFound(f"no snapshot is called {text!r}", hint="an id, its beginning, latest or latest:BACKUP")
    keys = [info.key for info in repository.sink.list(layout.SNAPSHOTS + text)]
    if not keys:
        raise SnapshotNotFound(f"no snapshot's id begins with {text}", hint=_LISTED)
    if len(keys) > 1:
        raise SnapshotNotFound(f"{len(keys)} snapshots' ids begin with {text}", hint="give more digits")
    return read_snapshot(repository, keys[0])


def open_manifest(repository: Repository, entry: SnapshotEntry) -> Manifest:
    """What is in a snapshot; raises `RoleForbids` for all but the owner, and `DamagedObject`."""
    sealer = data_sealer(repository, entry.sealed.session)
    try:
        return entry.sealed.open_manifest(sealer, repository.id)
    except Malformed as error:
        raise DamagedObject(layout.snapshot_key(entry.id), str(error)) from None
