"""Prune: what no snapshot needs is named in a tombstone, and deleted when nobody can rely on it any more.

The order of all this, and why it is safe, is in section 11 of docs/format.md.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, ObjectLocked, ObjectMissing, PruneRunning
from penstock.api.models import ObjectInfo
from penstock.format.notice import Things, Tombstone
from penstock.format.times import now as now_here
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import Notices, delete, is_settled, read_notices, settle
from penstock.repository.pool import Workers
from penstock.repository.read.listing import identified
from penstock.repository.read.verify import verify_pack
from penstock.repository.said import put_said, refuse_unreadable
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.upkeep.condemning import KINDS, Condemning, Doom
from penstock.repository.upkeep.homes import Homes
from penstock.repository.upkeep.leases import LIFE
from penstock.repository.upkeep.limits import Limits, OnPhase, OnProgress
from penstock.repository.upkeep.living import LATE, Running, is_old, read_living
from penstock.repository.upkeep.presence import Presence
from penstock.repository.upkeep.prune_run import PruneRun
from penstock.repository.upkeep.tombstones import LEAST_GRACE, Standing, condemned, standing
from penstock.repository.upkeep.usage import DECIDE, Heads, Usage, is_hidden, survey

__all__ = ["GRACE", "Pruned", "Waiting", "prune"]

#: How long people can change their minds.
GRACE = timedelta(days=1)
#: Keys in one call of a sink.
_BATCH = 100
#: What cannot be deleted, and nobody knows until when, is tried again after so long.
_LATER = timedelta(days=7)


class Waiting(NamedTuple):
    """A tombstone that cannot be swept yet: until when at least, and who or what is waited for."""

    until: datetime
    reason: str


@dataclass(slots=True)
class Pruned:
    """What a prune of one domain did, or would do. Sizes in bytes.

    `deleted` is gone; what is in `doom` will be, after the grace; `locked` cannot be yet, and `left` was not reached.
    """

    deleted: int = 0
    deleted_size: int = 0
    #: What is dead now.
    doom: Doom = field(default_factory=Doom)
    waiting: list[Waiting] = field(default_factory=list)
    locked: int = 0
    locked_until: datetime | None = None
    left: int = 0
    left_size: int = 0


def prune(
    domain: Domain,
    workers: Workers,
    *,
    grace: timedelta = GRACE,
    most_unused: float | None = None,
    limits: Limits,
    dry_run: bool = False,
    take_over: bool = False,
    on_phase: OnPhase,
    on_progress: OnProgress,
) -> Pruned:
    """Delete what earlier runs named and nobody needs, then name what is dead now, to be deleted after `grace`.

    Before that, packs are compacted of which less is needed, if more than `most_unused` of all (from 0 to 1) is dead in
    packs that are needed; with None, none are. `grace` is ten minutes at least. With `dry_run`, nothing is written or
    deleted. Raises `PruneRunning` if another gave a sign of life a few minutes ago, unless `take_over`; `DamagedObject`
    or `MissingObject` if nobody knows what a snapshot needs; and what the sink raises. Killed at any point, or stopped
    by `limits`, the next run goes on.
    """
    with Presence(domain, workers, silent=dry_run) as presence:
        run = PruneRun(domain, workers, presence, limits, on_phase, on_progress, dry_run)
        steps = _Prune(run)
        if not dry_run:
            steps.begin(take_over=take_over)
        on_phase("sweeping", None)
        steps.sweep()
        on_phase("marking", None)
        look = Condemning(run, most_unused=most_unused)
        steps.done.doom = look.condemn(max(grace, LEAST_GRACE))
        return steps.done


class _Prune:
    def __init__(self, run: PruneRun) -> None:
        self._run = run
        self._domain = run.domain
        self._workers = run.workers
        self._presence = run.presence
        self.done = Pruned()

    def begin(self, *, take_over: bool) -> None:
        """Refuse to run beside another prune, and clean up after sessions and prunes that have ended."""
        domain = self._domain
        living = read_living(domain, self._workers, self._presence.now())
        running = {one.id: one for one in living.prunes}
        mine = running.pop(self._presence.id, None)
        for other in () if take_over else running.values():
            # Of two that begin at once, the first goes on.
            if mine is None or (other.began, other.id) < (mine.began, mine.id):
                raise PruneRunning(
                    f"another prune of {domain.label} is running, by {domain.log.label(other.signer)}: its last sign "
                    f"of life was at {other.newest:%H:%M} UTC",
                    hint="Wait for its end. If it was killed: ten minutes, or give --take-over.",
                )
        settled = [
            info.key
            for _, info in identified(self._workers, domain.sink, domain.at.tombstones)
            if is_old(domain, info, self._presence.at, self._presence.at)
            and self._workers.call(is_settled, domain, layout.id_of(info.key))
        ]
        if over := [*living.expired, *settled]:
            self._try_all(over)

    # What is due

    def sweep(self) -> None:
        """Delete what the tombstones that are due name, one after the other."""
        seen: set[bytes] = set()
        while stones := [one for one in standing(self._domain, self._workers) if one.id not in seen]:
            first, *others = stones
            seen.add(first.id)  # a listing may show it when it is gone
            why = self._sweep(first)
            if why is not None:
                self.done.waiting = [why, *(Waiting(one.due, _GRACE) for one in others)]
                return
            if self._run.dry_run or self._run.limits.reached:
                return

    def _sweep(self, stone: Standing) -> Waiting | None:
        """Sweep this one; returns what it waits for, if it does."""
        now = self._presence.now()
        if now < stone.due:
            return Waiting(stone.due, _GRACE)
        # First who lives, then the heads: whoever had ended before has left one, or none ever comes.
        living = read_living(self._domain, self._workers, now)
        # One that nobody can read may have taken a snapshot back.
        refuse = refuse_unreadable(DECIDE, self._domain.at.deletions)
        notices = read_notices(self._domain, self._workers, refuse)
        forgotten, others = condemned(self._domain, self._workers, stone)
        hidden = is_hidden(self._domain, notices)

        def is_dead(entry: SnapshotEntry) -> bool:
            head = (entry.id, entry.digest)
            return head in forgotten or (head in others and hidden(entry))

        with closing(Usage()) as usage:
            heads = survey(
                self._domain,
                self._workers,
                notices,
                usage,
                is_dead=is_dead,
                named=dict(forgotten | others),
            )
            waited = [one for one in living.at_work(heads.ended) if one.began <= stone.written + LATE]
            if waited:
                return Waiting(max(one.newest for one in waited) + LIFE + LATE, self._said_of(waited))
            there = self._unused(usage, stone)
        if not self._stands(stone):
            return None  # somebody else has swept it
        self._delete(stone, heads, there, notices)
        return None

    def _said_of(self, running: Iterable[Running]) -> str:
        each = [f"{one.id.hex()[:8]} of {self._domain.log.label(one.signer)}" for one in running]
        return f"sessions that began before: {', '.join(sorted(each))}"

    def _unused(self, usage: Usage, stone: Standing) -> dict[str, dict[bytes, ObjectInfo]]:
        """What is there of it, by kind, and what nobody needs."""
        found = {}
        for kind in KINDS:
            wanted = set(getattr(stone.content.things, kind))
            if kind == "packs":
                found[kind] = self._unused_packs(usage, wanted)
            elif kind == "index" and wanted:
                each = identified(self._workers, self._domain.sink, self._domain.at.index)
                found[kind] = {one: info for one, info in each if one in wanted and not _put_since(info, stone)}
            elif wanted:
                each = identified(self._workers, self._domain.sink, getattr(self._domain.at, kind))
                found[kind] = {one: info for one, info in each if one in wanted and not usage.uses(kind, one)}
            else:
                found[kind] = {}
        return found

    def _unused_packs(self, usage: Usage, wanted: set[bytes]) -> dict[bytes, ObjectInfo]:
        """Those packs that are there and nobody's home. What others hold in their place was verified by this run."""
        if not wanted:
            return {}
        domain, workers = self._domain, self._workers
        with closing(Homes(domain, workers, usage)) as homes:
            homes.learn(identified(workers, domain.sink, domain.at.packs))
            there = {pack: info for pack, info in homes.there() if pack in wanted}
            whole: set[bytes] = set()
            broken: set[bytes] = set()
            while True:
                dead = {pack: homes.relied_on(pack) for pack in there if homes.can_go(pack)}
                asked = set().union(*dead.values()) - whole - broken
                if not asked:
                    return {pack: there[pack] for pack, homes_ in dead.items() if broken.isdisjoint(homes_)}
                for home in asked:
                    if self._is_whole(home):
                        whole.add(home)
                    else:
                        broken.add(home)
                        homes.distrust(home)

    def _is_whole(self, pack: bytes) -> bool:
        """Whether every byte of a pack is what its end says: read now, whatever a listing says."""
        domain = self._domain
        try:
            size = self._workers.call(domain.sink.stat, domain.at.pack_key(pack)).size
            self._workers.call(verify_pack, domain, pack, size, lambda _: None)
        except (DamagedObject, MissingObject, ObjectMissing):
            return False
        self._presence.go_on()
        return True

    def _stands(self, stone: Standing) -> bool:
        try:
            self._workers.call(self._domain.sink.stat, self._domain.at.tombstone_key(stone.id))
        except ObjectMissing:
            return False
        return not self._workers.call(is_settled, self._domain, stone.id)

    def _delete(
        self, stone: Standing, heads: Heads, there: Mapping[str, Mapping[bytes, ObjectInfo]], notices: Notices
    ) -> None:
        domain, done = self._domain, self.done
        infos = {info.key: info.size for kind in KINDS for info in there[kind].values()}
        size = sum(infos.values())
        if self._run.dry_run:
            done.deleted += len(infos) + len(heads.dead)
            done.deleted_size += size
            return
        new = {
            kind: tuple(one for one, info in there[kind].items() if info.key not in notices.deleted) for kind in KINDS
        }
        unsaid = dict(heads.dead.items() - notices.swept)
        if unsaid or any(new.values()):
            self._workers.call(delete, domain, unsaid, Things(**new))
        self._run.on_phase("sweeping", size)
        locked: dict[str, datetime | None] = {}
        steps = [[domain.at.snapshot_key(one) for one in heads.dead]]
        steps += [[info.key for info in there[kind].values()] for kind in KINDS]
        for keys in steps:
            left = iter(keys)
            while batch := list(islice(left, _BATCH * self._workers.count)):
                if self._run.limits.reached:
                    done.left += len(infos)
                    done.left_size += sum(infos.values())
                    return
                batches = [batch[at : at + _BATCH] for at in range(0, len(batch), _BATCH)]
                for refused in self._workers.map(self._try, batches):
                    locked.update(refused)
                gone = [key for key in batch if key not in locked]
                done.deleted += len(gone)
                freed = sum(infos.pop(key, 0) for key in gone)
                done.deleted_size += freed
                self._run.limits.spend(freed)
                self._run.on_progress(domain.label, size - sum(infos.values()))
                self._presence.go_on()
        if locked:
            self._wait_for_locks(stone, there, locked)
        if self._try_all([domain.at.tombstone_key(stone.id)]):
            self._workers.call(settle, domain, stone.id)

    def _try_all(self, keys: list[str]) -> Mapping[str, datetime | None]:
        return self._workers.call(self._try, keys)

    def _try(self, keys: list[str]) -> Mapping[str, datetime | None]:
        try:
            self._domain.sink.delete_many(keys)
        except ObjectLocked as error:
            return error.locked
        return {}

    def _wait_for_locks(
        self,
        stone: Standing,
        there: Mapping[str, Mapping[bytes, ObjectInfo]],
        locked: Mapping[str, datetime | None],
    ) -> None:
        """What is locked is named by other tombstones, one for each day: nobody relies on it again meanwhile."""
        now = self._presence.now()
        until = {key: one or now + _LATER for key, one in locked.items()}
        self.done.locked += len(locked)
        self.done.locked_until = max((*until.values(), self.done.locked_until or now))
        others = [one for one in standing(self._domain, self._workers) if one.id != stone.id]
        named = {self._domain.at.snapshot_key(snapshot) for one in others for snapshot in one.content.snapshots}
        for day in sorted({one.date() for one in until.values()}):
            keys = {key for key, one in until.items() if one.date() == day}
            if keys <= named:
                continue  # heads that another tombstone names: it looks after them
            things = {kind: tuple(one for one, info in there[kind].items() if info.key in keys) for kind in KINDS}
            grace = max(max(until[key] for key in keys) - now, LEAST_GRACE)
            seconds = int(grace.total_seconds()) + 1
            another = Tombstone(now_here(), Things(**things), stone.content.snapshots, seconds)
            self._workers.call(put_said, self._domain, another)


def _put_since(info: ObjectInfo, stone: Standing) -> bool:
    """Whether an object was mended since a tombstone named it because nobody could read it: the next look decides."""
    return info.modified is not None and info.modified > stone.written


_GRACE = "its grace"
