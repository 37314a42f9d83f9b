"""Sessions: one writer's runs, and the data keys in them. Nothing unsigned is ever believed."""

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.sealing import Sealer
from penstock.format.session import SessionDocument
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch

__all__ = ["data_sealer", "proof_of_cut", "read_session", "read_with_digest", "require_usable"]


def read_session(domain: Domain, session: bytes, pinned: bytes | None = None) -> SessionDocument:
    """Read a session and verify its writer's signature, and its digest where a snapshot has `pinned` that.

    Raises `DamagedObject`, `MissingObject`.
    """
    return read_with_digest(domain, session, pinned)[0]


def read_with_digest(domain: Domain, session: bytes, pinned: bytes | None = None) -> tuple[SessionDocument, bytes]:
    """What `read_session` reads, and the digest of the object."""
    key = domain.at.session_key(session)
    try:
        data = fetch(domain.sink, key)
        digest = blake3(data).digest()
        if pinned is not None and digest != pinned:
            raise Malformed("not the session that the snapshot pins")
        document = decode_document(key, data)
        claimed = SessionDocument.from_json(document.claimed)
        writer = domain.writer(claimed.writer)
        if writer is None:
            raise Malformed("its signer was never granted to write here")
        document.verified(writer)
        if claimed.session != session:
            raise Malformed("it belongs to another session")
    except ObjectMissing:
        raise MissingObject(key, "gone, and with it the data key: what this run stored cannot be read") from None
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    return claimed, digest


def proof_of_cut(domain: Domain, session: SessionDocument) -> DamagedObject | None:
    """What to say if the session proves that the end of the owner's log is missing. A revoked writer proves nothing."""
    log = domain.log
    if log.revoked(session.writer) or session.log <= log.digests:
        return None
    known = {*log.keys, *(stranger.key for stranger in log.strangers)}
    if any(info.key not in known for info in domain.sink.list(layout.GRANTS)):
        return None  # the owner has added to it since it was read
    reason = "it knows later entries of the owner's log than there are: the log was cut"
    return DamagedObject(domain.at.session_key(session.session), reason)


def require_usable(domain: Domain, session: bytes) -> bytes:
    """The digest of a session; raises `DamagedObject` or `MissingObject` unless a new snapshot can rely on it.

    One that is known may have been changed since, also by somebody who was revoked: then it holds another data key.
    """
    document, digest = read_with_digest(domain, session)
    if domain.log.revoked(document.writer):
        raise DamagedObject(domain.at.session_key(session), "its writer was revoked")
    return digest


def data_sealer(domain: Domain, session: bytes, pinned: bytes | None = None) -> Sealer:
    """What opens the segments and manifests of a session, as `read_session` reads it.

    Raises `RoleForbids` for all but the owner.
    """
    private = domain.access.require_owner("reading a backup")
    document = read_session(domain, session, pinned)
    try:
        return Sealer(document.unwrap(private, domain.scope))
    except Malformed as error:
        raise DamagedObject(domain.at.session_key(session), str(error)) from None
