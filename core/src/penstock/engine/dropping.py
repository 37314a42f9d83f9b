"""Dropping: notices, marks and records that nobody can read, so that maintenance goes on without what they said.

A damaged mark may have been a hold, and a damaged record what explained that something is gone: what cannot be mended
needs somebody's word before it goes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.api.errors import DamagedObject
from penstock.format.notice import Things
from penstock.repository import Repository, layout
from penstock.repository.domain import Domain
from penstock.repository.notices import delete, read_doomed, read_notices
from penstock.repository.pool import Workers
from penstock.repository.upkeep.marks import read_marks

__all__ = ["UnreadableSaying", "drop", "find_unreadable_sayings"]


@dataclass(frozen=True, slots=True)
class UnreadableSaying:
    """A notice, mark, deletion record or tombstone that nobody can read, and what is wrong with it."""

    domain: Domain = field(repr=False)
    id: bytes
    key: str
    problem: str

    def to_json(self) -> dict[str, Any]:
        """What there is to say of it."""
        return {"id": self.id.hex(), "domain": self.domain.label, "problem": f"{self.key}: {self.problem}"}


def find_unreadable_sayings(repository: Repository, names: Iterable[str]) -> list[UnreadableSaying]:
    """Those with one of these ids, whole, of all domains; none where an id is of something else, or can be read."""
    wanted = set(names)
    found: list[UnreadableSaying] = []
    with Workers(repository.sink.connections, "penstock-drop", repository.sink.stop) as workers:
        for domain in repository.domains:
            bad: list[DamagedObject] = []
            read_notices(domain, workers, bad.append)
            read_doomed(domain, workers, bad.append)
            read_marks(domain, workers, bad.append)
            found += [
                UnreadableSaying(domain, layout.id_of(error.key), error.key, error.reason)
                for error in bad
                if error.key.rpartition("/")[2] in wanted
            ]
    return found


def drop(repository: Repository, sayings: Sequence[UnreadableSaying]) -> None:
    """Record that these are gone, so that nobody misses them, and delete them at once: nobody relies on any.

    Raises `RoleForbids` for a writer's key, and what the sink raises, such as `ObjectLocked`: then it can be repeated.
    """
    repository.access.require_keeper("dropping what nobody can read")
    with Workers(repository.sink.connections, "penstock-drop", repository.sink.stop) as workers:
        for domain in repository.domains:
            mine = [one for one in sayings if one.domain.id == domain.id]
            at = domain.at
            things = Things(
                notices=_under(at.notices, mine), marks=_under(at.marks, mine), deletions=_under(at.deletions, mine)
            )
            # Nobody misses a tombstone: they come and go.
            if things != Things():
                workers.call(delete, domain, {}, things)
            if mine:
                workers.call(domain.sink.delete_many, [one.key for one in mine])


def _under(prefix: str, sayings: Iterable[UnreadableSaying]) -> tuple[bytes, ...]:
    return tuple(sorted(one.id for one in sayings if one.key.startswith(prefix)))
