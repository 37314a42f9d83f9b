"""Notices, tombstones and deletion records: what is not relied on, listed or used any more, by whoever may say so."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from penstock.api.errors import ObjectExists
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.format.times import now
from penstock.format.trust import OWNER_ID
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.said import OnStranger, Said, is_said, put_said, read_said

__all__ = [
    "Doomed",
    "Doubted",
    "Head",
    "Notices",
    "delete",
    "distrust",
    "forget",
    "in_force",
    "is_settled",
    "read_doomed",
    "read_notices",
    "read_tombstones",
    "settle",
    "undelete",
    "void",
]

Head = tuple[bytes, bytes]
"""A snapshot's id, and the digest of its head."""

#: A notice of so many packs, with reasons of so many characters, is never larger than allowed.
_PACKS_A_NOTICE = 2000
_LONGEST = 200


@dataclass(slots=True)
class Notices:
    """What a domain's notices and deletion records say."""

    #: Packs that no writer may deduplicate against, and why.
    distrusted: dict[bytes, str] = field(default_factory=dict)
    #: Who said of which heads, (snapshot, digest), that they are void: its own writer's and the owner's word counts.
    void: dict[Head, set[bytes]] = field(default_factory=dict)
    #: Heads that were forgotten: (snapshot, digest).
    forgotten: set[Head] = field(default_factory=set)
    #: For each that is in `forgotten` and was not deleted, the records that say so.
    forgets: dict[Head, set[bytes]] = field(default_factory=dict)
    #: Those of them that a sweep has deleted, for good.
    swept: set[Head] = field(default_factory=set)
    #: Objects that were deleted on purpose, and heads that are gone and were given up: their keys.
    deleted: set[str] = field(default_factory=set)
    #: Heads that are gone, and that somebody gave up: the digests by which others name them.
    given_up: set[bytes] = field(default_factory=set)
    #: And the snapshots of such heads.
    missing: set[bytes] = field(default_factory=set)

    def hides(self, snapshot: bytes, digest: bytes, writer: bytes) -> str | None:
        """Why a snapshot with this head is not listed; None if it is."""
        if not self.void.get((snapshot, digest), set()).isdisjoint((writer, OWNER_ID)):
            return "its own writer found that it cannot be restored, and voided it"
        if (snapshot, digest) in self.forgotten:
            return "forgotten"
        return None


class Doubted(NamedTuple):
    """A key that was stolen, perhaps, and since when; None if nobody knows."""

    key: bytes
    since: str | None

    def said(self, signer: bytes, *times: str) -> bool:
        """Whether it is the signer, and said it since then, as it says itself or as the store does."""
        return signer == self.key and self.since is not None and max(times) >= self.since


def read_notices(
    domain: Domain, workers: Workers, on_stranger: OnStranger | None = None, *, doubted: Doubted | None = None
) -> Notices:
    """What is in force, but for what is `doubted`; `on_stranger` is told of objects of nobody who may say so."""
    found = Notices()
    for said in read_said(domain, workers, domain.at.notices, Notice, domain.signer, on_stranger):
        signer, notice = said.signer, said.content
        if doubted is not None and doubted.said(signer, notice.made, said.written):
            continue
        found.distrusted.update(notice.packs)
        for head in notice.void.items():
            found.void.setdefault(head, set()).add(signer)
    records = list(read_said(domain, workers, domain.at.deletions, Deletion, domain.keeper, on_stranger))
    found.forgets = in_force(records)
    at = domain.at
    for record in (said.content for said in records):
        found.given_up.update(record.gone)
        found.missing.update(record.missing)
        found.deleted.update(map(at.snapshot_key, record.missing))
        if record.action is Action.DELETE:
            things = record.things
            found.swept.update(record.snapshots.items())
            found.deleted.update(map(at.snapshot_key, record.snapshots))
            found.deleted.update(map(at.pack_key, things.packs))
            found.deleted.update(map(at.part_key, things.parts))
            found.deleted.update(map(at.index_key, things.index))
            found.deleted.update(map(at.session_key, things.sessions))
            found.deleted.update(map(at.notice_key, things.notices))
            found.deleted.update(map(at.mark_key, things.marks))
            found.deleted.update(map(at.deletion_key, things.deletions))
    found.forgotten = found.forgets.keys() | found.swept
    return found


def in_force(records: Collection[Said[Deletion]]) -> dict[Head, set[bytes]]:
    """The heads that are forgotten, each with the records that say so and were not lifted.

    Who lifts names what is lifted, so that their order does not matter: clocks may be wrong. What was written too late,
    as it says itself, lifts nothing: a prune sweeps those snapshots.
    """
    lifted = {
        (head, name)
        for said in records
        if said.content.action is Action.UNDELETE and not _too_late(said)
        for head in said.content.snapshots.items()
        for name in said.content.lifts
    }
    found: dict[Head, set[bytes]] = {}
    for said in records:
        for head in said.content.snapshots.items() if said.content.action is Action.FORGET else ():
            if (head, said.name) not in lifted:
                found.setdefault(head, set()).add(said.name)
    return found


def _too_late(said: Said[Deletion]) -> bool:
    """By the store's clock, as sweeps go."""
    return bool(said.content.until) and (said.written or said.content.made) >= said.content.until


class Doomed(NamedTuple):
    """What a prune is about to delete: a session that begins now must not use it."""

    packs: set[bytes]
    parts: set[bytes]
    sessions: set[bytes]


def read_tombstones(
    domain: Domain, workers: Workers, on_stranger: OnStranger | None = None
) -> Iterator[Said[Tombstone]]:
    """Those that stand: a locked one can stay when all that it names is settled, and a record with its id says so."""
    for said in read_said(domain, workers, domain.at.tombstones, Tombstone, domain.keeper, on_stranger):
        if not workers.call(is_settled, domain, said.name):
            yield said


def is_settled(domain: Domain, tombstone: bytes) -> bool:
    """Whether a record says that what a tombstone names was deleted, or is not to be."""
    return is_said(domain, domain.at.deletion_key(tombstone), Deletion, domain.keeper)


def settle(domain: Domain, tombstone: bytes) -> None:
    """Say that a tombstone that cannot be deleted stands no more."""
    with suppress(ObjectExists):
        put_said(domain, Deletion(now(), Action.DELETE, {}), tombstone)


def read_doomed(domain: Domain, workers: Workers, on_stranger: OnStranger | None = None) -> Doomed:
    """What the domain's tombstones name."""
    doomed = Doomed(set(), set(), set())
    for said in read_tombstones(domain, workers, on_stranger):
        doomed.packs.update(said.content.things.packs)
        doomed.parts.update(said.content.things.parts)
        doomed.sessions.update(said.content.things.sessions)
    return doomed


def distrust(domain: Domain, packs: Mapping[bytes, str]) -> None:
    """Tell all writers not to deduplicate against these packs, and why, in as many notices as it takes."""
    left = iter(packs.items())
    while some := dict(islice(left, _PACKS_A_NOTICE)):
        put_said(domain, Notice(now(), {pack: why[:_LONGEST] for pack, why in some.items()}))


def void(domain: Domain, snapshots: Mapping[bytes, bytes]) -> None:
    """Say that these are no snapshots, by the digests of their heads: as their writer, or the owner."""
    put_said(domain, Notice(now(), void=snapshots))


def forget(
    domain: Domain,
    snapshots: Mapping[bytes, bytes],
    *,
    gone: Collection[bytes] = (),
    missing: Collection[bytes] = (),
) -> None:
    """Record that these snapshots are forgotten; by the digests of their heads.

    And that nobody misses heads that are gone: by the digests that others name, and by the ids of their snapshots.
    """
    content = Deletion(now(), Action.FORGET, snapshots, gone=tuple(sorted(gone)), missing=tuple(sorted(missing)))
    put_said(domain, content)


def undelete(domain: Domain, snapshots: Mapping[bytes, bytes], lifts: Collection[bytes], until: str = "") -> str:
    """Lift these records from these snapshots, by the digests of their heads; returns the key of the new record.

    One that the store writes at `until` or later has no effect.
    """
    content = Deletion(now(), Action.UNDELETE, snapshots, lifts=tuple(sorted(lifts)), until=until)
    return domain.at.deletion_key(put_said(domain, content))


def delete(domain: Domain, snapshots: Mapping[bytes, bytes], things: Things) -> None:
    """Record that these are about to be deleted, for good."""
    put_said(domain, Deletion(now(), Action.DELETE, snapshots, things))
