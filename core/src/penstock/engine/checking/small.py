"""Which objects there are, and the small ones: slots, sessions, index objects, leases and notices."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, SinkDenied
from penstock.api.models import ObjectInfo
from penstock.engine.checking.findings import Findings
from penstock.engine.checking.ledger import Ledger
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.index import decode_index
from penstock.format.part import verify_part
from penstock.format.session import LeaseDocument
from penstock.format.trust import OWNER_ID, Role
from penstock.repository import Repository, layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch, require_size
from penstock.repository.notices import Notices, read_doomed, read_notices
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.sessions import proof_of_cut, read_session, read_with_digest
from penstock.repository.upkeep.living import keeper_of
from penstock.repository.upkeep.marks import read_marks

__all__ = ["Small", "require_lease"]


class _Seen(NamedTuple):
    """Whose an object is, and, where somebody pins it, its digest."""

    signer: bytes | None
    digest: bytes | None = None


class Small:
    """Lists the repository, as far as the role reaches, and looks at all small objects.

    penstock.json and the owner's log were verified when the repository was opened.
    """

    def __init__(self, repository: Repository, workers: Workers, ledger: Ledger, findings: Findings) -> None:
        self._repository = repository
        self._workers = workers
        self._ledger = ledger
        self._findings = findings
        self._sees_slots = True

    def list_all(self) -> None:
        """Heads first: a backup writes its own last, so all that it needs is there when the rest is listed."""
        domains = self._repository.domains
        heads = [domain.at.snapshots for domain in domains]
        self._list(*heads)
        before = [self._ledger.count(prefix)[0] for prefix in heads]
        if self._repository.access.role is Role.WRITER:
            self._list(layout.GRANTS, *(domain.at.prefix for domain in domains))
            # Its credential may be confined to what a backup needs, and passphrases are not among it.
            try:
                self._list(layout.SLOTS)
            except SinkDenied:
                self._sees_slots = False
        else:
            self._list("")
        for domain, known in zip(domains, before, strict=True):
            # The rest was listed with further heads, whose packs may have been put behind the listing.
            if self._ledger.count(domain.at.snapshots)[0] > known:
                self._list(domain.at.packs)

    def _list(self, *prefixes: str) -> None:
        for prefix in prefixes:
            self._ledger.add(listed(self._workers, self._repository.sink, prefix))

    def examine_owners(self) -> None:
        """Look at what belongs to no domain: slots, strangers in the owner's log, and what is nowhere at home."""
        repository = self._repository
        for error in repository.log.strangers:
            self._findings.error(error)
        slots = {layout.slot_key(grantee.grant.key) for grantee in repository.log if grantee.grant.role is Role.SLOT}
        active = [layout.slot_key(grantee.grant.key) for grantee in repository.log.active(Role.SLOT)]
        for _ in self._each(self._slot, active if self._sees_slots else []):
            pass
        known = tuple(layout.DomainLayout(domain).prefix for domain in repository.log.domains)
        for info in self._ledger.under(""):
            key = info.key
            if key == layout.CONFIG or key.startswith((layout.GRANTS, *known)) or key in slots:
                continue
            self._findings.stranger(key, "no object of this repository")

    def _slot(self, key: str) -> _Seen:
        try:
            decode_document(key, fetch(self._repository.sink, key)).verified(self._repository.config.owner.signing)
        except ObjectMissing:
            raise MissingObject(key, "the passphrase slot is gone") from None
        return _Seen(OWNER_ID)

    def examine(self, domain: Domain) -> Notices:
        """Look at the small objects of a domain; returns what its notices say."""
        at = domain.at
        known = (at.sessions, at.packs, at.index, at.parts, at.snapshots, at.leases, at.notices, at.tombstones)
        for info in self._ledger.under(at.prefix):
            try:
                if not info.key.startswith((*known, at.deletions, at.marks)):
                    raise Malformed("no object of this repository")
                if not info.key.startswith(at.leases):
                    layout.id_of(info.key)
            except Malformed as error:
                self._findings.stranger(info.key, str(error))
                continue
            try:
                require_size(info.key, info.size)
            except Malformed as error:
                self._findings.add(info.key, str(error))
        notices = read_notices(domain, self._workers, self._findings.error)
        read_doomed(domain, self._workers, self._findings.error)
        read_marks(domain, self._workers, self._findings.error)
        for look, prefix in ((_session, at.sessions), (_index, at.index), (_part, at.parts)):
            keys = (info.key for info in self._sound(prefix))
            for key, seen in self._each(lambda key, look=look: look(domain, key), keys):  # type: ignore[misc]
                self._ledger.judge(key, *seen)
        self._leases(domain, notices)
        return notices

    def _leases(self, domain: Domain, notices: Notices) -> None:
        """Whose a lease must be, the ledger knows: it is asked by this thread alone."""
        at = domain.at
        expected: dict[str, bytes | None] = {}

        def keys() -> Iterator[str]:
            for info in self._sound(at.leases):
                session = at.sessions + info.key.removeprefix(at.leases).partition("-")[0]
                if session in notices.deleted:
                    self._ledger.judge(info.key, OWNER_ID)  # left over: the next prune deletes it
                    continue
                if self._ledger.judged(session) is False:
                    continue  # what is wrong with the session was said
                expected[info.key] = self._ledger.signer(session)
                yield info.key

        for key, seen in self._each(lambda key: _lease(domain, key, expected.pop(key)), keys()):
            self._ledger.judge(key, *seen)

    def _sound(self, prefix: str) -> Iterable[ObjectInfo]:
        """Those under a prefix whose names and sizes are possible."""
        return (info for info in self._ledger.under(prefix) if not self._ledger.found(info.key))

    def _each(self, examine: Callable[[str], _Seen], keys: Iterable[str]) -> Iterable[tuple[str, _Seen]]:
        """Each key, and what `examine` says of it; nothing where it finds something wrong."""

        def look(key: str) -> tuple[str, _Seen | DamagedObject | MissingObject]:
            try:
                return key, examine(key)
            except ObjectMissing:
                return key, MissingObject(key, "gone")
            except Malformed as error:
                return key, DamagedObject(key, str(error))
            except (DamagedObject, MissingObject) as error:
                return key, error

        for key, found in self._workers.map(look, keys):
            if isinstance(found, _Seen):
                yield key, found
            else:
                self._findings.error(found)
                yield key, _Seen(None)


def _session(domain: Domain, key: str) -> _Seen:
    session, digest = read_with_digest(domain, layout.id_of(key))
    if (cut := proof_of_cut(domain, session)) is not None:
        raise cut
    return _Seen(session.writer, digest)


def _index(domain: Domain, key: str) -> _Seen:
    sealed = decode_index(layout.id_of(key), fetch(domain.sink, key))
    signer = domain.signer(sealed.signer)
    if signer is None:
        raise Malformed("its signer was never granted to write here")
    sealed.verify(signer, domain.scope)
    sealed.open_packs(domain.layout_sealer, domain.scope)
    if domain.knows_chunks:
        sealed.open_summaries(domain.layout_sealer, domain.id_sealer, domain.scope)
    return _Seen(sealed.signer)


def _part(domain: Domain, key: str) -> _Seen:
    data = fetch(domain.sink, key)
    return _Seen(verify_part(layout.id_of(key), data, domain.writer, domain.scope), blake3(data).digest())


def _lease(domain: Domain, key: str, signer: bytes | None) -> _Seen:
    """One that is gone is nobody's loss: leases come and go."""
    try:
        return _Seen(require_lease(domain, key, signer))
    except ObjectMissing:
        return _Seen(None)


def require_lease(domain: Domain, key: str, signer: bytes | None = None) -> bytes:
    """Whose the lease is; `signer` is the session's, if that is known to be sound.

    Raises `Malformed` for what is no lease, or not of its session, and `ObjectMissing`.
    """
    document = decode_document(key, fetch(domain.sink, key))
    lease = LeaseDocument.from_json(document.claimed)
    if key != domain.at.lease_key(lease.session, lease.number):
        raise Malformed("it belongs to another session")
    if signer is None:
        try:
            signer = read_session(domain, lease.session).writer  # it may have been put after the listing
        except MissingObject as error:
            if (keeper := keeper_of(domain, document)) is not None:
                return keeper  # of a prune
            raise Malformed(f"its session: {error.reason}") from None
        except DamagedObject as error:
            raise Malformed(f"its session: {error.reason}") from None
    writer = domain.writer(signer)
    assert writer is not None
    document.verified(writer)
    return signer
