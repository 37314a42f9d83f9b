"""The keys of a repository: created, listed and revoked by its owner."""

from dataclasses import dataclass

from penstock.api.errors import KeyMissing, UsageError
from penstock.api.secrets import Secret
from penstock.format.encoding import new_id
from penstock.format.keys import SigningKey
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.repository import Repository
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.access import Access

__all__ = ["KeyEntry", "add_key", "add_slot", "entries", "revoke"]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of a repository, for listings. Times are ISO 8601 in UTC."""

    role: Role
    key: bytes
    label: str
    created: str
    revoked_at: str | None


def add_key(repository: Repository, role: Role, label: str) -> Access:
    """Create and grant a writer or maintainer key. The result exists nowhere else: keep it in a key file."""
    if role not in (Role.WRITER, Role.MAINTAINER):
        raise UsageError(
            f"a key with the role {role} cannot be created",
            hint="Choose writer or maintainer, or export the owner's key.",
        )
    signing = SigningKey.generate() if role is Role.WRITER else None
    key = new_id()
    repository.append_grant(role=role, key=key, label=label, signing=signing)
    return Access(
        role=role,
        repository=repository.id,
        key=key,
        label=label,
        owner=repository.access.owner,
        index=repository.access.index,
        signing=signing,
    )


def add_slot(repository: Repository, passphrase: Secret, label: str) -> bytes:
    """Add a passphrase that opens the repository as its owner; returns the slot's id."""
    return repository.add_slot(passphrase, label)


def entries(repository: Repository) -> list[KeyEntry]:
    """All keys ever granted, oldest first."""
    return [
        KeyEntry(
            grantee.grant.role,
            grantee.grant.key,
            grantee.grant.label,
            grantee.grant.created,
            grantee.revocation.created if grantee.revocation else None,
        )
        for grantee in repository.grants
    ]


def revoke(repository: Repository, key: bytes) -> None:
    """Revoke a key.

    A writer's existing snapshots remain valid, pinned by name and digest; any other with its signature is refused. A
    passphrase's slot is deleted. Revocation cannot take back what the holder of a key has already copied.
    """
    repository.access.require_owner("revoking a key")
    grantee = repository.grants.find(key)
    if grantee is None or not grantee.active:
        raise KeyMissing(f"no active key {key.hex()}")
    role = grantee.grant.role
    if role is Role.SLOT and len(list(repository.grants.active(Role.SLOT))) == 1:
        raise UsageError("this is the last passphrase", hint="Add another first: penstock key add-passphrase.")
    snapshots = {}
    if role is Role.WRITER:
        snapshots = {entry.id.hex(): entry.digest for entry in list_snapshots(repository) if entry.sealed.writer == key}
    repository.append_grant(role=role, key=key, label=grantee.grant.label, revoked=True, snapshots=snapshots)
    if role is Role.SLOT:
        repository.sink.delete(layout.slot_key(key))
