"""The owner's log: domains, keys, and what is kept of revoked ones."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from blake3 import blake3

from penstock.api.errors import DamagedObject, MissingObject, ObjectMissing, WrongKey, say_more
from penstock.api.sink import Sink
from penstock.format.documents import decode_document
from penstock.format.encoding import Malformed
from penstock.format.grants import Content, Entry, Granted, Kept, MadeDomain, Revoked
from penstock.format.keys import VerifyingKey
from penstock.format.trust import OWNER_ID, Role
from penstock.repository import layout
from penstock.repository.fetching import fetch

__all__ = ["Grantee", "OwnerLog", "read_log"]


@dataclass(slots=True)
class Grantee:
    """One key's history: its grant, and its revocation, if any, with the snapshots that are kept: {id: digest}."""

    grant: Granted
    created: str
    revoked: str | None = None
    since: str | None = None
    kept: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether the key is still valid."""
        return self.revoked is None


class OwnerLog:
    """The log, verified: every entry signed by the owner, and every one there that another names as earlier.

    `strangers` are objects under its prefix that are no entries of it.
    """

    def __init__(self, owner: VerifyingKey, root: bytes) -> None:
        self._owner = owner
        #: The digests of the newest entries, or of penstock.json: `previous` of the next entry.
        self.newest = frozenset({root})
        #: The digests of all entries, and of penstock.json.
        self.digests = {root}
        self.keys: list[str] = []
        self.number = 0
        self.domains: dict[bytes, MadeDomain] = {}
        self.strangers: list[DamagedObject] = []
        self._grantees: dict[bytes, Grantee] = {}

    def take(self, entries: Iterable[tuple[str, Entry, bytes]]) -> None:
        """Take entries, each with key and digest, in any order; raises `MissingObject` if an earlier one is gone."""
        new = sorted(entries, key=lambda one: (one[1].number, one[1].created, one[2]))
        self.digests |= {digest for _, _, digest in new}
        for key, entry, digest in new:
            if not entry.previous <= self.digests:
                raise MissingObject(key, "the owner's log has a gap: an entry before this one is gone")
            self.newest = self.newest - entry.previous | {digest}
            self.number = max(self.number, entry.number)
            self.keys.append(key)
            self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        match entry.content:
            case MadeDomain() as made:
                self.domains.setdefault(made.domain, made)
            case Granted() as grant:
                self._grantees.setdefault(grant.key, Grantee(grant, entry.created))
            case Revoked() | Kept() as content:
                grantee = self._grantees.get(content.key)
                if grantee is None:
                    return
                grantee.kept.update(content.kept)
                if isinstance(content, Revoked) and grantee.active:
                    grantee.revoked, grantee.since = entry.created, content.since

    def next(self, created: str, content: Content) -> Entry:
        """The entry to write next."""
        return Entry(self.number + 1, self.newest, created, content)

    def __iter__(self) -> Iterator[Grantee]:
        return iter(self._grantees.values())

    def find(self, key: bytes) -> Grantee | None:
        """The key's history."""
        return self._grantees.get(key)

    def active(self, role: Role) -> Iterator[Grantee]:
        """The keys of a role, without revoked ones."""
        return (grantee for grantee in self if grantee.active and grantee.grant.role is role)

    def label(self, key: bytes) -> str:
        """Whose key it is, for people."""
        if key == OWNER_ID:
            return "owner"
        grantee = self._grantees.get(key)
        return grantee.grant.label if grantee else key.hex()[:8]

    def signer(self, key: bytes, roles: Iterable[Role], domain: bytes | None = None) -> VerifyingKey | None:
        """What verifies signatures by `key`, even if it was revoked; None unless it has one of these roles.

        The owner always has. A writer must be one of `domain`, if given.
        """
        if key == OWNER_ID:
            return self._owner
        grantee = self._grantees.get(key)
        if grantee is None or grantee.grant.role not in roles:
            return None
        if grantee.grant.role is Role.WRITER and domain is not None and grantee.grant.domain != domain:
            return None
        return grantee.grant.signing

    def may_store(self, key: bytes, domain: bytes, backup: str) -> bool:
        """Whether `key` was ever granted to store a backup of this name in this domain."""
        if key == OWNER_ID:
            return True
        grantee = self._grantees.get(key)
        if grantee is None or grantee.grant.role is not Role.WRITER or grantee.grant.domain != domain:
            return False
        return any(fnmatchcase(backup, _pattern(name)) for name in grantee.grant.names)

    def revoked(self, key: bytes) -> bool:
        """Whether `key` was revoked."""
        grantee = self._grantees.get(key)
        return grantee is not None and not grantee.active

    def kept(self, key: bytes) -> Mapping[bytes, bytes] | None:
        """The snapshots of a revoked writer that stay valid, {id: digest}; None if it was not revoked."""
        grantee = self._grantees.get(key)
        return None if grantee is None or grantee.active else grantee.kept

    def in_force(self, key: bytes, snapshot: bytes, digest: bytes) -> bool:
        """Whether the head with this digest, which `key` signed, is valid as far as revocations go."""
        kept = self.kept(key)
        return kept is None or kept.get(snapshot) == digest

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


def _pattern(name: str) -> str:
    """`*` alone stands for anything; `fnmatch` knows more."""
    return name.replace("[", "[[]").replace("?", "[?]")


def read_log(sink: Sink, owner: VerifyingKey, root: bytes) -> OwnerLog:
    """Read and verify the log; `root` is the digest of penstock.json. Raises `MissingObject`."""
    log = OwnerLog(owner, root)
    entries = []
    for info in sink.list(layout.GRANTS):
        try:
            layout.id_of(info.key)
            data = fetch(sink, info.key)
            entry = Entry.from_json(decode_document(info.key, data).verified(owner))
        except ObjectMissing:  # deleted since the listing: what needs it will say so
            continue
        except Malformed as error:
            log.strangers.append(DamagedObject(info.key, str(error)))
            continue
        entries.append((info.key, entry, blake3(data).digest()))
    try:
        log.take(entries)
    except MissingObject as error:
        # One of these may be it, damaged.
        say_more(error, *(str(stranger) for stranger in log.strangers))
        raise
    return log
