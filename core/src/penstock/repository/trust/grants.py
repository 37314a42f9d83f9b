"""The owner's log of grants: writers, maintainers, and the passphrases that open the repository."""

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
    """One key's history: its grant, and its revocation, if any."""

    grant: Grant
    revocation: Grant | None = None

    @property
    def active(self) -> bool:
        """Whether the key is still valid."""
        return self.revocation is None


class GrantLog:
    """The whole log, verified: every entry signed by the owner, none missing before the last one present."""

    def __init__(self, owner: VerifyingKey, root: str) -> None:
        self._owner = owner
        #: The digest of the last entry, or of penstock.json: `previous` of the next entry.
        self.head = root
        self.length = 0
        self._grantees: dict[bytes, Grantee] = {}

    def append(self, data: bytes) -> Grant:
        """Verify the next entry, given in its stored form, and append it; raises `DamagedObject`."""
        key = layout.grant_key(self.length + 1)
        try:
            grant = Grant.from_json(decode_document(key, data).verified(self._owner))
        except Malformed as error:
            raise DamagedObject(key, str(error)) from None
        known = self._grantees.get(grant.key)
        if grant.number != self.length + 1 or grant.previous != self.head:
            raise DamagedObject(key, "does not follow the previous entry")
        if (known is None) is grant.revoked or (known is not None and not known.active):
            raise DamagedObject(key, "contradicts the previous entries")
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
        """The keys of a role, without revoked ones."""
        return (grantee for grantee in self if grantee.active and grantee.grant.role is role)

    def writer(self, key: bytes) -> VerifyingKey | None:
        """The key that verifies signatures by `key`, even if it has been revoked; None if it is not a known writer."""
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
        """The snapshots of a revoked writer that remain valid, {id: digest}; None if it was not revoked."""
        grantee = self._grantees.get(key)
        return grantee.revocation.snapshots if grantee is not None and grantee.revocation is not None else None

    def require_active(self, key: bytes, role: Role) -> None:
        """Raise `WrongKey` unless the owner granted `key` that role and did not revoke it."""
        if role is Role.OWNER and key == OWNER_ID:
            return
        grantee = self._grantees.get(key)
        if grantee is None or grantee.grant.role is not role:
            raise WrongKey(
                "the owner of this repository never granted this key",
                hint="Run penstock check with another key: if this one was granted, the end of the log is missing.",
            )
        if not grantee.active:
            raise WrongKey(
                f"the owner of this repository revoked this key ({grantee.grant.label})",
                hint="Ask the owner for another: penstock key add, or penstock key add-passphrase.",
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
