"""Giving up: heads that nobody can read, and heads that others name and that are gone.

Both stop whoever must not guess: a prune does not know what an unreadable head needs, and maintenance deletes nothing
while a head is missing. A record of a maintainer or the owner settles that, for good.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SnapshotNotFound, UsageError
from penstock.api.models import ObjectInfo
from penstock.engine.checking.chain import Chain
from penstock.format.encoding import Malformed, id_from_hex
from penstock.repository import Repository, layout
from penstock.repository.domain import Domain
from penstock.repository.notices import forget, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.snapshots import digest_of_head, each_snapshot, is_left_out, read_snapshot

__all__ = ["Gone", "Unreadable", "find_gone", "find_unreadable", "forget_gone", "forget_unreadable", "gone_with"]

_ALL_DIGITS = "penstock check names them, after snapshots/."


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A head that nobody can read, with the digest of its bytes as they are, and what is wrong with it."""

    domain: Domain = field(repr=False)
    id: bytes
    digest: bytes
    problem: str

    def to_json(self) -> dict[str, Any]:
        """What there is to say of it."""
        return {"id": self.id.hex(), "domain": self.domain.label, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class Gone:
    """A head that is not there: by the digest that another one names, or by the id of its snapshot; and who says so."""

    domain: Domain = field(repr=False)
    digest: bytes | None
    id: bytes | None
    problem: str

    def to_json(self) -> dict[str, Any]:
        """What there is to say of it."""
        return {"id": self.id.hex() if self.id else None, "domain": self.domain.label, "problem": self.problem}


def find_unreadable(repository: Repository, name: str) -> Unreadable:
    """The head with this id, whole, if it cannot be read. Raises `SnapshotNotFound`, `UsageError` for one that can."""
    snapshot = _whole_id(name)
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        for domain in repository.domains:
            key = domain.at.snapshot_key(snapshot)
            digest = workers.call(digest_of_head, domain, key)
            if digest is None:
                continue
            try:
                workers.call(read_snapshot, domain, ObjectInfo(key, 0), hidden=True)
            except DamagedObject as error:
                return Unreadable(domain, snapshot, digest, error.reason)
            raise UsageError(f"the snapshot {name} can be read", hint="Forget it without --unreadable.")
    raise SnapshotNotFound(f"there is no head with the id {name}", hint=_ALL_DIGITS)


def find_gone(repository: Repository, names: Sequence[str] = ()) -> list[Gone]:
    """The heads that others name and that nothing explains, and those of `names`, which are whole ids.

    Raises `UsageError` for what is no id or is there, and `DamagedObject` while a head is there that cannot be read: it
    may be one of those, and mended.
    """
    wanted = [_whole_id(name) for name in names]
    found: list[Gone] = []
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        for domain in repository.domains:
            for snapshot in wanted:
                _require_gone(domain, workers, snapshot)
                found.append(Gone(domain, None, snapshot, "named on the command line"))
            unreadable, gone = _look(domain, workers)
            if gone and unreadable is not None:
                unreadable.hint = "Mend it with penstock repair, or let go of it first: penstock forget --unreadable."
                raise unreadable
            found += gone
    return found


def gone_with(repository: Repository, heads: Sequence[Unreadable]) -> list[Gone]:
    """What others name in the place of these heads, and is gone.

    Nothing in a domain where more are gone than are given: nobody knows which of them these were.
    """
    found: list[Gone] = []
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        for domain in repository.domains:
            count = len({head.id for head in heads if head.domain.id == domain.id})
            gone = _look(domain, workers)[1] if count else []
            if len({one.digest for one in gone if one.digest}) <= count:
                found += [one for one in gone if one.digest]
    return found


def forget_unreadable(repository: Repository, heads: Sequence[Unreadable], gone: Sequence[Gone] = ()) -> None:
    """Record that nobody wants these any more, so that a prune need not know what they need: for good, after its grace.

    And that nobody misses what is `gone`. Raises `RoleForbids` for a writer's key.
    """
    repository.access.require_keeper("forgetting a snapshot")
    with Workers(repository.sink.connections, "penstock-forget", repository.sink.stop) as workers:
        for domain in repository.domains:
            named = {head.id: head.digest for head in heads if head.domain.id == domain.id}
            digests = {one.digest for one in gone if one.domain.id == domain.id and one.digest}
            ids = {one.id for one in gone if one.domain.id == domain.id and one.id}
            if named or digests or ids:
                workers.call(forget, domain, named, gone=digests, missing=ids)


def forget_gone(repository: Repository, gone: Sequence[Gone]) -> None:
    """Record that nobody misses these heads: a check takes them for explained. Raises `RoleForbids` as above."""
    forget_unreadable(repository, (), gone)


def _whole_id(name: str) -> bytes:
    try:
        return id_from_hex(name)
    except Malformed:
        raise UsageError(f"{name} is not the whole id of a snapshot: 32 digits", hint=_ALL_DIGITS) from None


def _require_gone(domain: Domain, workers: Workers, snapshot: bytes) -> None:
    try:
        workers.call(domain.sink.stat, domain.at.snapshot_key(snapshot))
    except ObjectMissing:
        return
    raise UsageError(f"the head of {snapshot.hex()} is there", hint="Forget it without --gone.")


def _look(domain: Domain, workers: Workers) -> tuple[DamagedObject | None, list[Gone]]:
    """A head that cannot be read, if there is any, and those that are gone.

    Twice, if anything is: a head that was put while others were listed is there all the same.
    """
    unreadable, gone = _look_once(domain, workers)
    if gone:
        unreadable, again = _look_once(domain, workers)
        gone = [one for one in again if one in gone]
    return unreadable, gone


def _look_once(domain: Domain, workers: Workers) -> tuple[DamagedObject | None, list[Gone]]:
    notices = read_notices(domain, workers)
    unreadable: list[DamagedObject] = []

    def on_damage(error: DamagedObject | MissingObject) -> None:
        if not unreadable and isinstance(error, DamagedObject) and not workers.call(is_left_out, domain, error.key):
            unreadable.append(error)

    chain = Chain(notices)
    there: set[bytes] = set()
    parents: dict[bytes, str] = {}
    for entry in each_snapshot(domain, workers, listed(workers, domain.sink, domain.at.snapshots), notices, on_damage):
        chain.add(entry)
        there.add(entry.id)
        if entry.head.parent is not None:
            parents.setdefault(entry.head.parent, f"snapshot {entry.id.hex()[:8]} names it as its parent")
    gone: dict[bytes, Gone] = {}
    for one in chain.gone():
        who = layout.id_of(one.key).hex()[:8]
        gone.setdefault(one.digest, Gone(domain, one.digest, None, f"of snapshot {who}: {one.what}, which is gone"))
    explained = there.union(snapshot for snapshot, _ in (*notices.forgotten, *notices.void))
    lost = [
        Gone(domain, None, parent, what)
        for parent, what in parents.items()
        if parent not in explained
        and domain.at.snapshot_key(parent) not in notices.deleted
        and not workers.call(_is_there, domain, parent)
    ]
    return unreadable[0] if unreadable else None, [*gone.values(), *lost]


def _is_there(domain: Domain, snapshot: bytes) -> bool:
    try:
        domain.sink.stat(domain.at.snapshot_key(snapshot))
    except ObjectMissing:
        return False
    return True
