"""What makes a place a repository, put back from a replica: penstock.json, the owner's log, slots."""

from contextlib import suppress

from blake3 import blake3

from penstock.api.errors import (
    DamagedObject,
    MissingObject,
    ObjectMissing,
    OtherRepository,
    RepositoryMissing,
)
from penstock.api.sink import Sink
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.keys import VerifyingKey
from penstock.format.trust import RepositoryConfig, Role
from penstock.repository import layout
from penstock.repository.fetching import fetch
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.repository import repository_id
from penstock.repository.trust.access import Access
from penstock.repository.trust.log import OwnerLog, read_log
from penstock.repository.upkeep.mending import OnMended, Replica

__all__ = ["refound", "require_replica"]


def require_replica(access: Access, replica: Sink, workers: Workers) -> bytes:
    """The bytes of its penstock.json; raises `OtherRepository` unless it is of the repository that `access` opens.

    And `DamagedObject`, `MissingObject`.
    """

    def read() -> bytes:
        try:
            data = fetch(replica, layout.CONFIG)
            document = decode_document(layout.CONFIG, data)
            document.verified(RepositoryConfig.from_json(document.claimed).owner.signing)
        except ObjectMissing:
            raise MissingObject(layout.CONFIG, f"gone at {replica.location}") from None
        except Malformed as error:
            raise DamagedObject(layout.CONFIG, f"at {replica.location}: {error}") from None
        if (other := RepositoryConfig.from_json(document.claimed).repository) != access.repository:
            raise OtherRepository(
                f"{replica.location} holds another repository ({other.hex()[:8]}) than the one to repair "
                f"({access.repository.hex()[:8]})",
                hint="Name a replica of it: a place that penstock replicate has filled.",
            )
        try:
            document.verified(access.owner.signing)
        except Malformed as error:
            raise DamagedObject(layout.CONFIG, f"at {replica.location}: {error}; may be forged") from None
        return data

    return workers.call(read)


def refound(access: Access, replica: Replica, target: Sink, workers: Workers, on_mended: OnMended) -> None:
    """Put what is damaged or gone of it, as far as the replica has it whole.

    In the order of creation: an entry of the log after all earlier ones, and penstock.json last, so that wherever this
    breaks off, the next run goes on. Raises `OtherRepository`; `RepositoryMissing` where the target has nothing of this
    repository; and what is wrong with the replica's own.
    """
    owner = access.owner.signing
    config = require_replica(access, replica.sink, workers)
    root = blake3(config).digest()
    log = workers.call(read_log, replica.sink, owner, root)
    founded = workers.call(_is_founded, access, target, config)
    if not founded and not _holds_any(target, log, workers):
        raise RepositoryMissing(
            f"{target.location} has nothing of the repository in {replica.sink.location}",
            hint="To copy all of it there: penstock replicate.",
        )
    digests = {*log.digests}
    for key in (key for key in log.keys if not workers.call(_is_whole, target, key, owner)):
        workers.call(replica.copier.document, key, owner, digests, replace=True)
        on_mended(key, replica.sink)
    if not founded:
        workers.call(replica.copier.document, layout.CONFIG, owner, digests, replace=True)
        on_mended(layout.CONFIG, replica.sink)
    # Those that are in force here, where a passphrase may have been revoked since the replica was made.
    here = workers.call(read_log, target, owner, root)
    for key in map(layout.slot_key, [one.grant.key for one in here.active(Role.SLOT)]):
        if not workers.call(_is_whole, target, key, owner):
            with suppress(DamagedObject, MissingObject):
                workers.call(replica.copier.document, key, owner, replace=True)
                on_mended(key, replica.sink)


def _is_founded(access: Access, target: Sink, config: bytes) -> bool:
    """Whether the target has this penstock.json; raises `OtherRepository` if it has that of another repository."""
    try:
        if fetch(target, layout.CONFIG) == config:
            return True
        other = repository_id(target)
    except (ObjectMissing, Malformed, DamagedObject):
        return False
    if other != access.repository:
        raise OtherRepository(
            f"{target.location} holds another repository ({other.hex()[:8]}) than the replica "
            f"({access.repository.hex()[:8]})"
        )
    return False


def _holds_any(target: Sink, log: OwnerLog, workers: Workers) -> bool:
    """Whether anything of this repository is there: only its own domains have these names."""
    prefixes = (layout.DomainLayout(domain).prefix for domain in log.domains)
    return any(next(listed(workers, target, prefix), None) is not None for prefix in prefixes)


def _is_whole(target: Sink, key: str, owner: VerifyingKey) -> bool:
    with suppress(ObjectMissing, Malformed):
        decode_document(key, fetch(target, key)).verified(owner)
        return True
    return False
