"""Objects that are gone and that nobody needs: a host that has seen them misses them until a record says so."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from penstock.api.errors import ObjectMissing, UsageError
from penstock.format.encoding import Malformed
from penstock.format.notice import Things
from penstock.repository import Repository, layout
from penstock.repository.domain import Domain
from penstock.repository.notices import delete, read_notices
from penstock.repository.pool import Workers
from penstock.repository.upkeep.usage import Usage, is_hidden, survey

__all__ = ["Vanished", "explain", "find_vanished"]

_AS_CHECK = "Give the key as penstock check names it: d/…/packs/…."


@dataclass(frozen=True, slots=True)
class Vanished:
    """An object that is gone, of one of the kinds of `Things`, and that no snapshot needs."""

    domain: Domain = field(repr=False)
    kind: str
    id: bytes
    key: str

    def to_json(self) -> dict[str, Any]:
        """What there is to say of it."""
        return {"id": self.id.hex(), "domain": self.domain.label, "problem": f"{self.key}, which no snapshot needs"}


def find_vanished(repository: Repository, keys: Iterable[str]) -> list[Vanished]:
    """The objects with these keys. Raises `UsageError` for one that is there, that is needed, or that is no such key.

    Raises `DamagedObject` or `MissingObject`, too, if nobody knows what a snapshot needs that counts.
    """
    found = [_parsed(repository, key) for key in dict.fromkeys(keys)]
    with Workers(repository.sink.connections, "penstock-vanished", repository.sink.stop) as workers:
        for domain in repository.domains:
            if mine := [one for one in found if one.domain.id == domain.id]:
                for one in mine:
                    _require_gone(domain, workers, one)
                _require_unused(domain, workers, mine)
    return found


def explain(repository: Repository, vanished: Sequence[Vanished]) -> None:
    """Record that they are gone, for good. Raises `RoleForbids` for a writer's key."""
    repository.access.require_keeper("giving up what is gone")
    with Workers(repository.sink.connections, "penstock-vanished", repository.sink.stop) as workers:
        for domain in repository.domains:
            ids: dict[str, tuple[bytes, ...]] = {}
            for one in vanished:
                if one.domain.id == domain.id:
                    ids[one.kind] = (*ids.get(one.kind, ()), one.id)
            if ids:
                workers.call(delete, domain, {}, Things(**ids))


def _parsed(repository: Repository, key: str) -> Vanished:
    for domain in repository.domains:
        if not key.startswith(domain.at.prefix):
            continue
        kind = key.removeprefix(domain.at.prefix).partition("/")[0]
        try:
            name = layout.id_of(key)
        except Malformed:
            break
        key_of = _keys(domain).get(kind)
        if key_of is not None and key_of(name) == key:
            return Vanished(domain, kind, name, key)
    raise UsageError(f"{key} is not the key of an object that a record can explain", hint=_AS_CHECK)


def _keys(domain: Domain) -> dict[str, Callable[[bytes], str]]:
    at = domain.at
    return {
        "packs": at.pack_key,
        "parts": at.part_key,
        "index": at.index_key,
        "sessions": at.session_key,
        "notices": at.notice_key,
        "marks": at.mark_key,
        "deletions": at.deletion_key,
    }


def _require_gone(domain: Domain, workers: Workers, one: Vanished) -> None:
    try:
        workers.call(domain.sink.stat, one.key)
    except ObjectMissing:
        return
    raise UsageError(f"{one.key} is there", hint="Mend it with penstock repair, if it is damaged.")


def _require_unused(domain: Domain, workers: Workers, vanished: Sequence[Vanished]) -> None:
    with closing(Usage()) as usage:
        notices = read_notices(domain, workers)
        survey(domain, workers, notices, usage, is_dead=is_hidden(domain, notices), named={})
        for one in vanished:
            if usage.segments_of(one.id) if one.kind == "packs" else usage.uses(one.kind, one.id):
                raise UsageError(
                    f"a snapshot needs {one.key}",
                    hint="Mend it with penstock repair, or forget first what it takes along: penstock check names it.",
                )
