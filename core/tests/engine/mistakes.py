"""Mistakes of other tools, and some of one's own, each as a context manager in which Penstock makes it.

What is patched is patched by the context manager alone, never by a run: one that a failure stops in its middle would
leave it so. Each run has a thread of its own.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from unittest.mock import patch

from core.tests.engine.simulation import clock_of_process

from penstock.api import ObjectInfo
from penstock.api.errors import DamagedObject, MissingObject
from penstock.repository import notices
from penstock.repository.domain import Domain
from penstock.repository.known import synchronizing
from penstock.repository.pool import Workers
from penstock.repository.read import listing
from penstock.repository.read.listing import identified
from penstock.repository.snapshots import read_snapshot
from penstock.repository.upkeep import condemning, living, pruning, usage
from penstock.repository.upkeep.condemning import KINDS
from penstock.repository.upkeep.leases import Lease
from penstock.repository.upkeep.living import Living
from penstock.repository.upkeep.presence import Presence
from penstock.repository.upkeep.pruning import Waiting
from penstock.repository.upkeep.tombstones import Standing
from penstock.repository.upkeep.usage import Usage
from penstock.repository.write.session import Session

__all__ = [
    "heads_are_listed_before_sessions",
    "heads_are_not_listed_again",
    "hosts_know_what_time_it_is",
    "new_snapshots_are_waited_for",
    "nobody_is_waited_for",
    "nobody_looks_again",
    "records_come_last",
    "tombstones_are_read_before_the_lease",
]


@contextmanager
def nobody_is_waited_for() -> Iterator[None]:
    """No look at leases."""
    real = living.read_living

    def nobody(*about: Any) -> Living:
        return real(*about)._replace(sessions=())

    with patch.object(pruning, "read_living", nobody), patch.object(condemning, "read_living", nobody):
        yield


@contextmanager
def heads_are_not_listed_again() -> Iterator[None]:
    """What was dead when it was named is deleted."""

    def unused(self: Any, usage: Usage, stone: Standing) -> dict[str, dict[bytes, ObjectInfo]]:
        domain, workers = self._domain, self._workers
        return {
            kind: {
                one: info
                for one, info in identified(workers, domain.sink, getattr(domain.at, kind))
                if one in getattr(stone.content.things, kind)
            }
            for kind in KINDS
        }

    with patch.object(pruning._Prune, "_unused", unused):
        yield


@contextmanager
def nobody_looks_again() -> Iterator[None]:
    """Who slept before its commit takes it for one."""
    with (
        patch.object(Lease, "require_covered", lambda self, key: None),
        patch.object(Lease, "_too_late", lambda self, written: False),
    ):
        yield


@contextmanager
def tombstones_are_read_before_the_lease() -> Iterator[None]:
    """A writer looks what is doomed, and only then shows that it is there."""
    real_read, real_write = notices.read_doomed, Session._write_session
    read: dict[int, Any] = {}

    def write(self: Session) -> None:
        read[id(self._domain)] = real_read(self._domain, self._workers)
        real_write(self)

    with (
        patch.object(Session, "_write_session", write),
        patch.object(synchronizing, "read_doomed", lambda domain, workers: read.pop(id(domain))),
    ):
        yield


@contextmanager
def heads_are_listed_before_sessions() -> Iterator[None]:
    """A sweep looks at the heads, and only then finds out who has ended: by a newer look, which it takes no heads from.

    To list the heads first is no mistake by itself, as long as nothing newer says who has ended. Whoever commits after
    that lives at the time that was asked before, and is not among those that have left a head: it is waited for.
    """
    real_living, real_listed = living.read_living, listing.listed
    kept: dict[str, list[ObjectInfo]] = {}

    def read_living(domain: Domain, workers: Workers, now: datetime) -> Living:
        kept[domain.at.snapshots] = list(real_listed(workers, domain.sink, domain.at.snapshots))
        found = real_living(domain, workers, now)
        ended = {entry.session for entry in _each_head(domain, workers, real_listed)}
        return found._replace(sessions=tuple(one for one in found.sessions if one.id not in ended))

    def listed(workers: Workers, sink: Any, prefix: str) -> Iterator[ObjectInfo]:
        return iter(kept.pop(prefix, None) or real_listed(workers, sink, prefix))

    with patch.object(pruning, "read_living", read_living), patch.object(usage, "listed", listed):
        yield


def _each_head(domain: Domain, workers: Workers, listed: Callable[..., Iterator[ObjectInfo]]) -> Iterator[Any]:
    for info in listed(workers, domain.sink, domain.at.snapshots):
        try:
            yield read_snapshot(domain, info, hidden=True)
        except (DamagedObject, MissingObject):
            continue


@contextmanager
def hosts_know_what_time_it_is() -> Iterator[None]:
    """A prune asks the clock of its host how old things are."""
    real = Presence.now

    def now(self: Presence) -> datetime:
        real(self)
        return clock_of_process()

    with patch.object(Presence, "now", now):
        yield


@contextmanager
def new_snapshots_are_waited_for() -> Iterator[None]:
    """As duplicacy: a sweep waits until every writer has made one more snapshot, and nobody sees one that is new."""
    real = pruning._Prune._sweep

    def sweep(self: Any, stone: Standing) -> Waiting | None:
        newest: dict[bytes, datetime] = {}
        for entry in _each_head(self._domain, self._workers, listing.listed):
            newest[entry.writer] = max(entry.modified, newest.get(entry.writer, entry.modified))
        if any(time <= stone.written for time in newest.values()):
            return Waiting(stone.due, "a new snapshot of each")
        return real(self, stone)

    with nobody_is_waited_for(), patch.object(pruning._Prune, "_sweep", sweep):
        yield


@contextmanager
def records_come_last() -> Iterator[None]:
    """What is deleted is deleted first, packs before the heads that need them, and then it is said."""
    said: dict[int, list[Callable[[], object]]] = {}
    real_delete, real_deletion, real_try = notices.delete, pruning._Prune._delete, pruning._Prune._try

    def try_(self: Any, keys: list[str]) -> Any:
        if keys and keys[0].startswith(self._domain.at.snapshots):
            said[threading.get_ident()].append(lambda: real_try(self, keys))
            return {}
        return real_try(self, keys)

    def deletion(self: Any, *about: Any) -> None:
        mine = said[threading.get_ident()] = []
        real_deletion(self, *about)
        for one in mine:
            one()

    def delete(*about: Any) -> None:
        said[threading.get_ident()].append(lambda: real_delete(*about))

    with (
        patch.object(pruning, "delete", delete),
        patch.object(pruning._Prune, "_delete", deletion),
        patch.object(pruning._Prune, "_try", try_),
    ):
        yield
