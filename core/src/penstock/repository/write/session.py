"""One writer's run: a session, streams into packs, and at the end a snapshot, whose existence is the commit."""

import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from penstock import __version__
from penstock.api.errors import MissingObject, RepositoryError
from penstock.api.plugin import Capability
from penstock.api.source import DumpStream
from penstock.format.chunker import Chunker
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.ids import chunk_ids, hooks
from penstock.format.index import PackSummary
from penstock.format.keys import new_secret
from penstock.format.pack import SegmentId
from penstock.format.recipe import RecipeEncoder
from penstock.format.sealing import Sealer
from penstock.format.snapshot import Catalogue, Manifest, encode_snapshot
from penstock.format.trust import OWNER_ID, SessionDocument
from penstock.repository import layout
from penstock.repository.budget import Budget
from penstock.repository.known.cache import Cache
from penstock.repository.known.sparse_index import KnownPack, SparseIndex, synchronize, write_index
from penstock.repository.repository import Repository, now
from penstock.repository.upkeep.locks import foundations, prolong_locks
from penstock.repository.write.intake import Intake
from penstock.repository.write.packer import Packer
from penstock.repository.write.placing import Placing

__all__ = ["StoredStream", "Writer"]

_PACKS_AN_INDEX = 8
#: Less of a batch than one in so many, by number and by bytes, is little.
_LITTLE_CHUNKS = 16
_LITTLE_BYTES = 128
_SAMPLE = 512


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stream that is in packs now. `size` in bytes, `digest` BLAKE3-256."""

    size: int
    digest: bytes
    recipe: bytes


class Writer:
    """Writes one snapshot. Use it as a context manager: leaving without `commit` leaves no snapshot behind.

    Not thread-safe; streams are stored one after the other. `on_damage` hears of objects that turned out damaged while
    looking for duplicates; they are not used, and the backup goes on.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        cache_folder: Path,
        memory: int,
        level: int | None,
        on_damage: Callable[[RepositoryError], None],
    ) -> None:
        self._signing = repository.access.require_writer()
        self._repository = repository
        self._budget = Budget.of(memory)
        self._started = now()
        self._session = new_id()
        self._level = level
        self._on_damage = on_damage
        self._cache_folder = cache_folder
        self._segments: dict[SegmentId, int] = {}
        self._indexes: list[bytes] = []
        self._to_index: list[PackSummary] = []
        self._own: set[bytes] = set()
        self.stored = 0
        self.packs = 0

    def __enter__(self) -> "Writer":
        repository = self._repository
        self._cache = Cache(self._cache_folder, repository.id)
        with ExitStack() as opening:
            opening.enter_context(self._cache)
            unusable = synchronize(repository, self._cache, self._on_damage)
            self._index = SparseIndex(
                repository,
                self._cache,
                directory_chunks=self._budget.directory_chunks,
                usable=lambda number: number not in unusable,
                on_damage=self._on_damage,
            )
            self._index.warm_up()
            data_key = new_secret()
            self._data_sealer = Sealer(data_key)
            self._write_session(data_key)
            parameters = repository.config.chunker
            self._chunker = Chunker(parameters, repository.access.index.chunker_seed)
            self._id_key = repository.access.index.id_key
            self._buffers = Intake.make_buffers(self._budget.batches, self._chunker.longest_rest)
            self._packer = Packer(
                repository,
                session=self._session,
                data_sealer=self._data_sealer,
                budget=self._budget,
                level=self._level,
                closed=self._index.add,
                landed=self._landed,
            )
            opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._packer.abort()
        finally:
            # They refer to one another, and what they hold is too large to wait for the cycle collector.
            del self._packer, self._index, self._buffers
            self._cache.__exit__(kind, error, traceback)

    def _write_session(self, data_key: bytes) -> None:
        repository = self._repository
        recipients = {OWNER_ID: repository.config.owner.recipient}
        session = SessionDocument(
            session=self._session,
            writer=repository.access.key,
            started=self._started,
            host=socket.gethostname(),
            grants=repository.grants.length,
            wrapped=SessionDocument.wrap(data_key, recipients, repository.id, self._session),
        )
        key = layout.session_key(self._session)
        data = encode_document(key, session.to_json(), self._signing)
        repository.sink.put(key, data)
        self._cache.add_session(self._session, repository.access.key)
        self._cache.saw([key])
        self.stored += len(data)

    def store(self, stream: DumpStream, progress: Callable[[int], None]) -> StoredStream:
        """Store one stream to its end; `progress` hears of the bytes read so far. Does not close the stream.

        Whatever reading raises is raised again here; on any error the stream has been aborted, once.
        """
        recipe = RecipeEncoder()
        with Intake(stream, self._buffers, self._chunker.longest_rest) as intake:
            for batch in intake:
                lengths = self._chunker.cut(batch.data, last=batch.last)
                used = self._take(batch.data, lengths, recipe)
                intake.carry(len(batch.data) - used)
                progress(intake.size)
        return StoredStream(intake.size, intake.digest(), recipe.finish())

    def _take(self, data: memoryview, lengths: list[int], recipe: RecipeEncoder) -> int:
        """Find or store the chunks of a batch, and note them in the recipe; the number of bytes they have."""
        ids = chunk_ids(self._id_key, data, lengths)
        packs = self._index.packs_for(hooks(b"".join(ids)))
        if self._little_known(ids, lengths, packs):
            for pack, first, end in self._packer.add(ids, lengths, data):
                self._note(pack, first, end, recipe)
        else:
            placing = Placing(self._packer, packs, lambda pack, first, end: self._note(pack, first, end, recipe))
            placing.place(ids, lengths, data)
        used = sum(lengths)
        self._packer.passed(used)
        return used

    def _little_known(self, ids: list[bytes], lengths: list[int], packs: Sequence[KnownPack]) -> bool:
        """Whether so little of a batch is known, or comes twice in it, that all of it is best stored as new.

        A chunk here and there breaks the runs that a recipe is made of, and saves next to nothing: what the segment
        before it holds, too, compresses to little more than its entry in the directory.
        """
        distinct = set(ids)
        twice = len(ids) - len(distinct)
        packs = (*packs, self._packer.known)
        if not twice:
            # Of a large batch a sample tells, since what is known comes in runs.
            sample = ids[:: max(1, len(ids) // _SAMPLE)]
            if all(pack.chunks.keys().isdisjoint(sample) for pack in packs):
                return True
        known: set[bytes] = set()
        for pack in packs:
            known |= pack.chunks.keys() & distinct
        if _LITTLE_CHUNKS * (len(known) + twice) > len(ids):
            return False
        spared = 0
        new = distinct - known
        for chunk, length in zip(ids, lengths, strict=True):
            if chunk in new:
                new.remove(chunk)
            else:
                spared += length
        return _LITTLE_BYTES * spared <= sum(lengths)

    def _note(self, pack: KnownPack, first: int, end: int, recipe: RecipeEncoder) -> None:
        table = self._segments
        for segment, chunk, count in pack.extents(first, end):
            number = table.setdefault(segment, len(table))
            recipe.add(number, chunk, count)

    def _landed(self, summary: PackSummary) -> None:
        """A pack is durably in the sink: from now on a later run can use it, whatever becomes of this one."""
        self.stored += summary.size
        self.packs += 1
        self._own.add(summary.pack)
        self._cache.add_packs([summary], indexed=False)
        self._cache.saw([layout.pack_key(summary.pack)])
        self._to_index.append(summary)
        if len(self._to_index) >= _PACKS_AN_INDEX:
            self._flush_index()

    def _flush_index(self) -> None:
        if self._to_index:
            index, size = write_index(self._repository, self._cache, self._to_index)
            self._indexes.append(index)
            self.stored += size
            self._to_index = []

    def commit(self, *, backup: str, source: str, parent: bytes | None, manifest: Manifest) -> tuple[Catalogue, int]:
        """Finish what is under way, look once more at what was used, and write the snapshot; it and its object's size.

        In a sink that locks objects, all that the snapshot needs is locked as long as the snapshot. Raises
        `MissingObject` when a pack that this run relied on is gone: run it again.
        """
        self._packer.close()
        self._flush_index()
        self._recheck()
        sessions = self._used_sessions()
        self._prolong_locks(sessions)
        repository = self._repository
        catalogue = Catalogue(
            snapshot=new_id(),
            backup=backup,
            source=source,
            started=self._started,
            finished=now(),
            host=socket.gethostname(),
            program=f"penstock {__version__}",
            parent=parent,
            size=sum(stream.size for stream in manifest.streams),
            streams=len(manifest.streams),
            stored=self.stored,
            index=tuple(self._indexes),
            sessions=sessions,
            segments=tuple(self._segments),
        )
        data = encode_snapshot(
            catalogue,
            manifest,
            repository=repository.id,
            session=self._session,
            writer=repository.access.key,
            index_sealer=repository.index_sealer,
            data_sealer=self._data_sealer,
            signer=self._signing,
        )
        key = layout.snapshot_key(catalogue.snapshot)
        repository.sink.put(key, data, if_absent=Capability.CONDITIONAL_PUT in repository.sink.capabilities())
        self._cache.saw([key])
        return catalogue, len(data)

    def _recheck(self) -> None:
        used = {layout.pack_key(segment.pack) for segment in self._segments}
        for info in self._repository.sink.list(layout.PACKS):
            used.discard(info.key)
        _require_all(used)

    def _prolong_locks(self, sessions: Sequence[bytes]) -> None:
        """What this run put is locked from its own PUT on; what it found there would be free before the snapshot is."""
        packs = {segment.pack for segment in self._segments} - self._own
        needed = [
            *(layout.session_key(session) for session in sessions if session != self._session),
            *(layout.pack_key(pack) for pack in sorted(packs)),
        ]
        _require_all(prolong_locks(self._repository, self._cache, needed))
        for key in prolong_locks(self._repository, self._cache, foundations(self._repository)):
            # Another passphrase or key may open it all the same: no reason to be without tonight's backup.
            self._on_damage(MissingObject(key, "it is gone", hint="penstock check tells more"))

    def _used_sessions(self) -> tuple[bytes, ...]:
        packs = {segment.pack for segment in self._segments}
        return tuple(dict.fromkeys((self._session, *self._cache.sessions_of(packs))))


def _require_all(missing: Collection[str]) -> None:
    if missing:
        raise MissingObject(
            min(missing), "an object that this backup relied on is gone", hint="run the backup again: it stores it anew"
        )
