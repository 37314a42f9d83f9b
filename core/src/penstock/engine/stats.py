"""Stats: what a repository stores, for which backups, since when, and what a prune would free of it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from penstock.api.errors import SinkDenied, SnapshotNotFound
from penstock.engine.doubts import Doubts
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.repository import Repository, layout
from penstock.repository.pool import Workers
from penstock.repository.read.budget import DEFAULT_MEMORY, ReadBudget
from penstock.repository.read.listing import listed
from penstock.repository.trust.keyring import find_domain
from penstock.repository.upkeep.accounts import OTHERS, Account, BackupAccount, Night, Objects, account

__all__ = ["OTHERS", "StatsReport", "stats"]


@dataclass(frozen=True, slots=True)
class StatsReport:
    """The figures of each domain by its label, and the objects that belong to none. Sizes in bytes."""

    domains: dict[str, Account]
    shared_objects: dict[str, Objects]

    @property
    def snapshots(self) -> int:
        """How many there are."""
        return sum(one.snapshots for _, _, one in self._backups())

    @property
    def size(self) -> int:
        """Of all streams of the snapshots."""
        return sum(one.size for _, _, one in self._backups())

    @property
    def plain(self) -> int:
        """Of the segments that the snapshots need, once opened; each counts once."""
        return sum(one.plain for one in self.domains.values())

    @property
    def sealed(self) -> int:
        """Of these segments as they are stored."""
        return sum(one.sealed for one in self.domains.values())

    @property
    def nights(self) -> dict[date, Night]:
        """By day, oldest first."""
        found: defaultdict[int, Night] = defaultdict(Night)
        for one in self.domains.values():
            for day, night in one.nights.items():
                known = found[day]
                known.snapshots += night.snapshots
                known.size += night.size
                known.stored += night.stored
                known.lasting += night.lasting
        return {date.fromordinal(day): found[day] for day in sorted(found)}

    @property
    def objects(self) -> dict[str, Objects]:
        """By kind: the folders of section 1 of docs/format.md, `penstock.json`, and `OTHERS`."""
        found: defaultdict[str, Objects] = defaultdict(Objects)
        for kinds in (self.shared_objects, *(one.kinds for one in self.domains.values())):
            for kind, objects in kinds.items():
                found[kind].count += objects.count
                found[kind].size += objects.size
        return {kind: found[kind] for kind in sorted(found)}

    @property
    def stored(self) -> Objects:
        """All of these."""
        objects = self.objects.values()
        return Objects(sum(one.count for one in objects), sum(one.size for one in objects))

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock stats`."""
        return {
            "backups": [_backup(label, name, one) for label, name, one in self._backups()],
            "nights": [
                {
                    "day": day.isoformat(),
                    "snapshots": night.snapshots,
                    "size": night.size,
                    "stored": night.stored,
                    "lasting": night.lasting,
                }
                for day, night in self.nights.items()
            ],
            "snapshots": self.snapshots,
            "size": self.size,
            "plain": self.plain,
            "sealed": self.sealed,
            "deduplication": _ratio(self.size, self.plain),
            "compression": _ratio(self.plain, self.sealed),
            "objects": {kind: _objects(one) for kind, one in self.objects.items()},
            "stored": _objects(self.stored),
            "domains": {label: _domain(one) for label, one in self.domains.items()},
        }

    def _backups(self) -> Iterator[tuple[str, str, BackupAccount]]:
        for label, one in self.domains.items():
            for name in sorted(one.backups):
                yield label, name, one.backups[name]


def _backup(label: str, name: str, one: BackupAccount) -> dict[str, Any]:
    return {
        "domain": label,
        "backup": name,
        "snapshots": one.snapshots,
        "size": one.size,
        "own": one.own,
        "shared": one.shared,
    }


def _domain(one: Account) -> dict[str, Any]:
    known = not one.unknown
    return {
        "dead": _objects(one.dead) if known else None,
        "dead_in_packs": one.dead_in_packs if known else None,
        "unreadable": one.unknown,
        "lacking": one.lacking,
    }


def _objects(one: Objects) -> dict[str, int]:
    return {"count": one.count, "size": one.size}


def _ratio(whole: int, part: int) -> float | None:
    return round(whole / part, 3) if part else None


def stats(
    repository: Repository,
    *,
    backup: str | None = None,
    domain: str | None = None,
    memory: int = DEFAULT_MEMORY,
    listener: Listener,
) -> StatsReport:
    """What is stored, as far as the key reaches: all of it, or of one domain, or for the backups of one name.

    Every role can, and no data is read. What cannot be read is a warning, and the figures lack it. Raises `KeyMissing`
    for an unknown domain, `SnapshotNotFound` for a backup without snapshots, and what the sink raises.
    """
    domains = repository.domains if domain is None else (find_domain(repository, domain),)
    budget = ReadBudget.of(memory, repository.sink.connections)
    with (
        reporting(listener, "stats", repository.sink.location, repository.sink) as reporter,
        Doubts(reporter.warn, "left out") as doubts,
        Workers(budget.requests, "penstock-stats", repository.sink.stop) as workers,
    ):
        found: dict[str, Account] = {}
        for one in domains:
            reporter.phase("counting")
            told = partial(reporter.progress, one.label)
            found[one.label] = account(one, workers, backup=backup, on_damage=doubts, on_counted=told)
        if backup is not None and not any(one.backups for one in found.values()):
            raise SnapshotNotFound(f"no snapshot of a backup {backup}", hint="Run penstock snapshots to list them.")
        _warn_of_lacking(found, reporter)
        report = StatsReport(found, _of_no_domain(repository, workers) if domain is None else {})
        reporter.completed("counted", {"snapshots": report.snapshots, "stored": report.stored.size})
    return report


def _warn_of_lacking(found: dict[str, Account], reporter: Reporter) -> None:
    for label, one in found.items():
        if one.lacking:
            reporter.warn(
                f"{label}: packs and parts of which something that snapshots need was not found: {one.lacking}; "
                "penstock check names them"
            )


def _of_no_domain(repository: Repository, workers: Workers) -> dict[str, Objects]:
    """The owner's log, slots and penstock.json; without slots for a credential that may not list them."""
    found: dict[str, Objects] = {}

    def add(kind: str, sizes: Iterable[int]) -> None:
        each = list(sizes)
        found[kind] = Objects(len(each), sum(each))

    add(layout.CONFIG, [workers.call(repository.sink.stat, layout.CONFIG).size])
    add("grants", (info.size for info in listed(workers, repository.sink, layout.GRANTS)))
    with suppress(SinkDenied):
        add("slots", (info.size for info in listed(workers, repository.sink, layout.SLOTS)))
    return found
