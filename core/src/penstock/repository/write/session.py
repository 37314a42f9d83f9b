"""One writer's run: a session owns a data key, its writers store streams, and the snapshot's head is the commit."""

import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from penstock import __version__
from penstock.api.errors import RepositoryError
from penstock.api.models import StreamSpec
from penstock.api.plugin import Capability
from penstock.format.documents import encode_document
from penstock.format.encoding import ID_BYTES, new_id
from penstock.format.head import MAX_REFS, MAX_SEEN, MAX_SEQUENCE, Head, Seen, encode_head
from penstock.format.keys import new_secret, wrap_data_key
from penstock.format.manifest import Manifest, StreamRecord, encode_manifest
from penstock.format.part import MAX_PLAIN, SECTION_OVERHEAD, SESSION_BYTES, Kind, encode_sessions
from penstock.format.sealing import Sealer
from penstock.format.session import SessionDocument
from penstock.format.times import now
from penstock.repository.budget import Budget
from penstock.repository.known.cache import Cache, SeenHead
from penstock.repository.known.synchronizing import InStep, synchronize
from penstock.repository.pool import Workers
from penstock.repository.read.budget import ReadBudget
from penstock.repository.repository import Repository
from penstock.repository.temporary import PackSizes
from penstock.repository.upkeep.leases import Lease
from penstock.repository.write.handing_over import HandedOver
from penstock.repository.write.indexing import merge_indexes
from penstock.repository.write.last_checks import LastChecks, unless_known
from penstock.repository.write.parts import Piece, put_parts, referred
from penstock.repository.write.recollection import Recollection
from penstock.repository.write.renewal import last_renewal
from penstock.repository.write.stream import StoredStream, StreamWriter, Written

__all__ = ["Committed", "Session"]

#: Rows of segment tables that one session, and one writer in it, has to itself.
_ROWS_A_SESSION = 1 << 34
_ROWS_A_WRITER = 1 << 24
_MOST_WRITERS = _ROWS_A_SESSION // _ROWS_A_WRITER


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed snapshot. `stored` is what this run added to the repository (bytes), `packs` how many it uploaded."""

    head: Head
    digest: bytes
    stored: int
    packs: int


class Session:
    """One writer's run, as a context manager: leaving without `commit` leaves no snapshot behind.

    Entering asks whether the sink can be written, brings the local cache in step with the domain and registers the
    session there, so that none of this happens while a database holds a view. `memory` (bytes) is shared by all
    writers that are open at once, each in its own thread. `on_damage` is told of objects found damaged in the search
    for duplicates, `on_trouble` of an unusable cache; both may be called from any writer's thread, and the backup
    continues. With `joins`, it writes streams of a session that another process commits, as one of
    so many `sharers` of the sink's connections.

    Streams are compared with those of the last snapshot of the same `backup` that this host remembers. `cache_size`
    (bytes) limits what it remembers; None leaves that to the size of the dump, and 0 remembers nothing. `pack_size`
    (bytes) makes packs smaller than usual, for stores or lines that break large uploads off. With `renew_every`,
    everything is stored anew once in that time: see `last_renewal`.
    """

    def __init__(
        self,
        repository: Repository,
        backup: str,
        *,
        cache_folder: Path,
        cache_size: int | None = None,
        pack_size: int | None = None,
        memory: int,
        level: int | None,
        tags: Collection[str] = (),
        renew_every: timedelta | None = None,
        on_damage: Callable[[RepositoryError], None],
        on_trouble: Callable[[str], object],
        joins: HandedOver | None = None,
        sharers: int = 1,
    ) -> None:
        self._domain = domain = repository.domain
        connections = max(1, domain.sink.connections // sharers)
        self._memory = memory
        self._connections = connections
        self._pack_size = pack_size
        self._share(1)  # says now whether it is too little
        self._level = level
        self._on_damage = on_damage
        self._on_trouble = on_trouble
        self._thread_count = ReadBudget.of(memory, connections).requests
        self._cache_folder = cache_folder
        self._joins = joins
        self._id = joins.session if joins else new_id()
        self._started = joins.started if joins else now()
        self._data_key = joins.data_key if joins else new_secret()
        self._data_sealer = Sealer(self._data_key)
        self._recipient = repository.config.owner.recipient
        self._backup = backup
        self._tags = tuple(tags)
        self._renew_every = renew_every
        self._renewed = joins.renewed if joins else None
        self._tag = domain.keys.tag(backup)
        self._cache_size = cache_size
        self._first_row = joins.first_row if joins else 0
        self._writers = self._handed_over = 0
        self._committed = False
        self._lease: Lease | None = None
        self._in_step = InStep()
        self._stored = 0

    def __enter__(self) -> Self:
        domain = self._domain
        with ExitStack() as opening:
            self._workers = opening.enter_context(Workers(self._thread_count, "penstock-session", domain.sink.stop))
            self._workers.call(domain.sink.preflight)
            # Asked now: it may take a request, which must not fail hours later, at the commit.
            self._if_absent = Capability.CONDITIONAL_PUT in self._workers.call(domain.sink.capabilities)
            self._cache = opening.enter_context(
                Cache(self._cache_folder, domain.scope, domain.sink.location, on_trouble=self._on_trouble)
            )
            if self._joins is None:
                # Before it looks what there is: a prune that says later what it deletes waits for this session.
                lease = Lease(domain, self._id, if_absent=self._if_absent)
                self._write_session()
                self._lease = opening.enter_context(lease)
                self._renewed = self._last_renewal()
            self._in_step = synchronize(domain, self._cache, self._workers, self._on_damage, not_before=self._renewed)
            self._in_step.sessions.add(self._id)
            self._recollection = self._recall()
            opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._committed and self._joins is None:
            self._recollection.forget()
        if self._lease is not None:
            self._lease.__exit__(kind, error, traceback)
        self._cache.close()
        self._workers.__exit__(kind, error, traceback)

    def _last_renewal(self) -> datetime | None:
        if self._renew_every is None:
            return None
        key = self._domain.at.session_key(self._id)
        begun = self._workers.call(self._domain.sink.stat, key).modified
        return last_renewal(self._tag, self._renew_every, begun or datetime.now(UTC))

    def _recall(self) -> Recollection:
        found = Recollection(
            self._domain,
            self._cache,
            self._workers,
            tag=self._tag,
            run=self._id,
            limit=self._cache_size,
            on_damage=self._on_damage,
            on_trouble=self._on_trouble,
        )
        joins = self._joins
        found.recall(self._in_step, lambda snapshot: joins is None or joins.past == snapshot)
        if joins is None and found.past is not None:
            self._first_row = found.past.next_row
        return found

    def writer(self, among: int = 1, in_all: int = 1) -> StreamWriter:
        """A writer of streams in this session, one of so many that are open at once, and of so many in all.

        Call it from one thread at a time; any one may enter and use it. Raises `UsageError` where its share of the
        memory is less than 64 MiB.
        """
        budget = self._share(among)
        if self._writers >= _MOST_WRITERS:
            raise ValueError("a session has room for so many writers and no more")
        first_row = self._first_row + self._writers * _ROWS_A_WRITER
        name = f"{self._joins.number if self._joins else 0}-{self._writers}"
        self._writers += 1
        return StreamWriter(
            self._domain,
            self._cache.another(),
            session=self._id,
            data_sealer=self._data_sealer,
            budget=budget,
            level=self._level,
            if_absent=self._if_absent,
            first_row=first_row,
            past=self._recollection.past,
            goes_back=self._recollection.goes_back,
            recorder=self._recollection.recorder(name, in_all),
            sessions=self._in_step.sessions,
            unusable=self._in_step.unusable,
            on_damage=self._on_damage,
        )

    def _share(self, among: int) -> Budget:
        budget = Budget.of(self._memory // among, max(1, self._connections // among))
        return budget if self._pack_size is None else replace(budget, pack_size=self._pack_size)

    def hand_over(self) -> HandedOver:
        """What one other process or machine needs to join this session."""
        self._handed_over += 1
        past = self._recollection.past
        return HandedOver(
            self._id,
            self._handed_over,
            self._started,
            self._data_key,
            renewed=self._renewed,
            past=past.snapshot if past else None,
            first_row=self._first_row + self._handed_over * _ROWS_A_SESSION,
        )

    def _put(self, key: str, data: bytes) -> None:
        self._workers.call(self._domain.sink.put, key, data, if_absent=self._if_absent)
        self._stored += len(data)

    def _write_session(self) -> None:
        domain = self._domain
        session = SessionDocument(
            session=self._id,
            writer=domain.access.key,
            started=self._started,
            host=socket.gethostname(),
            log=domain.log.newest,
            wrapped=wrap_data_key(self._data_key, self._recipient, domain.scope, self._id),
        )
        key = domain.at.session_key(self._id)
        self._put(key, encode_document(key, session.to_json(), domain.access.signing))
        self._cache.add_sessions([(self._id, domain.access.key)])
        self._cache.saw([key])

    def commit(
        self,
        *,
        source: str,
        consistency: str,
        inspection: dict[str, Any],
        streams: Sequence[tuple[StreamSpec, StoredStream]],
        written: Iterable[Written],
        copies: Head | None = None,
    ) -> Committed:
        """Check once more that what the streams need is there, and write the snapshot: its last parts, then its head.

        `written` is what all writers' `finish` returned; the numbers of the streams are their places in `streams`. What
        `copies` a snapshot of another repository is dated as that one, and follows none that is later. In a
        sink with object lock, everything that the snapshot needs is locked as long as the snapshot. Raises
        `MissingObject` or `DamagedObject` if something that this run relied on is gone or was changed: the run must be
        repeated; `SessionLost` if a prune may have taken this session for dead. Where the outcome of the last requests
        is unknown, `Interrupted` or `SinkUnreachable` says that the snapshot may exist.
        """
        lease = self._lease
        if lease is None:
            raise ValueError("who joins a session does not commit it")
        self._workers.call(lease.require_fresh)
        done = tuple(written)
        domain = self._domain
        checks = LastChecks(domain, self._cache, self._workers, self._on_trouble)
        packs = PackSizes()
        for ids in chain.from_iterable(one.needed for one in done):
            packs.add(ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))
        bases = self._recollection.bases([stored for _, stored in streams])
        sessions = tuple(
            dict.fromkeys(
                (
                    self._id,
                    *(session for one in done for session in one.sessions),
                    *(base.session for base in bases),
                )
            )
        )
        pinned = checks.require_all(packs, sessions)
        checks.tell_of_damage(done)
        parts = [part for one in done for part in one.parts]
        rest = [piece for one in done for piece in one.rest]
        rest += _pieces(Kind.SESSIONS, encode_sessions(pinned), SESSION_BYTES)
        # The manifest names the parts that recipes are in, and comes after them.
        parts += put_parts(domain, rest, self._data_sealer, self._put)
        recipes: dict[int, list[int]] = {}
        for number, part in enumerate(parts):
            for stream in part.streams:
                recipes.setdefault(stream, []).append(number)
        records = tuple(
            _record(spec, stored, (tuple(recipes.get(number, ())), *self._recollection.below(spec.name, stored)))
            for number, (spec, stored) in enumerate(streams)
        )
        manifest = Manifest(consistency, inspection, records)
        before = len(parts)
        parts += put_parts(domain, _pieces(Kind.MANIFEST, encode_manifest(manifest)), self._data_sealer, self._put)
        newest_part = domain.at.part_key(parts[-1].ref.part)
        refs = referred(domain, [part.ref for part in parts], self._data_sealer, MAX_REFS, self._put)
        named = [
            replace(base, parts=tuple(referred(domain, base.parts, self._data_sealer, MAX_REFS, self._put)))
            for base in bases
        ]
        indexes = tuple(index for one in done for index in one.indexes)
        indexes += tuple(merge_indexes(domain, self._cache, self._put))
        every = {*refs, *(part.ref for part in parts), *(ref for base in (*bases, *named) for ref in base.parts)}
        needed = [domain.at.part_key(ref.part) for ref in every]
        needed += [*map(domain.at.session_key, sessions), *map(domain.at.index_key, indexes)]
        checks.prolong_locks(chain(needed, map(domain.at.pack_key, packs)), just_put=newest_part)
        packs.close()
        newest = self._in_step.newest()
        mine = newest.pop(domain.access.key, None)
        latest = sorted(newest.values(), key=lambda head: head.time)[-MAX_SEEN:]
        stored = self._stored + lease.stored + sum(one.stored for one in done)
        head = Head(
            snapshot=new_id(),
            backup=self._backup,
            source=source,
            started=copies.started if copies else self._started,
            finished=copies.finished if copies else now(),
            host=copies.host if copies else socket.gethostname(),
            program=f"penstock {__version__}",
            parent=self._in_step.parent(self._tag, until=copies.finished if copies else None),
            size=sum(record.size for record in records),
            streams=len(records),
            stored=stored,
            sequence=min(mine.sequence + 1, MAX_SEQUENCE) if mine else 1,
            previous=mine.digest if mine else None,
            seen={head.writer: Seen(head.sequence, head.digest) for head in latest},
            index=indexes,
            parts=tuple(refs),
            manifest=before,
            bases=tuple(named),
            tags=self._tags,
        )
        self._workers.call(lease.require_fresh)
        data = self._put_head(head)
        digest = blake3(data).digest()
        checks.look_again(lease, head.snapshot, digest)
        self._committed = True
        each = [stored for _, stored in streams]
        self._recollection.remember(head.snapshot, digest, parts, bases, records, each, done)
        return Committed(head, digest, stored + len(data), sum(one.packs for one in done))

    def _put_head(self, head: Head) -> bytes:
        domain = self._domain
        data = encode_head(
            head,
            session=self._id,
            writer=domain.access.key,
            scope=domain.scope,
            layout_sealer=domain.layout_sealer,
            signer=domain.access.signing,
        )
        key = domain.at.snapshot_key(head.snapshot)
        with unless_known(head.snapshot):
            self._put(key, data)
        self._cache.saw([key])
        digest, tag = blake3(data).digest(), domain.keys.tag(head.backup)
        seen = SeenHead(
            head.snapshot, domain.access.key, head.sequence, digest, tag, time=head.finished, parent=head.parent
        )
        self._cache.add_heads([seen])
        return data


def _pieces(kind: Kind, data: bytes, unit: int = 1) -> Iterable[Piece]:
    """Sections of a part at most, each of whole units of so many bytes."""
    most = (MAX_PLAIN - SECTION_OVERHEAD) // unit * unit
    for start in range(0, len(data), most):
        yield Piece(kind, data[start : start + most])


def _record(spec: StreamSpec, stored: StoredStream, recipe: tuple[tuple[int, ...], ...]) -> StreamRecord:
    return StreamRecord(
        name=spec.name,
        format=spec.format,
        phase=spec.phase,
        optional=spec.optional,
        attributes=dict(spec.attributes),
        size=stored.size,
        digest=stored.digest,
        recipe=recipe,
        separator=spec.record_separator,
    )
