"""What a run takes from the last snapshot of its backup, and leaves to the next: as far as this host remembers it."""

from collections.abc import Callable, Sequence

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, RepositoryError
from penstock.format.encoding import Malformed
from penstock.format.head import MAX_BASES, Base
from penstock.format.manifest import StreamRecord
from penstock.format.part import PartRef
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.known.cache import Cache
from penstock.repository.known.past import Past, PastStream, Recorder, forget_run, open_past, write_past
from penstock.repository.known.synchronizing import InStep
from penstock.repository.pool import Workers
from penstock.repository.sessions import require_usable
from penstock.repository.write.parts import WrittenPart
from penstock.repository.write.stream import StoredStream, Written

__all__ = ["Recollection", "gone"]

#: Rows of the past are below this, or it is let go: numbers end at 2^51.
_MOST_ROWS = 1 << 50


class Recollection:
    """What one host remembers of one backup, for one run. Nothing depends on it: a run without it stores more.

    `tag` is that of the backup's name, `run` the session. `limit` (bytes) is for what is remembered of the run; None
    leaves that to the size of the dump, and 0 remembers nothing. `on_damage` is told of objects that the past needs and
    that are no longer what was written, `on_trouble` of a run that cannot be remembered. Used by the session's thread.
    """

    def __init__(
        self,
        domain: Domain,
        cache: Cache,
        workers: Workers,
        *,
        tag: bytes,
        run: bytes,
        limit: int | None,
        on_damage: Callable[[RepositoryError], None],
        on_trouble: Callable[[str], object],
    ) -> None:
        self._domain = domain
        self._cache = cache
        self._workers = workers
        self._tag = tag
        self._run = run
        self._limit = limit
        self._on_damage = on_damage
        self._on_trouble = on_trouble
        #: The snapshot that streams are compared with, once it was recalled; None if nothing can be relied on.
        self.past: Past | None = None
        #: Whether recipes may be differences to those of `past`.
        self.goes_back = False

    def recall(self, in_step: InStep, accepts: Callable[[bytes], bool]) -> None:
        """Look what this host remembers of the backup, and how much of it can be relied on.

        `accepts` says whether it may be a snapshot with that id: who joins a run takes the same as all others. Raises
        what the sink raises.
        """
        domain, folder = self._domain, self._cache.folder
        found = open_past(folder, self._tag, domain.keys.chunk_key) if folder and self._limit != 0 else None
        if found is None or found.next_row > _MOST_ROWS or not accepts(found.snapshot):
            return
        there = {(head.snapshot, head.digest) for head in in_step.heads if head.snapshot not in in_step.gone}
        if (found.snapshot, found.digest) not in there:
            return
        self.past = found
        parts = [ref for layer in found.layers for ref in layer.parts]
        # Where this is not so, what it stores is found again all the same, but its recipes begin anew.
        self.goes_back = (
            len(found.layers) <= MAX_BASES
            and in_step.sessions.issuperset(layer.session for layer in found.layers)
            and in_step.doomed_parts.isdisjoint(ref.part for ref in parts)
            and all(self._workers.map(self._is_usable, [layer.session for layer in found.layers]))
            and all(self._workers.map(self._is_there, parts))
        )

    def _is_usable(self, session: bytes) -> bool:
        """Asked anew each time: what was seen may have changed, and the commit would fail, tonight and ever after."""
        try:
            require_usable(self._domain, session)
        except (DamagedObject, MissingObject) as error:
            self._on_damage(error)
            return False
        return True

    def _is_there(self, ref: PartRef) -> bool:
        key = self._domain.at.part_key(ref.part)
        try:
            ref.verify(fetch(self._domain.sink, key))
        except ObjectMissing:
            self._on_damage(MissingObject(key, "gone: recipes begin anew without it"))
        except Malformed as error:
            self._on_damage(DamagedObject(key, str(error)))
        else:
            return True
        return False

    def recorder(self, name: str, in_all: int = 1) -> Recorder:
        """What takes down the streams of one writer, of so many; each writer of the run has another `name`."""
        limit = self._limit and max(1, self._limit // in_all)
        return Recorder(
            self._cache.folder,
            self._tag,
            self._run,
            name,
            self._domain.keys.chunk_key,
            limit=limit,
            on_trouble=self._on_trouble,
        )

    def bases(self, streams: Sequence[StoredStream]) -> tuple[Base, ...]:
        """The snapshots that the recipes go back to; raises `MissingObject` if a part of one is gone."""
        past = self.past
        if past is None or not any(stored.runs for stored in streams):
            return ()
        keys = [self._domain.at.part_key(ref.part) for layer in past.layers for ref in layer.parts]
        for key, there in zip(keys, self._workers.map(self._exists, keys), strict=True):
            if not there:
                raise gone(key)
        return past.layers

    def _exists(self, key: str) -> bool:
        try:
            self._domain.sink.stat(key)
        except ObjectMissing:
            return False
        return True

    def below(self, name: str, stored: StoredStream) -> tuple[tuple[int, ...], ...]:
        """In which parts of the bases the recipe of the stream of that name goes on."""
        return self.past.streams[self._domain.keys.tag(name)].recipe if self.past and stored.runs else ()

    def remember(
        self,
        snapshot: bytes,
        digest: bytes,
        parts: Sequence[WrittenPart],
        bases: Sequence[Base],
        records: Sequence[StreamRecord],
        streams: Sequence[StoredStream],
        written: Sequence[Written],
    ) -> None:
        """Keep what the next run will be compared with: this one, committed as `snapshot`."""
        folder = self._cache.folder
        if folder is None or self._limit == 0:
            return
        own = [number for number, part in enumerate(parts) if part.streams]
        renumbered = {number: at for at, number in enumerate(own)}
        past = {
            self._domain.keys.tag(record.name): PastStream(
                number,
                stored.remembered,
                (tuple(renumbered[part] for part in record.recipe[0]), *record.recipe[1:]),
                stored.runs,
            )
            for number, (record, stored) in enumerate(zip(records, streams, strict=True))
            if stored.remembered is not None
        }
        try:
            write_past(
                folder,
                self._tag,
                self._run,
                self._domain.keys.chunk_key,
                snapshot=snapshot,
                digest=digest,
                layers=(Base(snapshot, self._run, tuple(parts[number].ref for number in own)), *bases),
                streams=past,
                rows=[one.rows for one in written if one.rows is not None],
                next_row=max(one.next_row for one in written),
            )
        except OSError as error:
            self._on_trouble(f"this run is not remembered: {error}; the next one stores more than it would")

    def forget(self) -> None:
        """Nothing of this run is to be remembered: no snapshot came of it."""
        if self._cache.folder is not None:
            forget_run(self._cache.folder, self._tag, self._run)


def gone(key: str) -> MissingObject:
    """The error for an object that a run relied on, and that is no longer there."""
    return MissingObject(
        key, "an object that this backup relied on is gone", hint="Run the backup again: it stores the object anew."
    )
