"""The owner's log of grants: who may write, who may keep house, which passphrases open the repository."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from penstock.api.errors import DamagedObject, MissingObject, WrongKey
from penstock.api.sink import Sink
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.keys import VerifyingKey
from penstock.format.trust import OWNER_ID, Grant, Role, digest_of
from penstock.repository import layout

__all__ = ["GrantLog", "Grantee", "read_grants"]


@dataclass(frozen=True, slots=True)
class Grantee:
    """What became of one key: its grant, and its revocation if there is one."""

    grant: Grant
    revocation: Grant | None = None

    @property
    def active(self) -> bool:
        """Whether the key is good for anything new."""
        return self.revocation is None


class GrantLog:
    """The whole log, verified: every entry signed by the owner, none left out before the last that is there."""

    def __init__(self, owner: VerifyingKey, root: str) -> None:
        self._owner = owner
        #: The digest of the last entry, or of penstock.json: what the next entry follows.
        self.head = root
        self.length = 0
        self._grantees: dict[bytes, Grantee] = {}

    def append(self, data: bytes) -> Grant:
        """Verify the next entry, as it is stored, and take it in; raises `DamagedObject`."""
        key = layout.grant_key(self.length + 1)
        try:
            grant = Grant.from_json(decode_document(key, data).verified(self._owner))
        except Malformed as error:
            raise DamagedObject(key, str(error)) from None
        known = self._grantees.get(grant.key)
        if grant.number != self.length + 1 or grant.previous != self.head:
            raise DamagedObject(key, "it does not follow the entry before it")
        if (known is None) is grant.revoked or (known is not None and not known.active):
            raise DamagedObject(key, "it contradicts the entries before it")
        self._grantees[grant.key] = Grantee(grant) if known is None else replace(known, revocation=grant)
        self.head = digest_of(data)
        self.length += 1
        return grant

    def __iter__(self) -> Iterator[Grantee]:
        return iter(self._grantees.values())

    def find(self, key: bytes) -> Grantee | None:
        """The key's entry."""
        return self._grantees.get(key)

    def active(self, role: Role) -> Iterator[Grantee]:
        """The keys of a role that are not revoked."""
        return (grantee for grantee in self if grantee.active and grantee.grant.role is role)

    def writer(self, key: bytes) -> VerifyingKey | None:
        """The key that verifies what `key` signed, also when it was revoked since; None for a stranger."""
        if key == OWNER_ID:
            return self._owner
        grantee = self._grantees.get(key)
        if grantee is None or grantee.grant.role is not Role.WRITER:
            return None
        return grantee.grant.signing

    def revoked(self, key: bytes) -> bool:
        """Whether `key` was revoked."""
        grantee = self._grantees.get(key)
        return grantee is not None and not grantee.active

    def pinned_snapshots(self, key: bytes) -> Mapping[str, str] | None:
        """For a revoked writer the snapshots of it that stay good, {id: digest}; None for one that was not revoked."""
        grantee = self._grantees.get(key)
        return grantee.revocation.snapshots if grantee is not None and grantee.revocation is not None else None

    def require_active(self, key: bytes, role: Role) -> None:
        """Raise `WrongKey` unless the owner granted `key` that role, and did not revoke it."""
        if role is Role.OWNER and key == OWNER_ID:
            return
        grantee = self._grantees.get(key)
        if grantee is None or grantee.grant.role is not role:
            raise WrongKey(
                "the owner of this repository never granted this key",
                hint="if that is not so, the end of the log of grants is gone: another key opens it for penstock check",
            )
        if not grantee.active:
            raise WrongKey(
                f"the owner of this repository revoked this key ({grantee.grant.label})",
                hint="its owner makes another: penstock key add, or penstock key add-passphrase",
            )


def read_grants(sink: Sink, owner: VerifyingKey, root: str) -> GrantLog:
    """Read and verify the log; `root` is the digest of penstock.json. Raises `DamagedObject`, `MissingObject`."""
    log = GrantLog(owner, root)
    numbers = []
    for info in sink.list(layout.GRANTS):
        try:
            numbers.append(layout.grant_number(info.key))
        except Malformed as error:
            raise DamagedObject(info.key, str(error)) from None
    for expected, number in enumerate(sorted(numbers), start=1):
        if number != expected:
            raise MissingObject(layout.grant_key(expected), "the owner's log of grants has a gap")
        log.append(sink.get(layout.grant_key(number)))
    return log
