"""Snapshots: listing and finding them by their heads. Nothing unsigned is ever shown."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, RepositoryError, SnapshotNotFound
from penstock.api.models import ObjectInfo
from penstock.format.encoding import ID_BYTES, Malformed
from penstock.format.head import Head, decode_head
from penstock.format.times import as_text
from penstock.repository import layout
from penstock.repository.budget import MIB
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.notices import Notices, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.read.listing import listed, read_all
from penstock.repository.repository import Repository
from penstock.repository.said import OnStranger

__all__ = [
    "OnDamage",
    "SnapshotEntry",
    "digest_of_head",
    "each_snapshot",
    "find_snapshot",
    "is_left_out",
    "list_snapshots",
    "read_snapshot",
    "summaries",
]

#: Heads under way at once, in bytes of their objects.
_AT_ONCE = MIB
#: A host's clock may be so far ahead of the store's.
_AHEAD = timedelta(days=1)
_LIST = "Run penstock snapshots to list them."
_LIST_HIDDEN = "Run penstock snapshots to list them, with --forgotten those that can be taken back."

T = TypeVar("T")
OnDamage = Callable[[DamagedObject | MissingObject], None]
OnPresent = Callable[["SnapshotEntry"], None]


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """A verified snapshot: its head, signed by `writer`, whom the owner granted to store a backup of that name here."""

    domain: Domain = field(repr=False)
    head: Head
    session: bytes
    writer: bytes
    digest: bytes = field(repr=False)
    #: Bytes of its head.
    object_size: int
    #: When the store wrote it, if it says.
    modified: datetime | None

    @property
    def id(self) -> bytes:
        """The snapshot's id."""
        return self.head.snapshot

    @property
    def signer(self) -> str:
        """Whose key signed it, for people."""
        return self.domain.log.label(self.writer)

    @property
    def from_the_future(self) -> bool:
        """Whether it claims to be more than a day younger than the store says, or, if it says nothing, this host."""
        finished = _parsed(self.head.finished)
        return finished is None or finished - (self.modified or datetime.now(UTC)) > _AHEAD

    @property
    def time(self) -> str:
        """When it was finished: as it says itself, or when the store wrote it, whichever is earlier."""
        return min(self.head.finished, self._written or self.head.finished)

    @property
    def latest_time(self) -> str:
        """As `time`, whichever is later: nobody who holds the key can set it back, unless the store tells no time."""
        return max(self.head.finished, self._written)

    @property
    def _written(self) -> str:
        return as_text(self.modified) if self.modified else ""

    def to_json(self) -> dict[str, Any]:
        """What every role may know of a snapshot. Sizes in bytes; `stored` counts the head too."""
        head = self.head
        return {
            "id": self.id.hex(),
            "backup": head.backup,
            "domain": self.domain.label,
            "signer": self.signer,
            "source": head.source,
            "started": head.started,
            "finished": head.finished,
            "from_the_future": self.from_the_future,
            "host": head.host,
            "program": head.program,
            "parent": head.parent.hex() if head.parent else None,
            "streams": head.streams,
            "size": head.size,
            "stored": head.stored + self.object_size,
        }


def _parsed(time: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(time)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def read_snapshot(
    domain: Domain, info: ObjectInfo, notices: Notices | None = None, *, hidden: bool = False
) -> SnapshotEntry:
    """Read and verify one head. Raises `DamagedObject` and `MissingObject`.

    Of what `notices` hide it raises `SnapshotNotFound` for one that was forgotten, else `DamagedObject`. With
    `hidden`, one that was forgotten or voided, or that a revoked writer signed and the owner does not keep, is read
    like any other.
    """
    try:
        data = fetch(domain.sink, info.key)
        sealed = decode_head(layout.id_of(info.key), data)
        writer = domain.writer(sealed.writer)
        if writer is None:
            raise Malformed("its signer was never granted to write here")
        sealed.verify(writer, domain.scope)
        if not hidden and not domain.log.in_force(sealed.writer, sealed.snapshot, sealed.digest):
            raise Malformed("its writer was revoked, and the owner does not keep this snapshot")
        head = sealed.open(domain.layout_sealer, domain.scope)
        if not domain.log.may_store(sealed.writer, domain.id, head.backup):
            raise Malformed("its writer was not granted this name")
        if notices and not hidden and (sealed.snapshot, sealed.digest) in notices.forgotten:
            raise SnapshotNotFound(
                f"the snapshot {sealed.snapshot.hex()} was forgotten",
                hint=f"Take it back, until a prune sweeps it: penstock undelete {sealed.snapshot.hex()[:8]}.",
            )
        why = notices.hides(sealed.snapshot, sealed.digest, sealed.writer) if notices and not hidden else None
        if why is not None:
            raise Malformed(why)
    except ObjectMissing:
        raise MissingObject(info.key, "the snapshot is gone") from None
    except Malformed as error:
        raise DamagedObject(info.key, str(error)) from None
    return SnapshotEntry(domain, head, sealed.session, sealed.writer, sealed.digest, len(data), info.modified)


def is_left_out(domain: Domain, key: str) -> bool:
    """Whether the head under `key` is what was written, and merely does not count, as after its writer's revocation."""
    with suppress(DamagedObject, MissingObject):
        read_snapshot(domain, ObjectInfo(key, 0), hidden=True)
        return True
    return False


def digest_of_head(domain: Domain, key: str) -> bytes | None:
    """That of its bytes, whatever they are; of what is too large to be a head, that of nothing. None if it is gone."""
    try:
        return blake3(fetch(domain.sink, key)).digest()
    except ObjectMissing:
        return None
    except Malformed:
        return blake3().digest()


def each_snapshot(
    domain: Domain, workers: Workers, objects: Iterable[ObjectInfo], notices: Notices, on_damage: OnDamage | None
) -> Iterator[SnapshotEntry]:
    """The snapshots that these heads are, in their order; those that were forgotten are left out.

    The first that is not what was written raises `DamagedObject` or `MissingObject`; or, with `on_damage`, is told to
    it and left out.
    """

    def read(info: ObjectInfo) -> SnapshotEntry | DamagedObject | MissingObject | None:
        try:
            return read_snapshot(domain, info)
        except DamagedObject as error:
            return None if notices.forgotten and _was_forgotten(domain, info.key, notices) else error
        except MissingObject as error:
            return error

    for found in read_all(workers, read, objects, most=_AT_ONCE):
        if isinstance(found, SnapshotEntry):
            if notices.hides(found.id, found.digest, found.writer) is None:
                yield found
        elif found is None:
            continue
        elif on_damage is None:
            raise found
        else:
            on_damage(found)


def _was_forgotten(domain: Domain, key: str, notices: Notices) -> bool:
    """Whether somebody let go of a head that cannot be read, by the digest of its bytes."""
    with suppress(Malformed):
        snapshot = layout.id_of(key)
        if any(snapshot == forgotten for forgotten, _ in notices.forgotten):
            return (snapshot, digest_of_head(domain, key)) in notices.forgotten
    return False


def list_snapshots(
    repository: Repository, on_damage: OnDamage | None = None, on_unreadable: OnStranger | None = None
) -> list[SnapshotEntry]:
    """All of them, oldest first, and each after its parent; `on_damage` as of `each_snapshot`.

    `on_unreadable` hears of what may say that snapshots are void or were forgotten, and nobody can read.
    """
    return summaries(repository, lambda entry: entry, on_damage, on_unreadable)


def summaries(
    repository: Repository,
    summary: Callable[[SnapshotEntry], T],
    on_damage: OnDamage | None = None,
    on_unreadable: OnStranger | None = None,
) -> list[T]:
    """As `list_snapshots`, but keeps what `summary` makes of each: a snapshot itself takes ten kilobytes of memory."""
    found: dict[bytes, tuple[_Place, T]] = {}
    with _workers(repository) as workers:
        for domain in repository.domains:
            for entry in _of_domain(domain, workers, on_damage, on_unreadable):
                found[entry.id] = (_Place.of(entry), summary(entry))
    return [found[place.id][1] for place in _in_order(place for place, _ in found.values())]


def _of_domain(
    domain: Domain, workers: Workers, on_damage: OnDamage | None, on_unreadable: OnStranger | None = None
) -> Iterator[SnapshotEntry]:
    notices = read_notices(domain, workers, on_unreadable)
    objects = listed(workers, domain.sink, domain.at.snapshots)
    yield from each_snapshot(domain, workers, objects, notices, on_damage)


class _Place(NamedTuple):
    """What decides on the order of snapshots."""

    id: bytes
    parent: bytes | None
    started: str
    finished: str

    @classmethod
    def of(cls, entry: SnapshotEntry) -> "_Place":
        return cls(entry.id, entry.head.parent, min(entry.head.started, entry.time), entry.time)


def _in_order(found: Iterable[_Place]) -> list[_Place]:
    """By their times; yet none before its parent, for clocks are set back, and a second is long for a small backup."""
    by_id = {place.id: place for place in found}
    times: dict[bytes | None, tuple[str, str, int]] = {}
    for place in by_id.values():
        line: list[_Place] = []
        following: _Place | None = place
        while following is not None and following.id not in times:
            # Noted at once, so that a ring of parents, which takes a forger, has an end too.
            times[following.id] = ("", "", 0)
            line.append(following)
            following = by_id.get(following.parent or b"")
        for one in reversed(line):
            started, finished, depth = times.get(one.parent, ("", "", -1))
            times[one.id] = (max(one.started, started), max(one.finished, finished), depth + 1)
    return sorted(by_id.values(), key=lambda place: (*times[place.id], place.id))


def find_snapshot(
    repository: Repository,
    text: str,
    *,
    on_damage: OnDamage | None = None,
    on_present: OnPresent | None = None,
    hidden: bool = False,
) -> SnapshotEntry:
    """`latest`, `latest:<backup>`, `latest:<domain>/<backup>`, or the beginning of an id that no other shares.

    `latest` passes over snapshots that are not what was written, or claim to be from the future, and tells
    `on_damage` of each; `on_present` hears of each of the others. Raises `SnapshotNotFound`, also where two domains
    have a backup of that name, and, for an id, `DamagedObject`. `hidden` is that of `read_snapshot`, for an id.
    """
    with _workers(repository) as workers:
        if text == "latest" or text.startswith("latest:"):
            return _latest(repository, workers, text.partition(":")[2], on_damage, on_present)
        return _by_id(repository, workers, text, hidden=hidden)


def _latest(
    repository: Repository, workers: Workers, wanted: str, on_damage: OnDamage | None, on_present: OnPresent | None
) -> SnapshotEntry:
    damaged = False
    names = _names(repository, wanted)

    def pass_over(error: DamagedObject | MissingObject) -> None:
        nonlocal damaged
        damaged = True
        if on_damage is not None:
            on_damage(error)

    def each() -> Iterator[SnapshotEntry]:
        for domain in repository.domains:
            for entry in _of_domain(domain, workers, pass_over):
                if on_present is not None:
                    on_present(entry)
                yield entry

    found: dict[bytes, tuple[_Place, Domain]] = {}
    for entry in each():
        if names is not None and (entry.domain.id, entry.head.backup) not in names:
            continue
        if entry.from_the_future:
            key = entry.domain.at.snapshot_key(entry.id)
            pass_over(DamagedObject(key, f"it claims to be of {entry.head.finished}, which is in the future"))
            continue
        found[entry.id] = (_Place.of(entry), entry.domain)
    _refuse_two_domains(wanted, {domain.label for _, domain in found.values()})
    for place in reversed(_in_order(place for place, _ in found.values())):
        domain = found[place.id][1]
        # Read again, for only what decides was kept; it may have been damaged or deleted meanwhile.
        try:
            return workers.call(read_snapshot, domain, ObjectInfo(domain.at.snapshot_key(place.id), 0))
        except (DamagedObject, MissingObject) as error:
            pass_over(error)
    raise _none(wanted, damaged=damaged)


def _names(repository: Repository, wanted: str) -> set[tuple[bytes, str]] | None:
    """The backups that are wanted, each with its domain; None for all.

    After the label of a domain it is one of that domain alone: a writer of another may call its backup like that.
    """
    if not wanted:
        return None
    label = max((one.label for one in repository.domains if wanted.startswith(f"{one.label}/")), key=len, default=None)
    if label is None:
        return {(domain.id, wanted) for domain in repository.domains}
    return {(domain.id, wanted[len(label) + 1 :]) for domain in repository.domains if domain.label == label}


def _none(wanted: str, *, damaged: bool) -> SnapshotNotFound:
    what = f"the backup {wanted}" if wanted else "this repository"
    if damaged:
        hint = "Run penstock check to see what is damaged."
        return SnapshotNotFound(f"there is no undamaged snapshot of {what}", hint=hint)
    return SnapshotNotFound(f"there is no snapshot of {what} yet", hint=_LIST)


def _refuse_two_domains(wanted: str, labels: Collection[str]) -> None:
    """Nobody decides which of two writers that do not trust each other is meant."""
    if wanted and len(labels) > 1:
        choices = " or ".join(f"latest:{label}/{wanted}" for label in sorted(labels))
        raise SnapshotNotFound(f"{len(labels)} domains have a backup named {wanted}", hint=f"Give {choices}.")


def _by_id(repository: Repository, workers: Workers, text: str, *, hidden: bool) -> SnapshotEntry:
    if not 0 < len(text) <= 2 * ID_BYTES or any(digit not in "0123456789abcdef" for digit in text):
        hint = "Give an id, its beginning, latest, latest:BACKUP or latest:DOMAIN/BACKUP."
        raise SnapshotNotFound(f"not the name of a snapshot: {text!r}", hint=hint)
    found: list[SnapshotEntry] = []
    lost: list[RepositoryError] = []
    for domain in repository.domains:
        length = len(domain.at.snapshot_key(bytes(ID_BYTES)))
        infos = listed(workers, domain.sink, domain.at.snapshots + text)
        # By their keys: a store may list one twice.
        heads = {info.key: info for info in infos if len(info.key) == length}
        notices = read_notices(domain, workers) if heads else None
        for info in heads.values():
            # What a stranger put under such a name makes nothing ambiguous.
            try:
                found.append(workers.call(read_snapshot, domain, info, notices, hidden=hidden))
            except (DamagedObject, MissingObject, SnapshotNotFound) as error:
                lost.append(error)
    if len(found) > 1:
        raise SnapshotNotFound(f"{len(found)} snapshots' ids begin with {text}", hint="Give more digits.")
    if found:
        return found[0]
    if lost:
        raise lost[0]
    raise SnapshotNotFound(f"no snapshot's id begins with {text}", hint=_LIST_HIDDEN if hidden else _LIST)


def _workers(repository: Repository) -> Workers:
    requests = ReadBudget.of(DEFAULT_MEMORY, repository.sink.connections).requests
    return Workers(requests, "penstock-snapshots", repository.sink.stop)
