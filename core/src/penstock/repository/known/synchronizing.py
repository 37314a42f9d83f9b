"""Brings a writer's cache in step with its domain before a dump: parallel requests, one thread for the cache."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, RepositoryError
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.format.index import PackSummary, decode_index
from penstock.format.session import SessionDocument
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.known.cache import Cache, SeenHead
from penstock.repository.notices import Notices, read_doomed, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.ends import TAIL, read_end
from penstock.repository.read.listing import listed, pages
from penstock.repository.sessions import proof_of_cut, read_session
from penstock.repository.snapshots import read_snapshot

__all__ = ["InStep", "synchronize"]

OnDamage = Callable[[RepositoryError], None]
#: In bytes.
_SMALL_INDEX = 256 * 1024
#: Packs that vanished, named in one warning.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class _Read:
    index: bytes
    packs: list[PackSummary]
    replaces: tuple[bytes, ...]


@dataclass(slots=True)
class InStep:
    """What a writer has to know of its domain."""

    #: Verified sessions of writers that are not revoked.
    sessions: set[bytes] = field(default_factory=set)
    #: The cache's numbers of packs that must not be deduplicated against.
    unusable: set[int] = field(default_factory=set)
    #: The heads of snapshots that are there, or were seen before and may have been hidden; none that was given up.
    heads: list[SeenHead] = field(default_factory=list)
    #: Those that are void or were forgotten: they count in their writers' sequences, and are nobody's parents.
    gone: set[bytes] = field(default_factory=set)
    #: Parts of snapshots that a prune is about to delete.
    doomed_parts: set[bytes] = field(default_factory=set)

    def newest(self) -> dict[bytes, SeenHead]:
        """The newest head of each writer."""
        found: dict[bytes, SeenHead] = {}
        for head in self.heads:
            known = found.get(head.writer)
            if known is None or (head.sequence, head.time) > (known.sequence, known.time):
                found[head.writer] = head
        return found

    def parent(self, name: bytes, until: str | None = None) -> bytes | None:
        """The latest snapshot of the backup whose name has this tag; None if there is none.

        With `until`, the latest of those that are not of a later time.
        """
        of_name = [
            head
            for head in self.heads
            if head.name == name and head.snapshot not in self.gone and (until is None or head.time <= until)
        ]
        followed = {head.parent for head in of_name}
        # Clocks are set back, and a second is long for a small backup: times decide only between runs side by side.
        newest = [head for head in of_name if head.snapshot not in followed] or of_name
        return max(newest, key=lambda head: head.time).snapshot if newest else None


def synchronize(
    domain: Domain, cache: Cache, workers: Workers, on_damage: OnDamage, *, not_before: datetime | None = None
) -> InStep:
    """Bring the cache in step with the domain: index objects first, then packs not yet in any index, sessions, heads.

    `on_damage` is told of what is not what was written, and of packs that vanished. What the store wrote in sessions
    before `not_before` is not to be used.
    """
    # Behind the first lease, and before anything is listed: what a tombstone names is there as long as it stands.
    doomed = read_doomed(domain, workers)
    _look_at_log(domain, cache, workers, on_damage)
    notices = read_notices(domain, workers)
    _read_new_indexes(domain, cache, workers, on_damage)
    _read_unindexed_packs(domain, cache, workers, notices, on_damage)
    sessions = set(_good_sessions(domain, cache, workers, on_damage, not_before)) - doomed.sessions
    heads = _heads(domain, cache, workers, notices, on_damage)
    shunned = notices.distrusted.keys() | cache.distrusted().keys() | doomed.packs
    gone = {head.snapshot for head in heads if notices.hides(head.snapshot, head.digest, head.writer) is not None}
    return InStep(sessions, cache.numbers(shunned), heads, gone, doomed.parts)


def _read_new_indexes(domain: Domain, cache: Cache, workers: Workers, on_damage: OnDamage) -> None:
    """The large ones first: they may say that small ones need not be read."""

    def read(info: ObjectInfo) -> _Read | RepositoryError | None:
        try:
            sealed = decode_index(layout.id_of(info.key), fetch(domain.sink, info.key))
            signer = domain.signer(sealed.signer)
            if signer is None:
                raise Malformed("its signer was never granted to write here")
            sealed.verify(signer, domain.scope)
            if domain.log.revoked(sealed.signer):
                # It could hide the packs of others, by saying that they have no hooks.
                return _Read(sealed.index, [], ())
            _, replaces = sealed.open_packs(domain.layout_sealer, domain.scope)
            packs = sealed.open_summaries(domain.layout_sealer, domain.id_sealer, domain.scope)
            return _Read(sealed.index, packs, replaces)
        except ObjectMissing:
            return None
        except Malformed as error:
            return DamagedObject(info.key, str(error))

    new = []
    for page in pages(listed(workers, domain.sink, domain.at.index)):
        known = cache.known(info.key for info in page)
        new += [info for info in page if info.key not in known]
    replaced: set[str] = set()
    for large in (True, False):
        wanted = [info for info in new if (info.size > _SMALL_INDEX) is large and info.key not in replaced]
        for info, found in zip(wanted, workers.map(read, wanted), strict=True):
            if isinstance(found, RepositoryError):
                on_damage(found)
            elif found is not None:
                cache.add_packs(found.packs, index=found.index)
                cache.saw([info.key])
                replaced.update(map(domain.at.index_key, found.replaces))
    cache.saw(info.key for info in new if info.key in replaced)


def _read_unindexed_packs(
    domain: Domain, cache: Cache, workers: Workers, notices: Notices, on_damage: OnDamage
) -> None:
    def read(info: ObjectInfo) -> PackSummary | RepositoryError:
        try:
            end = read_end(domain, layout.id_of(info.key), info.size, TAIL)
            end.require_signer()
            return end.summary()
        except Malformed as error:
            return DamagedObject(info.key, str(error))
        except (DamagedObject, MissingObject) as error:
            return error

    listing = cache.unlisted()
    for page in pages(listed(workers, domain.sink, domain.at.packs)):
        there = {}
        for info in page:
            try:
                there[layout.id_of(info.key)] = info
            except Malformed as error:
                on_damage(DamagedObject(info.key, str(error)))
        known = listing.page([(pack, info.size) for pack, info in there.items()])
        new = [info for pack, info in there.items() if pack not in known]
        # What has another size than the index says is not what the index says.
        cache.forget_packs(layout.id_of(info.key) for info in new)
        for summary in workers.map(read, new):
            if isinstance(summary, RepositoryError):
                on_damage(summary)
            else:
                cache.add_packs([summary])
        cache.saw(info.key for info in there.values())
    gone = list(listing.gone())
    cache.forget_packs(gone)
    _tell_vanished([key for key in map(domain.at.pack_key, gone) if key not in notices.deleted], on_damage)


def _tell_vanished(keys: list[str], on_damage: OnDamage) -> None:
    """Say that these objects are gone although nobody recorded their deletion."""
    if not keys:
        return
    first, *others = sorted(keys)
    reason = "gone, and nobody recorded its deletion"
    if others:
        reason = f"gone, with {len(others)} more, and nobody recorded their deletion"
    hint = "Run penstock check to see what is lost. What this backup needs is stored anew."
    on_damage(MissingObject(first, reason, hint=hint, details=tuple(others[:_NAMED])))


def _good_sessions(
    domain: Domain, cache: Cache, workers: Workers, on_damage: OnDamage, not_before: datetime | None
) -> Iterator[bytes]:
    """Verified sessions whose writers are not revoked, and that are not too old."""
    known = cache.sessions()
    new = []
    old = set()
    for info in listed(workers, domain.sink, domain.at.sessions):
        try:
            session = layout.id_of(info.key)
        except Malformed as error:
            on_damage(DamagedObject(info.key, str(error)))
            continue
        if not_before is not None and info.modified is not None and info.modified < not_before:
            old.add(session)
        if session not in known:
            new.append(session)
        elif session not in old and not domain.log.revoked(known[session]):
            yield session
    verified = []
    cut = None
    for session, found in zip(new, workers.map(partial(_session, domain), new), strict=True):
        if isinstance(found, RepositoryError):
            on_damage(found)
            continue
        verified.append((session, found.writer))
        cut = cut or workers.call(proof_of_cut, domain, found)
        if session not in old and not domain.log.revoked(found.writer):
            yield session
    if cut is not None:
        on_damage(cut)
    if verified:
        cache.add_sessions(verified)


def _session(domain: Domain, session: bytes) -> SessionDocument | RepositoryError:
    try:
        return read_session(domain, session)
    except (DamagedObject, MissingObject) as error:
        return error


def _look_at_log(domain: Domain, cache: Cache, workers: Workers, on_damage: OnDamage) -> None:
    """Say so if the end of the owner's log is gone that this host has seen."""
    gone = set(cache.seen(layout.GRANTS)).difference(domain.log.keys)
    if gone:
        # The owner may have added to it since it was read.
        gone.difference_update(info.key for info in listed(workers, domain.sink, layout.GRANTS))
    if gone:
        on_damage(MissingObject(min(gone), "gone: this host has seen it, so the owner's log was cut"))
    cache.saw(domain.log.keys)


def _given_up(domain: Domain, seen: Iterable[SeenHead], notices: Notices) -> set[bytes]:
    """Snapshots whose heads this host has seen, and somebody gave up since: because they were damaged, or are gone.

    Whoever named them would have everybody miss them again.
    """
    forgotten = {snapshot for snapshot, _ in notices.forgotten}
    return {
        head.snapshot
        for head in seen
        if (head.snapshot, head.digest) not in notices.forgotten
        and (
            head.snapshot in forgotten
            or head.digest in notices.given_up
            or domain.at.snapshot_key(head.snapshot) in notices.deleted
        )
    }


def _heads(domain: Domain, cache: Cache, workers: Workers, notices: Notices, on_damage: OnDamage) -> list[SeenHead]:
    def read(info: ObjectInfo) -> SeenHead | RepositoryError:
        try:
            entry = read_snapshot(domain, info)
        except (DamagedObject, MissingObject) as error:
            return error
        head = entry.head
        tag = domain.keys.tag(head.backup)
        return SeenHead(entry.id, entry.writer, head.sequence, entry.digest, tag, entry.time, head.parent)

    seen = {head.snapshot: head for head in cache.heads()}
    given_up = _given_up(domain, seen.values(), notices)
    there = set()
    new = []
    for info in listed(workers, domain.sink, domain.at.snapshots):
        try:
            snapshot = layout.id_of(info.key)
        except Malformed as error:
            on_damage(DamagedObject(info.key, str(error)))
            continue
        there.add(snapshot)
        if snapshot not in seen:
            new.append(info)
    explained = given_up | {one for one, head in seen.items() if (one, head.digest) in notices.forgotten}
    vanished = [one for one in seen if one not in there and one not in explained]
    _tell_vanished([domain.at.snapshot_key(one) for one in vanished], on_damage)
    for head in workers.map(read, new):
        if isinstance(head, RepositoryError):
            on_damage(head)
        else:
            seen[head.snapshot] = head
            cache.add_heads([head])
    # Writers may have been revoked since.
    return [
        head
        for head in seen.values()
        if head.snapshot not in given_up and domain.log.in_force(head.writer, head.snapshot, head.digest)
    ]
