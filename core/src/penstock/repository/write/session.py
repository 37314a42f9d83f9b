"""One writer's run: a session owns a data key, its writers store streams, and the final snapshot is the commit."""

import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from penstock import __version__
from penstock.api.errors import Interrupted, MissingObject, RepositoryError, SinkUnreachable, say_more
from penstock.api.models import StreamSpec
from penstock.api.plugin import Capability
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.keys import new_secret
from penstock.format.sealing import Sealer
from penstock.format.snapshot import Catalogue, Manifest, StreamRecord, encode_snapshot
from penstock.format.trust import OWNER_ID, SessionDocument
from penstock.repository import layout
from penstock.repository.budget import Budget
from penstock.repository.known.cache import Cache
from penstock.repository.known.synchronizing import synchronize
from penstock.repository.pool import Workers
from penstock.repository.read.budget import ReadBudget
from penstock.repository.read.listing import listed
from penstock.repository.repository import Repository, now
from penstock.repository.upkeep.locks import foundations, prolong_locks
from penstock.repository.write.merging import merged
from penstock.repository.write.stream import StoredStream, StreamWriter, Written

__all__ = ["Committed", "Session"]


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed snapshot. `stored` is what this run added to the repository (bytes), `packs` how many it uploaded."""

    catalogue: Catalogue
    stored: int
    packs: int


class Session:
    """One writer's run, as a context manager: leaving without `commit` leaves no snapshot behind.

    Entering asks whether the sink can be written, brings the local cache in step with the repository and registers the
    session there, so that none of this happens while a database holds a view. `memory` (bytes) is shared by all
    writers; up to `writers` of them may be open at once, each in its own thread. `on_damage` is told of objects found
    damaged in the search for duplicates, `on_trouble` of an unusable cache; both may be called from any writer's
    thread, and the backup continues.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        cache_folder: Path,
        memory: int,
        level: int | None,
        on_damage: Callable[[RepositoryError], None],
        on_trouble: Callable[[str], object],
        writers: int = 1,
    ) -> None:
        self._signing = repository.access.require_writer()
        connections = repository.sink.connections
        self._repository = repository
        self._budget = Budget.of(memory // writers, max(1, connections // writers))
        self._level = level
        self._on_damage = on_damage
        self._id = new_id()
        self._unusable: Collection[int] = ()
        self._thread_count = ReadBudget.of(memory, connections).requests
        self._cache_folder = cache_folder
        self._on_trouble = on_trouble
        self._started = now()
        data_key = new_secret()
        self._data_sealer = Sealer(data_key)
        self._wrapped = SessionDocument.wrap(
            data_key, {OWNER_ID: repository.config.owner.recipient}, repository.id, self._id
        )
        self._stored = 0

    def __enter__(self) -> Self:
        repository = self._repository
        with ExitStack() as opening:
            self._workers = opening.enter_context(Workers(self._thread_count, "penstock-session", repository.sink.stop))
            self._workers.call(repository.sink.preflight)
            # Asked now: it may take a request, which must not fail hours later, at the commit.
            self._if_absent = Capability.CONDITIONAL_PUT in self._workers.call(repository.sink.capabilities)
            self._cache = opening.enter_context(
                Cache(self._cache_folder, repository.id, repository.sink.location, on_trouble=self._on_trouble)
            )
            self._unusable = synchronize(repository, self._cache, self._workers, self._on_damage)
            self._write_session()
            opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cache.close()
        self._workers.__exit__(kind, error, traceback)

    def writer(self) -> StreamWriter:
        """A writer of streams in this session. Call from the session's thread; any one thread may enter and use it."""
        return StreamWriter(
            self._repository,
            self._cache.another(),
            session=self._id,
            data_sealer=self._data_sealer,
            budget=self._budget,
            level=self._level,
            unusable=self._unusable,
            on_damage=self._on_damage,
        )

    def _write_session(self) -> None:
        repository = self._repository
        session = SessionDocument(
            session=self._id,
            writer=repository.access.key,
            started=self._started,
            host=socket.gethostname(),
            grants=repository.grants.length,
            wrapped=self._wrapped,
        )
        key = layout.session_key(self._id)
        data = encode_document(key, session.to_json(), self._signing)
        self._workers.call(repository.sink.put, key, data)
        self._cache.add_sessions([(self._id, repository.access.key)])
        self._cache.saw([key])
        self._stored += len(data)

    def commit(
        self,
        *,
        backup: str,
        source: str,
        parent: bytes | None,
        consistency: str,
        inspection: dict[str, Any],
        streams: Sequence[tuple[StreamSpec, StoredStream]],
        written: Iterable[Written],
    ) -> Committed:
        """Check once more that the packs the streams need exist, and write the snapshot.

        `written` is what all writers' `finish` returned. In a sink with object lock, everything that the snapshot needs
        is locked as long as the snapshot. Raises `MissingObject` if a pack that this run relied on is gone: the run
        must be repeated. Where the outcome of the last request is unknown, `Interrupted` or
        `SinkUnreachable` says that the snapshot may exist.
        """
        done = tuple(written)
        segments, recipes = merged([stored for _, stored in streams])
        records = tuple(_record(spec, stored, recipe) for (spec, stored), recipe in zip(streams, recipes, strict=True))
        packs = {segment.pack for segment in segments}
        sessions = tuple(dict.fromkeys((self._id, *(one for _, stored in streams for one in stored.sessions))))
        repository = self._repository
        self._require_all({layout.pack_key(pack) for pack in packs})
        indexes = tuple(index for one in done for index in one.indexes)
        needed = (*map(layout.session_key, sessions), *map(layout.pack_key, sorted(packs)))
        self._prolong_locks((*needed, *map(layout.index_key, indexes)))
        stored = self._stored + sum(one.stored for one in done)
        catalogue = Catalogue(
            snapshot=new_id(),
            backup=backup,
            source=source,
            started=self._started,
            finished=now(),
            host=socket.gethostname(),
            program=f"penstock {__version__}",
            parent=parent,
            size=sum(record.size for record in records),
            streams=len(records),
            stored=stored,
            index=indexes,
            sessions=sessions,
            segments=segments,
        )
        data = encode_snapshot(
            catalogue,
            Manifest(consistency, inspection, records),
            repository=repository.id,
            session=self._id,
            writer=repository.access.key,
            index_sealer=repository.index_sealer,
            data_sealer=self._data_sealer,
            signer=self._signing,
        )
        key = layout.snapshot_key(catalogue.snapshot)
        try:
            self._workers.call(repository.sink.put, key, data, if_absent=self._if_absent)
        except (Interrupted, KeyboardInterrupt, SinkUnreachable) as error:
            say_more(error, f"the snapshot {catalogue.snapshot.hex()} may exist: run penstock snapshots to see")
            raise
        self._cache.saw([key])
        return Committed(catalogue, stored + len(data), sum(len(one.packs) for one in done))

    def _prolong_locks(self, needed: Sequence[str]) -> None:
        """Objects put hours ago, in this run or an earlier one, would otherwise be unlocked before the snapshot is."""
        repository = self._repository
        missing = prolong_locks(repository, self._cache, needed, self._workers)
        if missing:
            raise _gone(min(missing))
        for key in prolong_locks(repository, self._cache, foundations(repository), self._workers):
            lost = MissingObject(key, "the object is gone", hint="Run penstock check.")
            if not key.startswith(layout.SLOTS):
                raise lost  # without it nobody can open the repository
            # Another passphrase or key may still open it: no reason to skip tonight's backup.
            self._on_trouble(f"{lost}; run penstock check")

    def _require_all(self, packs: set[str]) -> None:
        missing = set(packs)
        for info in listed(self._workers, self._repository.sink, layout.PACKS):
            missing.discard(info.key)
        if missing:
            raise _gone(min(missing))


def _record(spec: StreamSpec, stored: StoredStream, recipe: bytes) -> StreamRecord:
    return StreamRecord(
        name=spec.name,
        format=spec.format,
        phase=spec.phase,
        optional=spec.optional,
        attributes=dict(spec.attributes),
        size=stored.size,
        digest=stored.digest,
        recipe=recipe,
    )


def _gone(key: str) -> MissingObject:
    return MissingObject(
        key, "an object that this backup relied on is gone", hint="Run the backup again: it stores the object anew."
    )
