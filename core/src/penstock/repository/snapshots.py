"""Snapshots: listing, finding and opening them. Nothing unsigned is ever shown."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SnapshotNotFound
from penstock.api.models import ObjectInfo
from penstock.format.encoding import ID_BYTES, Malformed
from penstock.format.snapshot import Catalogue, Manifest, SealedSnapshot, decode_snapshot
from penstock.format.trust import digest_of
from penstock.repository import layout
from penstock.repository.budget import MIB
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.read.listing import listed, read_all
from penstock.repository.repository import Repository
from penstock.repository.sessions import data_sealer

__all__ = [
    "SnapshotEntry",
    "each_snapshot",
    "find_snapshot",
    "list_snapshots",
    "open_manifest",
    "read_snapshot",
]

#: Snapshots under way at once, in bytes of their objects: what is in them takes some 50 times as much when it is open.
_AT_ONCE = MIB
_LIST = "Run penstock snapshots to list them."

OnDamage = Callable[[DamagedObject | MissingObject], None]
#: Takes the id of a snapshot, and that of its parent.
OnPresent = Callable[[bytes, bytes | None], None]


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """A verified snapshot: signed by a writer that the owner granted, its catalogue entry open."""

    id: bytes
    catalogue: Catalogue
    #: Bytes of its object.
    object_size: int
    digest: str
    sealed: SealedSnapshot = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """What every role may know of a snapshot. Sizes in bytes; `stored` counts the snapshot object too."""
        catalogue = self.catalogue
        return {
            "id": self.id.hex(),
            "backup": catalogue.backup,
            "source": catalogue.source,
            "started": catalogue.started,
            "finished": catalogue.finished,
            "host": catalogue.host,
            "program": catalogue.program,
            "parent": catalogue.parent.hex() if catalogue.parent else None,
            "streams": catalogue.streams,
            "size": catalogue.size,
            "stored": catalogue.stored + self.object_size,
        }


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
            raise Malformed("its signer was never granted to write")
        sealed.verify(repository.id, writer)
        digest = digest_of(data)
        pinned = repository.grants.pinned_snapshots(sealed.writer)
        if pinned is not None and pinned.get(sealed.snapshot.hex()) != digest:
            raise Malformed("its writer was revoked before this snapshot was known")
        catalogue = sealed.open_catalogue(repository.index_sealer, repository.id)
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    return SnapshotEntry(sealed.snapshot, catalogue, len(data), digest, sealed)


def each_snapshot(
    repository: Repository, workers: Workers, objects: Iterable[ObjectInfo], on_damage: OnDamage | None
) -> Iterator[SnapshotEntry]:
    """The snapshots that these objects are, in their order; a few are in memory at a time.

    The first that is not what was written raises `DamagedObject` or `MissingObject`; or, with `on_damage`, is told to
    it and left out.
    """

    def read(info: ObjectInfo) -> SnapshotEntry | DamagedObject | MissingObject:
        try:
            return read_snapshot(repository, info.key)
        except (DamagedObject, MissingObject) as error:
            return error

    for found in read_all(workers, read, objects, most=_AT_ONCE):
        if isinstance(found, SnapshotEntry):
            yield found
        elif on_damage is None:
            raise found
        else:
            on_damage(found)


def list_snapshots(repository: Repository, on_damage: OnDamage | None = None) -> list[SnapshotEntry]:
    """All of them, oldest first, and each after its parent; `on_damage` as of `each_snapshot`."""
    with _workers(repository) as workers:
        objects = listed(workers, repository.sink, layout.SNAPSHOTS)
        entries = {entry.id: entry for entry in each_snapshot(repository, workers, objects, on_damage)}
    return [entries[head.id] for head in _in_order(map(_Head.of, entries.values()))]


class _Head(NamedTuple):
    """What decides on the order of snapshots."""

    id: bytes
    parent: bytes | None
    started: str
    finished: str

    @classmethod
    def of(cls, entry: SnapshotEntry) -> "_Head":
        catalogue = entry.catalogue
        return cls(entry.id, catalogue.parent, catalogue.started, catalogue.finished)


def _in_order(heads: Iterable[_Head]) -> list[_Head]:
    """By their times; yet none before its parent, for clocks are set back, and a second is long for a small backup."""
    by_id = {head.id: head for head in heads}
    places: dict[bytes | None, tuple[str, str, int]] = {}
    for head in by_id.values():
        line: list[_Head] = []
        following: _Head | None = head
        while following is not None and following.id not in places:
            # Noted at once, so that a ring of parents, which takes a forger, has an end too.
            places[following.id] = ("", "", 0)
            line.append(following)
            following = by_id.get(following.parent or b"")
        for one in reversed(line):
            started, finished, depth = places.get(one.parent, ("", "", -1))
            places[one.id] = (max(one.started, started), max(one.finished, finished), depth + 1)
    return sorted(by_id.values(), key=lambda head: (*places[head.id], head.id))


def find_snapshot(
    repository: Repository,
    text: str,
    *,
    on_damage: OnDamage | None = None,
    on_present: OnPresent | None = None,
) -> SnapshotEntry:
    """`latest`, `latest:<backup>`, or the beginning of an id that no other snapshot shares.

    `latest` passes over snapshots that are not what was written and tells `on_damage` of each; `on_present` hears of
    the id of each of the others and of its parent's. Raises `SnapshotNotFound`, and, for an id, `DamagedObject`.
    """
    with _workers(repository) as workers:
        if text == "latest" or text.startswith("latest:"):
            return _latest(repository, workers, text.partition(":")[2], on_damage, on_present)
        return _by_id(repository, workers, text)


def _latest(
    repository: Repository, workers: Workers, backup: str, on_damage: OnDamage | None, on_present: OnPresent | None
) -> SnapshotEntry:
    damaged = False

    def pass_over(error: DamagedObject | MissingObject) -> None:
        nonlocal damaged
        damaged = True
        if on_damage is not None:
            on_damage(error)

    heads = []
    for entry in each_snapshot(repository, workers, listed(workers, repository.sink, layout.SNAPSHOTS), pass_over):
        if on_present is not None:
            on_present(entry.id, entry.catalogue.parent)
        if not backup or entry.catalogue.backup == backup:
            heads.append(_Head.of(entry))
    for head in reversed(_in_order(heads)):
        # Read again, for only the heads were kept; it may have been damaged or deleted meanwhile.
        for entry in each_snapshot(repository, workers, [ObjectInfo(layout.snapshot_key(head.id), 0)], pass_over):
            return entry
    what = f"the backup {backup}" if backup else "this repository"
    if damaged:
        hint = "Run penstock check to see what is damaged."
        raise SnapshotNotFound(f"there is no undamaged snapshot of {what}", hint=hint)
    raise SnapshotNotFound(f"there is no snapshot of {what} yet", hint=_LIST)


def _by_id(repository: Repository, workers: Workers, text: str) -> SnapshotEntry:
    if not 0 < len(text) <= 2 * ID_BYTES or any(digit not in "0123456789abcdef" for digit in text):
        hint = "Give an id, its beginning, latest or latest:BACKUP."
        raise SnapshotNotFound(f"not the name of a snapshot: {text!r}", hint=hint)
    keys = [info.key for info in listed(workers, repository.sink, layout.SNAPSHOTS + text)]
    if not keys:
        raise SnapshotNotFound(f"no snapshot's id begins with {text}", hint=_LIST)
    if len(keys) > 1:
        raise SnapshotNotFound(f"{len(keys)} snapshots' ids begin with {text}", hint="Give more digits.")
    return workers.call(read_snapshot, repository, keys[0])


def open_manifest(repository: Repository, entry: SnapshotEntry) -> Manifest:
    """What is in a snapshot; raises `RoleForbids` for all but the owner, and `DamagedObject`."""
    sealer = data_sealer(repository, entry.sealed.session)
    try:
        return entry.sealed.open_manifest(sealer, repository.id)
    except Malformed as error:
        raise DamagedObject(layout.snapshot_key(entry.id), str(error)) from None


def _workers(repository: Repository) -> Workers:
    requests = ReadBudget.of(DEFAULT_MEMORY, repository.sink.connections).requests
    return Workers(requests, "penstock-snapshots", repository.sink.stop)
