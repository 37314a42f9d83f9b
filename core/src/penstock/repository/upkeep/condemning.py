"""What is dead now: named in a tombstone, so that a later run deletes it. What is mostly dead is compacted before."""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from penstock.api.models import ObjectInfo
from penstock.format.notice import Things, Tombstone
from penstock.format.times import now as now_here
from penstock.repository.notices import distrust, read_notices
from penstock.repository.read.listing import identified
from penstock.repository.said import put_said, refuse_unreadable
from penstock.repository.temporary import TemporaryTables
from penstock.repository.upkeep.compacting import Compactor, Sparse
from penstock.repository.upkeep.homes import Homes
from penstock.repository.upkeep.indexes import dead_indexes
from penstock.repository.upkeep.living import is_old, read_living
from penstock.repository.upkeep.merging import merge_indexes
from penstock.repository.upkeep.prune_run import PruneRun
from penstock.repository.upkeep.thinning import thin_records
from penstock.repository.upkeep.tombstones import Standing, standing
from penstock.repository.upkeep.usage import DECIDE, Usage, is_hidden, survey

__all__ = ["KINDS", "Condemning", "Doom"]

#: In the order in which they are deleted: a part is of no use without its head, a pack is what others cost the most.
KINDS = ("parts", "index", "sessions", "packs")
#: Objects that one tombstone names at most: some 35 bytes of it each.
_MOST = 150_000
_BATCH = 100
#: A pack is worth being read and copied if less than so much of it is needed.
_SPARSE = 0.8
_CHOICE = """
CREATE TABLE sparse (pack BLOB PRIMARY KEY, size INTEGER NOT NULL, unused INTEGER NOT NULL, share REAL NOT NULL);
CREATE INDEX by_share ON sparse (share);
"""


@dataclass(slots=True)
class Doom:
    """What was found. Sizes in bytes.

    `kept` snapshots; `doomed` objects will be deleted. `unused` is what nothing needs of packs that are needed; of
    that, compaction frees what is in `compacted` packs, of which it put `copied` bytes anew.
    """

    kept: int = 0
    doomed: int = 0
    doomed_size: int = 0
    #: When that can be deleted.
    due: datetime | None = None
    unused: int = 0
    compacted: int = 0
    compacted_size: int = 0
    copied: int = 0
    #: How many index objects were put together.
    merged: int = 0


class Condemning:
    """One look at a domain: what nothing needs, and no session that lives can have written.

    `most_unused` is how much of all packs may be dead before the emptiest of them are compacted, from 0 to 1; None
    leaves that.
    """

    def __init__(self, run: PruneRun, *, most_unused: float | None) -> None:
        self._run = run
        self._domain = run.domain
        self._workers = run.workers
        self._presence = run.presence
        self._most_unused = most_unused
        self._now = run.presence.now()
        self._horizon = self._now
        self.found = Doom()

    def condemn(self, grace: timedelta) -> Doom:
        """Put a tombstone that stands for `grace`, if anything is dead."""
        domain, workers, found = self._domain, self._workers, self.found
        # First who lives, then the heads, then all that is there: what is needed later is young then.
        living = read_living(domain, workers, self._now)
        notices = read_notices(domain, workers, refuse_unreadable(DECIDE, domain.at.deletions))
        stones = standing(domain, workers)
        with closing(Usage()) as usage, closing(Homes(domain, workers, usage)) as homes:
            heads = survey(domain, workers, notices, usage, is_dead=is_hidden(domain, notices), named={})
            self._horizon = min([self._now, *(one.began for one in living.at_work(heads.ended))])
            homes.learn(identified(workers, domain.sink, domain.at.packs))
            self._compact(homes, stones)
            if self._most_unused is not None and not self._run.dry_run:
                found.merged = self._merge(homes, stones)
            dead = self._dead(usage, homes, stones)
        found.kept = heads.kept
        found.doomed = sum(len(dead[kind]) for kind in KINDS)
        found.doomed_size = sum(sum(dead[kind].values()) for kind in KINDS)
        named = {head for stone in stones for head in stone.content.snapshots.items()}
        if found.doomed or heads.dead.items() - named:
            found.due = self._now + grace
            if not self._run.dry_run:
                things = Things(**{kind: tuple(dead[kind]) for kind in KINDS})
                stone = Tombstone(now_here(), things, heads.dead, int(grace.total_seconds()))
                workers.call(put_said, domain, stone)
        if not self._run.dry_run:
            thin_records(domain, workers, is_old=self._is_old)
        return found

    # Compaction

    def _compact(self, homes: Homes, stones: list[Standing]) -> None:
        """Copy what is needed of the emptiest packs, until the rest has no more that is dead than is allowed."""
        named = {one for stone in stones for one in stone.content.things.packs}
        total = 0
        with closing(TemporaryTables(_CHOICE)) as tables:
            for pack, info in homes.there():
                if pack in named or not self._is_old(info):
                    continue
                live = sum(lodging.bits.bit_count() for lodging in homes.lodgings(pack))
                if not live:
                    continue
                total += info.size
                share = live / homes.segments(pack)
                unused = int(info.size * (1 - share))
                self.found.unused += unused
                if share < _SPARSE:
                    tables.change("INSERT INTO sparse VALUES (?, ?, ?, ?)", (pack, info.size, unused, share))
            if self._most_unused is None:
                return
            excess = self.found.unused - int(self._most_unused * total)
            chosen = []
            for pack, size, unused in tables.rows("SELECT pack, size, unused FROM sparse ORDER BY share, pack"):
                if excess <= 0:
                    break
                excess -= unused
                chosen.append((pack, size))
        self._copy(homes, chosen)

    def _copy(self, homes: Homes, chosen: list[tuple[bytes, int]]) -> None:
        found = self.found
        if self._run.dry_run or not chosen:
            found.compacted, found.compacted_size = len(chosen), sum(size for _, size in chosen)
            return
        domain = self._domain
        self._run.on_phase("compacting", sum(size for _, size in chosen))
        compactor = Compactor(domain, self._workers, lambda done: self._run.on_progress(domain.label, done))
        for pack, size in chosen:
            if self._run.limits.reached:
                break
            compactor.take(Sparse(pack, size, tuple(homes.lodgings(pack))))
            found.compacted += 1
            found.compacted_size += size
            self._presence.go_on()
        compactor.finish()
        found.copied = sum(compactor.made.values())
        if compactor.damaged:
            self._workers.call(distrust, domain, compactor.damaged)
        keys = {pack: domain.at.pack_key(pack) for pack in compactor.made}
        homes.learn((pack, self._workers.call(domain.sink.stat, key)) for pack, key in keys.items())

    def _merge(self, homes: Homes, stones: list[Standing]) -> int:
        named = {one for stone in stones for one in stone.content.things.packs}

        def stays(pack: bytes) -> bool:
            return pack not in named and homes.is_there(pack) and not homes.can_go(pack)

        return merge_indexes(self._domain, self._workers, stays=stays, is_old=self._is_old)

    # What is dead

    def _dead(self, usage: Usage, homes: Homes, stones: list[Standing]) -> dict[str, dict[bytes, int]]:
        """What is there, by kind, and neither needed, nor too young, nor named already; with sizes."""
        domain, workers = self._domain, self._workers
        found: dict[str, dict[bytes, int]] = {}
        room = _MOST
        for kind in ("packs", "parts", "sessions"):
            named = {one for stone in stones for one in getattr(stone.content.things, kind)}
            each = homes.there() if kind == "packs" else identified(workers, domain.sink, getattr(domain.at, kind))
            old = ((one, info.size) for one, info in each if one not in named and self._is_old(info))
            found[kind] = {}
            while page := list(islice(old, _BATCH)):
                for one, size in page:
                    if homes.can_go(one) if kind == "packs" else not usage.uses(kind, one):
                        found[kind][one] = size
                if len(found[kind]) >= room:
                    break
            room = max(0, room - len(found[kind]))
            self._presence.go_on()
        named = {one for stone in stones for one in stone.content.things.index}
        doomed = found["packs"].keys() | {one for stone in stones for one in stone.content.things.packs}
        dead = dead_indexes(domain, workers, doomed)
        found["index"] = {one: info.size for one, info in dead.items() if one not in named and self._is_old(info)}
        return found

    def _is_old(self, info: ObjectInfo) -> bool:
        return is_old(self._domain, info, self._horizon, self._now)
