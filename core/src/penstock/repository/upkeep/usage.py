"""What the snapshots of a domain need: what no snapshot needs is dead."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import NamedTuple, NoReturn, Protocol

from penstock.api.errors import DamagedObject, MissingObject, RepositoryError
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.format.part import Kind, Need, decode_needs, decode_sessions
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import Notices
from penstock.repository.pool import Workers
from penstock.repository.read.content import layout_sections, parts_of
from penstock.repository.read.listing import listed
from penstock.repository.snapshots import SnapshotEntry, digest_of_head, read_snapshot
from penstock.repository.temporary import TemporaryTables

__all__ = ["DECIDE", "Heads", "NeededSegments", "OnDamage", "Usage", "is_hidden", "survey"]

_SCHEMA = """
CREATE TABLE used (kind TEXT, id BLOB, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE needed (pack BLOB, pin BLOB, segments INTEGER NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (pack, pin))
    WITHOUT ROWID;
"""
_PAGE = 1000
_ROWS = 500
#: The hint about what has to be read before anything is deleted, and cannot be.
DECIDE = (
    "Nothing is deleted until somebody decides: bring it back from a copy, or let go of the snapshot: penstock forget, "
    "with --unreadable if its head, or a record, is what cannot be read."
)

IsDead = Callable[[SnapshotEntry], bool]
OnDamage = Callable[[RepositoryError], object]


@dataclass(slots=True)
class Heads:
    """The heads that were there: how many are kept, which are dead, by id and digest."""

    kept: int = 0
    dead: dict[bytes, bytes] = field(default_factory=dict)
    #: Sessions that have ended with one, and by whose key it is: another writer could claim any session.
    ended: set[tuple[bytes, bytes]] = field(default_factory=set)


class Adding(Protocol):
    """Takes the snapshots that count, from any thread."""

    def add(self, entry: SnapshotEntry) -> None:
        """All that a snapshot needs. Raises `DamagedObject`, `MissingObject`, `Malformed`."""


class _Found(NamedTuple):
    snapshot: bytes
    digest: bytes
    ended: tuple[bytes, bytes] | None
    dead: bool


class NeededSegments(NamedTuple):
    """Segments first written to `pack`, which has that pin and so many: a bit for each that is needed, by ordinal."""

    pack: bytes
    pin: bytes
    segments: int
    bits: int


class Usage:
    """What kept snapshots need: parts and sessions, and segments of packs. In a temporary file, for any threads."""

    def __init__(self) -> None:
        self._tables = TemporaryTables(_SCHEMA)
        self._lock = Lock()

    def close(self) -> None:
        """Nothing is asked any more."""
        self._tables.close()

    def add(self, entry: SnapshotEntry) -> None:
        """All that a snapshot needs. Raises `DamagedObject`, `MissingObject`, `Malformed`."""
        head = entry.head
        self._use("parts", (ref.part for ref in parts_of(entry)))
        self._use("sessions", (entry.session, *(base.session for base in head.bases)))
        for section in layout_sections(entry):
            if section.kind is Kind.SESSIONS:
                self._use("sessions", decode_sessions(section.data))
            elif section.kind is Kind.TABLE:
                self._need(decode_needs(section.data))

    def _use(self, kind: str, ids: Iterable[bytes]) -> None:
        each = iter(ids)
        while page := [(kind, one) for one in islice(each, _PAGE)]:
            self._tables.change_all("INSERT OR IGNORE INTO used VALUES (?, ?)", page)

    def _need(self, rows: Iterable[Need]) -> None:
        """Some hundred rows at a time: threads that take turns row by row spend most of their time on that."""
        each = (row for row in rows if row.bits)
        while page := list(islice(each, _ROWS)):
            with self._lock:
                marks = ",".join("?" * len(page))
                query = f"SELECT pack, pin, bits FROM needed WHERE pack IN ({marks})"  # noqa: S608
                found = self._tables.rows(query, [row.pack for row in page])
                known = {(pack, pin): _int(bits) for pack, pin, bits in found}
                changed = {}
                for row in page:
                    both = known.get((row.pack, row.pin), 0) | row.bits
                    if both != known.get((row.pack, row.pin)):
                        known[row.pack, row.pin] = both
                        changed[row.pack, row.pin] = (row.pack, row.pin, row.segments, _packed(both))
                self._tables.change_all("INSERT OR REPLACE INTO needed VALUES (?, ?, ?, ?)", list(changed.values()))

    def uses(self, kind: str, one: bytes) -> bool:
        """Whether anything needs this part or session."""
        return bool(self._tables.rows("SELECT 1 FROM used WHERE kind = ? AND id = ?", (kind, one)))

    def segments_of(self, pack: bytes) -> list[NeededSegments]:
        """The segments that are needed of those that were first written to a pack: one entry, or none.

        Several, if snapshots pin it differently: then all but one can come from copies alone.
        """
        query = "SELECT pack, pin, segments, bits FROM needed WHERE pack = ?"
        rows = self._tables.rows(query, (pack,))
        return [NeededSegments(name, pin, segments, _int(bits)) for name, pin, segments, bits in rows]


def _int(packed: bytes) -> int:
    return int.from_bytes(packed, "little")


def _packed(bits: int) -> bytes:
    return bits.to_bytes(-(-bits.bit_length() // 8), "little")


def is_hidden(domain: Domain, notices: Notices) -> IsDead:
    """Whether a snapshot does not count now: void, forgotten, or of a revoked writer and not kept by the owner."""

    def dead(entry: SnapshotEntry) -> bool:
        if notices.hides(entry.id, entry.digest, entry.writer) is not None:
            return True
        return not domain.log.in_force(entry.writer, entry.id, entry.digest)

    return dead


def _stop(error: RepositoryError) -> NoReturn:
    error.hint = DECIDE
    raise error from None


def survey(
    domain: Domain,
    workers: Workers,
    notices: Notices,
    usage: Adding,
    *,
    is_dead: IsDead,
    named: Mapping[bytes, bytes],
    on_damage: OnDamage = _stop,
) -> Heads:
    """Look at all heads, and add to `usage` what those need that are not dead.

    A head that cannot be read is dead if it was forgotten, or is one of `named`, by the digest of its bytes. Any other,
    and one that counts but whose parts cannot be read, raises `DamagedObject` or `MissingObject`: it may be in need of
    anything. Unless `on_damage` takes the error, from any thread: who gets it must delete nothing.
    """
    lost = notices.forgotten | set(named.items())
    look = _Look(domain, usage, is_dead, is_hidden(domain, notices), lost, on_damage)
    heads = Heads()
    for found in workers.map(look, listed(workers, domain.sink, domain.at.snapshots)):
        if found is None:
            continue
        if found.ended is not None:
            heads.ended.add(found.ended)
        if found.dead:
            heads.dead[found.snapshot] = found.digest
        else:
            heads.kept += 1
    return heads


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at one head; None for what is no head, or gone."""

    domain: Domain
    usage: Adding
    is_dead: IsDead
    is_hidden: IsDead
    lost: AbstractSet[tuple[bytes, bytes]]
    on_damage: OnDamage

    def __call__(self, info: ObjectInfo) -> _Found | None:
        try:
            snapshot = layout.id_of(info.key)
        except Malformed:
            return None  # nobody reads it as a head, and `check` tells
        try:
            entry = read_snapshot(self.domain, info, hidden=True)
        except MissingObject:
            return None
        except DamagedObject as error:
            return self._unreadable(snapshot, error)
        dead = self.is_dead(entry)
        if not dead:
            self._use(entry)
        return _Found(entry.id, entry.digest, (entry.session, entry.writer), dead)

    def _unreadable(self, snapshot: bytes, error: DamagedObject) -> _Found | None:
        digest = digest_of_head(self.domain, error.key)
        if digest is None:
            return None
        if (snapshot, digest) not in self.lost:
            self.on_damage(error)
            return None
        return _Found(snapshot, digest, None, dead=True)

    def _use(self, entry: SnapshotEntry) -> None:
        try:
            self.usage.add(entry)
        except (DamagedObject, MissingObject, Malformed) as error:
            if self.is_hidden(entry):
                return  # it was let go of since the tombstone was put, and could not be restored before
            if isinstance(error, Malformed):
                error = DamagedObject(self.domain.at.snapshot_key(entry.id), str(error))
            self.on_damage(error)
