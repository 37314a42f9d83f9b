"""What makes a place a replica: slots, the owner's log and penstock.json, in the order of `create`."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from penstock.api.errors import (
    DamagedObject,
    MissingObject,
    ObjectMissing,
    OtherHistory,
    OtherRepository,
    RepositoryExists,
    SinkError,
)
from penstock.api.sink import Sink
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.grants import Entry
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.fetching import fetch
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.repository import Repository, repository_id
from penstock.repository.upkeep.copying import Copier

__all__ = ["Foundations", "found", "look_at"]


@dataclass(frozen=True, slots=True)
class Foundations:
    """What of it is at the target, as it was looked at: sizes by key."""

    config: bool
    there: dict[str, int]


def look_at(source: Repository, target: Sink, workers: Workers) -> Foundations:
    """Whether the target is a replica of this repository, or empty, or what a broken run has left of one.

    Raises `OtherRepository`, `OtherHistory`, `RepositoryExists` and `DamagedObject`. Changes nothing.
    """
    config = workers.call(_has_config, source, target)
    known = {*source.log.keys, *(layout.slot_key(one.grant.key) for one in source.log if one.grant.role is Role.SLOT)}
    there: dict[str, int] = {}
    for prefix in (layout.GRANTS, layout.SLOTS) if config else ("",):
        for info in listed(workers, target, prefix):
            if info.key in known:
                there[info.key] = info.size
            elif not config:
                raise RepositoryExists(
                    f"{target.location} already holds objects, and no replica of {source.sink.location}",
                    hint="Choose another place, or empty it.",
                )
            elif prefix == layout.GRANTS and workers.call(_is_entry, source, target, info.key):
                raise OtherHistory(
                    f"{target.location}: its owner's log has an entry that the original's has not: {info.key}",
                    hint="Keys are granted and revoked in the original alone. If it lost its log, restore from this.",
                )
    return Foundations(config, there)


def _has_config(source: Repository, target: Sink) -> bool:
    try:
        there = fetch(target, layout.CONFIG)
    except ObjectMissing:
        return False
    except Malformed as error:
        raise DamagedObject(layout.CONFIG, f"at {target.location}: {error}") from None
    if there == fetch(source.sink, layout.CONFIG):
        return True
    if (other := repository_id(target)) != source.id:
        raise OtherRepository(
            f"{target.location} holds another repository ({other.hex()[:8]}) than the one to copy "
            f"({source.id.hex()[:8]})",
            hint="Choose another place: each repository has a replica of its own.",
        )
    raise DamagedObject(layout.CONFIG, f"at {target.location}: not that of the original; may be forged")


def _is_entry(source: Repository, target: Sink, key: str) -> bool:
    """Whether the owner signed it; what a stranger put there is nobody's history."""
    with suppress(Malformed, ObjectMissing):
        Entry.from_json(decode_document(key, fetch(target, key)).verified(source.access.owner.signing))
        return True
    return False


def found(
    source: Repository,
    target: Sink,
    at: Foundations,
    copier: Copier,
    workers: Workers,
    *,
    on_damage: Callable[[DamagedObject | MissingObject], object],
    warn: Callable[[str], object],
) -> None:
    """Put what is missing of it; `on_damage` is told of slots that cannot be copied.

    A slot before its grant, an entry of the log after all earlier ones, and penstock.json last: wherever this breaks
    off, the target can be opened or is no repository yet. Passphrases that were revoked open a replica no more.
    """
    owner = source.access.owner.signing
    slots = {layout.slot_key(one.grant.key): one.active for one in source.log if one.grant.role is Role.SLOT}
    prefixes = (layout.GRANTS, layout.SLOTS)
    sizes = {info.key: info.size for prefix in prefixes for info in listed(workers, source.sink, prefix)}

    def due(key: str) -> bool:
        return key not in at.there or at.there[key] != sizes.get(key, at.there[key])

    for key in (key for key, active in slots.items() if active and due(key)):
        try:
            workers.call(copier.document, key, owner, replace=key in at.there)
        except (DamagedObject, MissingObject) as error:
            on_damage(error)
    for key in filter(due, source.log.keys):
        workers.call(copier.document, key, owner, source.log.digests, replace=key in at.there)
    if not at.config:
        workers.call(copier.document, layout.CONFIG, owner, source.log.digests, replace=False)
    for key in (key for key, active in slots.items() if not active and key in at.there):
        try:
            workers.call(target.delete, key)
        except SinkError as error:
            warn(f"a passphrase that was revoked still opens the replica: {error}")
