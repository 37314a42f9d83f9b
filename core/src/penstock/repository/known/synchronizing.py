"""Brings a writer's cache in step with the repository before a dump: parallel requests, one thread for the cache."""

from collections.abc import Callable, Iterable
from functools import partial

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, RepositoryError, UnsupportedFormat
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.format.index import PackSummary, open_index
from penstock.repository import layout
from penstock.repository.known.cache import Cache
from penstock.repository.pool import Workers
from penstock.repository.read.directories import read_pack_end
from penstock.repository.read.listing import listed
from penstock.repository.repository import Repository
from penstock.repository.sessions import read_session

__all__ = ["synchronize"]

OnDamage = Callable[[RepositoryError], None]


def synchronize(repository: Repository, cache: Cache, workers: Workers, on_damage: OnDamage) -> set[int]:
    """Bring the cache in step with the repository: index objects first, then packs not yet in any index.

    Returns the numbers of packs that must not be deduplicated against, because their session is gone or its writer
    was revoked. Raises `UnsupportedFormat` if a later version has begun to prune.
    """
    if any(True for _ in listed(workers, repository.sink, layout.TOMBSTONES)):
        raise UnsupportedFormat(
            f"{repository.sink.location} is being pruned by a later version", hint="Update Penstock."
        )
    _read_new_indexes(repository, cache, workers, on_damage)
    _read_unindexed_packs(repository, cache, workers, on_damage)
    good = _good_sessions(repository, cache, workers, on_damage)
    return cache.packs_of_other_sessions(good)


def _read_new_indexes(repository: Repository, cache: Cache, workers: Workers, on_damage: OnDamage) -> None:
    def read(info: ObjectInfo) -> list[PackSummary] | RepositoryError | None:
        try:
            data = repository.sink.get(info.key)
            return open_index(data, repository.index_sealer, repository.id, layout.id_of(info.key))
        except ObjectMissing:
            return None
        except Malformed as error:
            return DamagedObject(info.key, str(error))

    known = set(cache.seen(layout.INDEX))
    new = [info for info in listed(workers, repository.sink, layout.INDEX) if info.key not in known]
    for info, packs in zip(new, workers.map(read, new), strict=True):
        if isinstance(packs, RepositoryError):
            on_damage(packs)
        elif packs is not None:
            cache.add_packs(packs, indexed=True)
            cache.saw([info.key])


def _read_unindexed_packs(repository: Repository, cache: Cache, workers: Workers, on_damage: OnDamage) -> None:
    def read(info: ObjectInfo) -> PackSummary | RepositoryError:
        try:
            return read_pack_end(repository, layout.id_of(info.key), info.size)[1]
        except (DamagedObject, MissingObject) as error:
            return error

    known = cache.packs()
    gone = set(known)
    there, new = [], []
    for info in listed(workers, repository.sink, layout.PACKS):
        try:
            pack = layout.id_of(info.key)
        except Malformed as error:
            on_damage(DamagedObject(info.key, str(error)))
            continue
        gone.discard(pack)
        there.append(info.key)
        if pack not in known:
            new.append(info)
    for summary in workers.map(read, new):
        if isinstance(summary, RepositoryError):
            on_damage(summary)
        else:
            cache.add_packs([summary], indexed=False)
    if gone:
        cache.forget_packs(gone)
    cache.saw(there)


def _good_sessions(repository: Repository, cache: Cache, workers: Workers, on_damage: OnDamage) -> Iterable[bytes]:
    """Verified sessions whose writers are not revoked."""
    known = cache.sessions()
    good, new = [], []
    for info in listed(workers, repository.sink, layout.SESSIONS):
        try:
            session = layout.id_of(info.key)
        except Malformed as error:
            on_damage(DamagedObject(info.key, str(error)))
            continue
        if session not in known:
            new.append(session)
        elif not repository.grants.revoked(known[session]):
            good.append(session)
    verified = []
    for session, writer in zip(new, workers.map(partial(_writer_of, repository), new), strict=True):
        if isinstance(writer, RepositoryError):
            on_damage(writer)
            continue
        verified.append((session, writer))
        if not repository.grants.revoked(writer):
            good.append(session)
    if verified:
        cache.add_sessions(verified)
    return good


def _writer_of(repository: Repository, session: bytes) -> bytes | RepositoryError:
    try:
        return read_session(repository, session).writer
    except (DamagedObject, MissingObject) as error:
        return error
