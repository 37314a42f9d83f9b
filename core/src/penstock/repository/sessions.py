"""Sessions: one writer's runs, and the data keys in them. Nothing unsigned is ever believed."""

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.sealing import Sealer
from penstock.format.trust import SessionDocument
from penstock.repository import layout
from penstock.repository.repository import Repository

__all__ = ["data_sealer", "read_session"]


def read_session(repository: Repository, session: bytes) -> SessionDocument:
    """Read a session and verify its writer's signature; raises `DamagedObject`, `MissingObject`."""
    key = layout.session_key(session)
    try:
        data = repository.sink.get(key)
    except ObjectMissing:
        raise MissingObject(key, "gone, and with it the data key: what this run stored cannot be read") from None
    try:
        document = decode_document(key, data)
        claimed = SessionDocument.from_json(document.claimed)
        writer = repository.grants.writer(claimed.writer)
        if writer is None:
            raise Malformed("its signer was never granted to write")
        document.verified(writer)
        if claimed.session != session:
            raise Malformed("it belongs to another session")
    except Malformed as error:
        raise DamagedObject(key, str(error)) from None
    if claimed.grants > repository.grants.length:
        missing = layout.grant_key(repository.grants.length + 1)
        raise MissingObject(missing, f"gone: the owner's log of grants was longer when {key} was written")
    return claimed


def data_sealer(repository: Repository, session: bytes) -> Sealer:
    """What opens the segments and manifests of a session; raises `RoleForbids` for all but the owner."""
    _, private = repository.access.require_owner("reading a backup")
    document = read_session(repository, session)
    try:
        return Sealer(document.unwrap(private, repository.access.key, repository.id))
    except Malformed as error:
        raise DamagedObject(layout.session_key(session), str(error)) from None
