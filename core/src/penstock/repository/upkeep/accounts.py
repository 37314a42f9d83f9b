"""What a domain stores, and for which backups: by places of packs and by tables of snapshots, without any data."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.api.errors import DamagedObject, MissingObject, RepositoryError
from penstock.api.models import ObjectInfo
from penstock.format.encoding import Malformed
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.ends import PLACES_TAIL, read_end
from penstock.repository.read.listing import listed
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.upkeep.living import is_old, read_living
from penstock.repository.upkeep.needs import Needs
from penstock.repository.upkeep.presence import Presence
from penstock.repository.upkeep.usage import OnDamage, is_hidden, survey

__all__ = ["OTHERS", "Account", "BackupAccount", "Night", "Objects", "account"]

#: The kind of objects that Penstock does not make.
OTHERS = "others"


@dataclass(slots=True)
class Objects:
    """Objects, and their bytes."""

    count: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.count += 1
        self.size += size


@dataclass(slots=True)
class BackupAccount:
    """One backup. `size` in bytes of its streams; `own` bytes are stored for it alone, `shared` for others too."""

    snapshots: int = 0
    size: int = 0
    own: int = 0
    shared: int = 0


@dataclass(slots=True)
class Night:
    """What was backed up on one day. `size` in bytes of the streams.

    `stored` is what the runs added then. `lasting` is what kept snapshots need since then: of all nights together, all
    that is stored for them, whatever was forgotten.
    """

    snapshots: int = 0
    size: int = 0
    stored: int = 0
    lasting: int = 0


@dataclass(slots=True)
class Account:
    """The figures of one domain. Sizes in bytes.

    Backups, nights and segments are those that were chosen; objects, and what is dead, are all of the domain. Of the
    needed segments, `plain` is what they hold, `sealed` what that takes. Whole objects that a prune would free are
    `dead`; `dead_in_packs` are segments that nothing needs, in packs that are needed. `unknown` snapshots cannot be
    read: a prune frees nothing then. `lacking` counts packs and parts of which something that is needed was not found.
    """

    backups: dict[str, BackupAccount] = field(default_factory=dict)
    #: By `date.toordinal()`.
    nights: defaultdict[int, Night] = field(default_factory=lambda: defaultdict(Night))
    kinds: defaultdict[str, Objects] = field(default_factory=lambda: defaultdict(Objects))
    plain: int = 0
    sealed: int = 0
    dead: Objects = field(default_factory=Objects)
    dead_in_packs: int = 0
    unknown: int = 0
    lacking: int = 0


#: Told of the bytes of all objects that were counted so far, pack by pack.
OnCounted = Callable[[int], None]


def account(
    domain: Domain, workers: Workers, *, backup: str | None, on_damage: OnDamage, on_counted: OnCounted
) -> Account:
    """The figures of a domain, or those of one of its backups.

    Reads heads, segment tables and the places of packs: every role can. `on_damage` is told, from any thread, of
    snapshots and packs that cannot be read, and that the figures lack. Memory does not grow with what is stored.
    Raises what the sink raises.
    """
    with closing(Needs()) as needs:
        return _Accounting(domain, workers, needs, backup, on_damage).run(on_counted)


class _Run(NamedTuple):
    """Segments in a pack that were first written to one and the same, by their ordinals, with their sizes."""

    origin: bytes
    ordinals: NDArray[np.intp]
    sealed: NDArray[np.int64]
    plain: NDArray[np.int64]


class _Accounting:
    """Also what `survey` adds snapshots to."""

    def __init__(self, domain: Domain, workers: Workers, needs: Needs, backup: str | None, on_damage: OnDamage) -> None:
        self._domain = domain
        self._workers = workers
        self._needs = needs
        self._chosen = backup
        self._on_damage = on_damage
        self._lock = Lock()
        self._numbers: dict[str, int] = {}
        self._today = datetime.now(UTC).date()
        self.found = Account()
        self._backups: list[BackupAccount] = []

    def run(self, on_counted: OnCounted) -> Account:
        """As of `account`."""
        domain, workers, found = self._domain, self._workers, self.found
        with Presence(domain, workers, silent=True) as presence:
            now = presence.now()
        # As a prune does it: first who lives, then the heads, then all that is there.
        living = read_living(domain, workers, now)
        notices = read_notices(domain, workers)
        hidden = is_hidden(domain, notices)
        heads = survey(domain, workers, notices, self, is_dead=hidden, named={}, on_damage=self._pass_over)
        horizon = min([now, *(one.began for one in living.at_work(heads.ended))])

        def look(info: ObjectInfo) -> tuple[ObjectInfo, str, list[_Run]]:
            kind = _kind(info.key)
            return info, kind, self._places(info) if kind == "packs" else []

        done = 0
        for info, kind, runs in workers.map(look, listed(workers, domain.sink, domain.at.prefix)):
            found.kinds[kind].add(info.size)
            done += info.size
            old = is_old(domain, info, horizon, now)
            if kind == "packs":
                self._count_pack(info, runs, old=old)
                on_counted(done)
            elif kind == "parts":
                self._count_part(info, old=old)
            elif kind == "snapshots" and layout.id_of(info.key) in heads.dead and old:
                found.dead.add(info.size)
        found.lacking = sum(self._needs.left())
        found.backups = {
            name: self._backups[number] for name, number in self._numbers.items() if self._is_chosen(number)
        }
        return found

    # Snapshots

    def add(self, entry: SnapshotEntry) -> None:
        """One that counts. Raises `DamagedObject`, `MissingObject`, `Malformed`."""
        name = entry.head.backup
        with self._lock:
            number = self._numbers.setdefault(name, len(self._numbers))
            if number == len(self._backups):
                self._backups.append(BackupAccount())
        day = _day(entry, self._today)
        self._needs.add(entry, number, day)
        with self._lock:
            one = self._backups[number]
            one.snapshots += 1
            one.size += entry.head.size
            one.own += entry.object_size
            if self._is_chosen(number):
                night = self.found.nights[day]
                night.snapshots += 1
                night.size += entry.head.size
                night.stored += entry.head.stored + entry.object_size
                night.lasting += entry.object_size

    def _pass_over(self, error: RepositoryError) -> None:
        with self._lock:
            self.found.unknown += 1
        self._on_damage(error)

    def _is_chosen(self, number: int) -> bool:
        return self._chosen is None or self._numbers.get(self._chosen) == number

    # Objects

    def _places(self, info: ObjectInfo) -> list[_Run]:
        """What is in a pack; nothing if it cannot be read."""
        try:
            end = read_end(self._domain, layout.id_of(info.key), info.size, PLACES_TAIL, with_ids=False)
        except MissingObject:
            return []  # a prune is at work
        except DamagedObject as error:
            self._on_damage(error)
            return []
        by_origin: defaultdict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
        for place in end.places.places:
            by_origin[place.id.pack].append((place.id.ordinal, place.sealed_length, place.plain_length))
        return [_Run(origin, *np.array(rows, np.int64).T) for origin, rows in by_origin.items()]

    def _count_pack(self, info: ObjectInfo, runs: list[_Run], *, old: bool) -> None:
        # What cannot be read is not dead as long as something of it is needed.
        lives = self._needs.needs_pack(layout.id_of(info.key))
        unused = 0
        for run in runs:
            needed = self._count_segments(run)
            lives = lives or bool(needed.any())
            unused += int(run.sealed[~needed].sum())
        if old and not lives:
            self.found.dead.add(info.size)
        elif old:
            self.found.dead_in_packs += unused

    def _count_segments(self, run: _Run) -> NDArray[np.bool_]:
        """Count those that are needed, and were not counted yet; says which."""
        found = self.found
        by_backup = self._needs.take_segments(run.origin, run.ordinals)
        users = sum((one.needed.astype(np.int64) for one in by_backup), start=np.zeros(len(run.ordinals), np.int64))
        chosen = np.zeros(len(run.ordinals), np.bool_)
        first = np.full(len(run.ordinals), date.max.toordinal(), np.int64)
        for one in by_backup:
            account_ = self._backups[one.backup]
            account_.own += int(run.sealed[one.needed & (users == 1)].sum())
            account_.shared += int(run.sealed[one.needed & (users > 1)].sum())
            if self._is_chosen(one.backup):
                chosen |= one.needed
                first = np.where(one.needed, np.minimum(first, one.since), first)
        found.plain += int(run.plain[chosen].sum())
        found.sealed += int(run.sealed[chosen].sum())
        for day in np.unique(first[chosen]):
            found.nights[int(day)].lasting += int(run.sealed[chosen & (first == day)].sum())
        return users > 0

    def _count_part(self, info: ObjectInfo, *, old: bool) -> None:
        users = self._needs.take_part(layout.id_of(info.key))
        for number, _ in users:
            one = self._backups[number]
            one.own += info.size if len(users) == 1 else 0
            one.shared += info.size if len(users) > 1 else 0
        days = [day for number, day in users if self._is_chosen(number)]
        if days:
            self.found.nights[min(days)].lasting += info.size
        if not users and old:
            self.found.dead.add(info.size)


def _kind(key: str) -> str:
    """The folder of an object; `OTHERS` for what has no name of Penstock's."""
    try:
        kind = layout.kind_of(key)
        if kind != "leases":
            layout.id_of(key)
    except Malformed:
        return OTHERS
    return kind


def _day(entry: SnapshotEntry, today: date) -> int:
    """The day of a snapshot in UTC; where neither it nor the store tells a time, today."""
    for text in (entry.time, entry.latest_time):
        try:
            return datetime.fromisoformat(text).astimezone(UTC).date().toordinal()
        except (ValueError, OverflowError):
            continue
    return today.toordinal()
