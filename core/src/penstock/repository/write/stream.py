"""Writes streams into packs: read ahead, cut, deduplicate, store. One thread per writer; several run side by side."""

from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Self

from penstock.api.errors import Interrupted, RepositoryError
from penstock.api.models import StreamSpec
from penstock.api.source import DumpStream
from penstock.format.chunker import Chunker
from penstock.format.ids import ChunkNamer, chunk_ids
from penstock.format.index import PackSummary
from penstock.format.part import Kind, encode_rows
from penstock.format.recipe import MAX_RUNS
from penstock.format.sealing import Sealer
from penstock.repository.budget import Budget
from penstock.repository.domain import Domain
from penstock.repository.known.cache import Cache
from penstock.repository.known.past import Past, Recorder, Remembered
from penstock.repository.known.sparse_index import SparseIndex
from penstock.repository.known.window import Window
from penstock.repository.pool import Workers
from penstock.repository.write.cutting import ChunkCutter
from penstock.repository.write.dedupe import Deduplicator
from penstock.repository.write.indexing import HOOKS_AN_INDEX, PACKS_AN_INDEX, write_index
from penstock.repository.write.intake import Intake
from penstock.repository.write.packer import Packer
from penstock.repository.write.parts import ENOUGH, Piece, WrittenPart, put_parts
from penstock.repository.write.placing import PAST
from penstock.repository.write.recipes import RecipeWriter
from penstock.repository.write.records import RecordCutter
from penstock.repository.write.table import TableBuilder

__all__ = ["StoredStream", "StreamWriter", "Written"]

#: Rows of the segment table in one section.
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stored stream, whichever thread, process or machine wrote it. `size` in bytes, `digest` is BLAKE3-256."""

    size: int
    digest: bytes
    #: Runs of bytes of the past stream, and of those before it, that its recipe needs.
    runs: int = 0
    #: Where it is remembered for the next run.
    remembered: Remembered | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer has put into the sink: plain data for the commit. `stored` in bytes."""

    stored: int
    #: How many packs.
    packs: int
    indexes: tuple[bytes, ...]
    #: The ids of the packs that have what its streams need, many in a row, and the sessions whose data keys seal these.
    needed: tuple[bytes, ...] = field(repr=False)
    sessions: tuple[bytes, ...]
    #: Where the rows of the segment table are as the next run needs them, and the number that follows all of them.
    rows: Remembered | None
    next_row: int
    #: Parts of the snapshot, and sections that are not in a part yet.
    parts: tuple[WrittenPart, ...]
    rest: tuple[Piece, ...] = field(repr=False)
    #: Packs that turned out to be damaged, and why.
    damaged: dict[bytes, str]


class StreamWriter:
    """Stores streams one after another, in its own packs. Made by `Session.writer`, used by one thread.

    A context manager: what was written counts after `finish`; leaving without it abandons work in progress. Two
    writers that meet the same new chunk at once store it twice, which is cheaper than asking each other.

    `sessions` and `unusable` say what may be deduplicated against: see `SparseIndex`. `level` is zstd's; None chooses
    it by the data. `first_row` is that of its segment table. Streams are compared with those of `past`; where
    `goes_back`, their recipes are differences to those. `recorder` takes what the next run will be compared with.
    """

    def __init__(
        self,
        domain: Domain,
        cache: Cache,
        *,
        session: bytes,
        data_sealer: Sealer,
        budget: Budget,
        level: int | None,
        if_absent: bool,
        first_row: int,
        past: Past | None,
        goes_back: bool,
        recorder: Recorder,
        sessions: Container[bytes],
        unusable: Container[int],
        on_damage: Callable[[RepositoryError], None],
    ) -> None:
        self._domain = domain
        self._cache = cache
        self._session = session
        self._data_sealer = data_sealer
        self._budget = budget
        self._level = level
        self._if_absent = if_absent
        self._sessions = sessions
        self._unusable = unusable
        self._on_damage = on_damage
        self._past = past
        self._goes_back = goes_back
        self._recorder = recorder
        self._table = TableBuilder(first_row, past.rows() if past else ())
        #: Which segments of the rows of the past may be used that were asked about: see `SparseIndex.held`.
        self._usable: dict[int, int] = {}
        self._pieces: list[Piece] = []
        #: How many bytes they take, as far as they were counted.
        self._pieces_size = self._counted = 0
        self._parts: list[WrittenPart] = []
        #: Packs that are in no index object yet, and how many hooks they have.
        self._to_index: list[PackSummary] = []
        self._hooks = 0
        self._indexes: list[bytes] = []
        self._packs = 0
        self._stored = 0

    def __enter__(self) -> Self:
        domain, budget = self._domain, self._budget
        with ExitStack() as opening:
            opening.callback(self._recorder.close)
            opening.enter_context(self._cache)
            self._workers = opening.enter_context(Workers(1, "penstock-index", domain.sink.stop))
            self._index = SparseIndex(
                domain,
                self._cache,
                self._workers,
                directory_chunks=budget.directory_chunks,
                sessions=self._sessions,
                unusable=self._unusable,
                on_damage=self._on_damage,
                pin=self._table.pin,
            )
            if self._past is None:
                self._index.warm_up()
            self._buffers = Intake.make_buffers(budget.batches, domain.made.chunker.longest_rest)
            self._packer = Packer(
                domain,
                session=self._session,
                data_sealer=self._data_sealer,
                budget=budget,
                level=self._level,
                if_absent=self._if_absent,
                chunk_id=lambda piece: chunk_ids(domain.keys.chunk_key, piece, [len(piece)])[0],
                origin=self._table.origin,
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
            self._recorder.close()
            self._cache.close()
            self._workers.__exit__(kind, error, traceback)

    def store(
        self, number: int, spec: StreamSpec, stream: DumpStream, on_progress: Callable[[int], None]
    ) -> StoredStream:
        """Store one stream to its end, as that with this number; `on_progress` is given the bytes read so far.

        Does not close the stream. Raises what reading raises; after any error the stream has been aborted, once.
        """
        keys = self._domain.keys
        past = self._past.streams.get(keys.tag(spec.name)) if self._past else None
        window = Window(self._past.frames(past), self._may_use) if self._past and past else None
        recipe = RecipeWriter(number, past.number if past else 0)
        chunker = self._domain.made.chunker
        cutter = ChunkCutter(
            Chunker(chunker, keys.chunker_seed, spec.record_separator), ChunkNamer(keys.chunk_key), window
        )
        dedupe = Deduplicator(
            cutter,
            RecordCutter(keys.chunk_key, spec.record_separator),
            self._index,
            self._packer,
            self._table,
            recorder=self._recorder,
            window=window,
        )
        self._recorder.begin(number)
        most = MAX_RUNS - past.runs if past and self._goes_back else 0
        with Intake(stream, self._buffers, chunker.longest_rest, self._domain.sink.stop) as intake:
            for batch in intake:
                runs, extents = dedupe.runs(batch)
                if recipe.of_base + len(runs) <= most:
                    for segment, start, length in runs:
                        self._pieces += recipe.add(None if segment == PAST else segment, start, length)
                else:
                    columns = (extents.segments, extents.starts, extents.lengths)
                    for segment, start, length in zip(*(column.tolist() for column in columns), strict=True):
                        self._pieces += recipe.add(segment, start, length)
                intake.carry(cutter.rest)
                self._put_full_parts()
                on_progress(intake.size)
            self._pieces += recipe.finish()
        needed = recipe.of_base + past.runs if past and recipe.of_base else 0
        return StoredStream(intake.size, intake.digest(), needed, self._recorder.end())

    def _may_use(self, number: int) -> int:
        """Which segments of a row of the past snapshot's segment table may be used: a bit for each, by ordinal."""
        if number not in self._usable:
            row = self._table.row(number)
            self._usable[number] = 0 if row is None else self._index.held(row)
        return self._usable[number]

    def finish(self) -> Written:
        """Seal and upload what is pending, and wait until all of it is durable."""
        self._packer.close()
        self._write_index()
        needed = []
        sessions: set[bytes] = set()
        rows = self._table.rows()
        self._recorder.begin_rows()
        while some := list(islice(rows, _ROWS)):
            noted = [past for _, past in some]
            needed.append(b"".join(holder for one in noted for holder in self._index.holders(one.pack)))
            self._recorder.add_rows(noted)
            sessions.update(*(one.each_session() for one in noted))
            self._pieces.append(Piece(Kind.TABLE, encode_rows([row for row, _ in some])))
            self._put_full_parts()
        return Written(
            stored=self._stored,
            packs=self._packs,
            indexes=tuple(self._indexes),
            needed=tuple(needed),
            sessions=tuple(sorted(sessions)),
            rows=self._recorder.end(),
            next_row=self._table.next,
            parts=tuple(self._parts),
            rest=tuple(self._pieces),
            damaged=dict(self._index.damaged),
        )

    def _put_full_parts(self) -> None:
        self._pieces_size += sum(piece.size for piece in self._pieces[self._counted :])
        self._counted = len(self._pieces)
        if self._pieces_size > ENOUGH:
            self._parts += put_parts(self._domain, self._pieces, self._data_sealer, self._put)
            self._pieces = []
            self._pieces_size = self._counted = 0

    def _put(self, key: str, data: bytes) -> None:
        self._workers.call(self._domain.sink.put, key, data, if_absent=self._if_absent)
        self._stored += len(data)

    def _landed(self, summary: PackSummary) -> None:
        """A pack is durably in the sink: later runs can use it even if this one fails."""
        ends = summary.ends
        self._stored += ends.size
        self._packs += 1
        self._cache.add_packs([summary])
        self._cache.saw([self._domain.at.pack_key(ends.pack)])
        self._to_index.append(summary)
        self._hooks += len(summary.hooks)
        if self._hooks >= HOOKS_AN_INDEX or len(self._to_index) >= PACKS_AN_INDEX:
            self._write_index()

    def _write_index(self) -> None:
        if not self._to_index:
            return
        self._indexes.append(write_index(self._domain, self._cache, self._to_index, self._put))
        self._to_index = []
        self._hooks = 0
