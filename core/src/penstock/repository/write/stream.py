"""Writes streams into packs: read ahead, cut, deduplicate, store. One thread per writer; several run side by side."""

from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from penstock.api.errors import Interrupted, RepositoryError
from penstock.api.source import DumpStream
from penstock.format.chunker import Chunker
from penstock.format.encoding import new_id
from penstock.format.index import PackSummary, seal_index
from penstock.format.pack import SegmentId
from penstock.format.recipe import RecipeEncoder
from penstock.format.sealing import Sealer
from penstock.repository import layout
from penstock.repository.budget import Budget
from penstock.repository.known.cache import Cache
from penstock.repository.known.sparse_index import SparseIndex
from penstock.repository.pool import Workers
from penstock.repository.repository import Repository
from penstock.repository.write.dedupe import Deduplicator
from penstock.repository.write.intake import Intake
from penstock.repository.write.packer import Packer

__all__ = ["StoredStream", "StreamWriter", "Written"]

_PACKS_AN_INDEX = 8


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stored stream: plain data, whichever thread, process or machine wrote it.

    `size` in bytes, `digest` is BLAKE3-256. The recipe numbers the segments by their place in `segments`; `sessions`
    are those whose keys seal them.
    """

    size: int
    digest: bytes
    recipe: bytes = field(repr=False)
    segments: tuple[SegmentId, ...] = field(repr=False)
    sessions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer has put into the sink: plain data for the commit. `stored` in bytes."""

    stored: int
    packs: tuple[bytes, ...]
    indexes: tuple[bytes, ...]


class StreamWriter:
    """Stores streams one after another, in its own packs. Made by `Session.writer`, used by one thread.

    A context manager: what was written counts after `finish`; leaving without it abandons work in progress. Two
    writers that meet the same new chunk at once store it twice, which is cheaper than asking each other.

    `unusable` are the cache's numbers of packs that must not be deduplicated against. `level` is zstd's; None chooses
    it by the data.
    """

    def __init__(
        self,
        repository: Repository,
        cache: Cache,
        *,
        session: bytes,
        data_sealer: Sealer,
        budget: Budget,
        level: int | None,
        unusable: Container[int],
        on_damage: Callable[[RepositoryError], None],
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._session = session
        self._data_sealer = data_sealer
        self._budget = budget
        self._level = level
        self._unusable = unusable
        self._on_damage = on_damage
        self._to_index: list[PackSummary] = []
        self._indexes: list[bytes] = []
        self._packs: list[bytes] = []
        self._stored = 0

    def __enter__(self) -> Self:
        repository, budget = self._repository, self._budget
        with ExitStack() as opening:
            opening.enter_context(self._cache)
            self._workers = opening.enter_context(Workers(1, "penstock-index", repository.sink.stop))
            self._index = SparseIndex(
                repository,
                self._cache,
                self._workers,
                directory_chunks=budget.directory_chunks,
                unusable=self._unusable,
                on_damage=self._on_damage,
            )
            self._index.warm_up()
            self._chunker = Chunker(repository.config.chunker, repository.access.index.chunker_seed)
            self._buffers = Intake.make_buffers(budget.batches, self._chunker.longest_rest)
            self._packer = Packer(
                repository,
                session=self._session,
                data_sealer=self._data_sealer,
                budget=budget,
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
            interrupted = kind is not None and (not issubclass(kind, Exception) or issubclass(kind, Interrupted))
            self._packer.abort(wait=not interrupted)
        finally:
            # They form reference cycles, and are too large to wait for the garbage collector.
            del self._packer, self._index, self._buffers
            self._cache.close()
            self._workers.__exit__(kind, error, traceback)

    def store(self, stream: DumpStream, on_progress: Callable[[int], None]) -> StoredStream:
        """Store one stream to its end; `on_progress` is given the bytes read so far. Does not close the stream.

        Raises what reading raises; after any error the stream has been aborted, once.
        """
        recipe = RecipeEncoder()
        segments: dict[SegmentId, int] = {}
        dedupe = Deduplicator(self._chunker, self._repository.access.index.id_key, self._index, self._packer)
        with Intake(stream, self._buffers, self._chunker.longest_rest, self._repository.sink.stop) as intake:
            for batch in intake:
                for segment, first, count in dedupe.extents(batch.data, last=batch.last):
                    recipe.add(segments.setdefault(segment, len(segments)), first, count)
                intake.carry(dedupe.rest)
                on_progress(intake.size)
        return StoredStream(
            intake.size, intake.digest(), recipe.finish(), tuple(segments), tuple(sorted(dedupe.sessions))
        )

    def finish(self) -> Written:
        """Seal and upload what is pending, and wait until all of it is durable."""
        self._packer.close()
        self._write_index()
        return Written(self._stored, tuple(self._packs), tuple(self._indexes))

    def _landed(self, summary: PackSummary) -> None:
        """A pack is durably in the sink: later runs can use it even if this one fails."""
        self._stored += summary.size
        self._packs.append(summary.pack)
        self._cache.add_packs([summary], indexed=False)
        self._cache.saw([layout.pack_key(summary.pack)])
        self._to_index.append(summary)
        if len(self._to_index) >= _PACKS_AN_INDEX:
            self._write_index()

    def _write_index(self) -> None:
        if not self._to_index:
            return
        repository = self._repository
        index = new_id()
        data = seal_index(index, self._to_index, repository.index_sealer, repository.id)
        self._workers.call(repository.sink.put, layout.index_key(index), data)
        self._cache.add_packs(self._to_index, indexed=True)
        self._cache.saw([layout.index_key(index)])
        self._indexes.append(index)
        self._stored += len(data)
        self._to_index = []
