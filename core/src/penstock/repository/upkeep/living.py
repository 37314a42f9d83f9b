"""Who is at work in a domain: the sessions that live, and other prunes, by the store's times of their leases."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.api.models import ObjectInfo
from penstock.format.documents import Document, decode_document
from penstock.format.encoding import Malformed, id_from_hex
from penstock.format.keys import VerifyingKey
from penstock.format.session import LeaseDocument
from penstock.format.trust import OWNER_ID, Role
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.sessions import read_session
from penstock.repository.upkeep.leases import LIFE
from penstock.repository.upkeep.locks import longest

__all__ = ["LATE", "PRUNE_LIFE", "Living", "Running", "is_old", "keeper_of", "read_living"]

#: How late a listing may be, and how far the clocks of a store may differ, both together.
LATE = timedelta(minutes=5)
#: How long a prune counts as running after its last sign of life.
PRUNE_LIFE = timedelta(minutes=10)


class Running(NamedTuple):
    """A session or a prune: since when, its last sign of life, and whose key signed it."""

    id: bytes
    signer: bytes
    began: datetime
    newest: datetime


class Living(NamedTuple):
    """Who gave a sign of life not long ago. A session among them may have ended: then its head is there."""

    sessions: tuple[Running, ...]
    prunes: tuple[Running, ...]
    #: Leases of those that live no more.
    expired: tuple[str, ...]

    def at_work(self, ended: Collection[tuple[bytes, bytes]]) -> list[Running]:
        """The sessions that live and have not `ended`: of those, the ids and whose keys signed their heads."""
        return [one for one in self.sessions if (one.id, one.signer) not in ended]


def is_old(domain: Domain, info: ObjectInfo, horizon: datetime, now: datetime) -> bool:
    """Whether no session that began at `horizon` or later put it, and no lock that can be on it keeps it."""
    if info.modified is None or info.modified >= horizon:
        return False
    retention = domain.sink.retention
    return retention is None or info.modified + longest(retention) <= now


def read_living(domain: Domain, workers: Workers, now: datetime) -> Living:
    """Who lives at that time of the store's. What a stranger or a revoked writer signed keeps nobody waiting."""
    #: Each sign of life: when, and which object.
    signs: dict[bytes, list[tuple[datetime, str]]] = {}
    sessions = set()
    for info in listed(workers, domain.sink, domain.at.sessions):
        with suppress(Malformed):
            session = layout.id_of(info.key)
            sessions.add(session)
            signs.setdefault(session, []).append((_when(info, now), info.key))
    for info in listed(workers, domain.sink, domain.at.leases):
        with suppress(Malformed):
            session = id_from_hex(info.key.rpartition("/")[2].partition("-")[0])
            signs.setdefault(session, []).append((_when(info, now), info.key))

    def look(session: bytes) -> Running | None:
        if session in sessions:
            return _session(domain, session, [one for one in signs[session] if one[0] + LIFE + LATE > now])
        return _prune(domain, session, [one for one in signs[session] if one[0] + PRUNE_LIFE > now])

    young = [session for session, found in signs.items() if max(found)[0] + LIFE + LATE > now]
    found = [one for one in workers.map(look, young) if one is not None]
    began = {session: min(signs[session])[0] for session in young}
    living = [one._replace(began=began[one.id]) for one in found]
    expired = (one for session in signs.keys() - set(young) for one in signs[session])
    return Living(
        tuple(one for one in living if one.id in sessions),
        tuple(one for one in living if one.id not in sessions),
        tuple(key for when, key in expired if key.startswith(domain.at.leases) and not _locked(domain, when, now)),
    )


def _when(info: ObjectInfo, now: datetime) -> datetime:
    """A store that does not tell when is one in which everybody lives."""
    return info.modified or now


def _locked(domain: Domain, when: datetime, now: datetime) -> bool:
    """Whether what was put then is still locked for sure."""
    return domain.sink.retention is not None and when + domain.sink.retention > now


def _session(domain: Domain, session: bytes, signs: list[tuple[datetime, str]]) -> Running | None:
    """The session, if one of these signs of life is its writer's: a stranger can add others to them."""
    try:
        document = read_session(domain, session)
    except (DamagedObject, MissingObject):
        return None
    writer = domain.writer(document.writer)
    if writer is None or domain.log.revoked(document.writer):
        return None
    for when, key in sorted(signs, reverse=True):
        if key == domain.at.session_key(session) or _is_lease(domain, session, key, writer):
            return Running(session, document.writer, when, when)
    return None


def _prune(domain: Domain, prune: bytes, signs: list[tuple[datetime, str]]) -> Running | None:
    for when, key in sorted(signs, reverse=True):
        with suppress(Malformed, ObjectMissing):
            document = decode_document(key, fetch(domain.sink, key))
            lease = LeaseDocument.from_json(document.claimed)
            keeper = keeper_of(domain, document)
            if keeper is not None and domain.at.lease_key(lease.session, lease.number) == key:
                return Running(prune, keeper, when, when)
    return None


def keeper_of(domain: Domain, document: Document) -> bytes | None:
    """The key of the maintainer, or of the owner, that signed a document; None if none did, or it was revoked."""
    for key in (OWNER_ID, *(grantee.grant.key for grantee in domain.log.active(Role.MAINTAINER))):
        found = domain.keeper(key)
        with suppress(Malformed):
            if found is not None:
                document.verified(found)
                return key
    return None


def _is_lease(domain: Domain, session: bytes, key: str, signer: VerifyingKey) -> bool:
    try:
        lease = LeaseDocument.from_json(decode_document(key, fetch(domain.sink, key)).verified(signer))
    except (Malformed, ObjectMissing):
        return False
    return lease.session == session and domain.at.lease_key(session, lease.number) == key
