"""The keys of a repository: created, listed and revoked by its owner."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from penstock.api.errors import DamagedObject, KeyMissing, MissingObject, ObjectLocked, UsageError, say_more
from penstock.api.secrets import Secret
from penstock.format.encoding import new_id
from penstock.format.grants import Granted, Kept, Revoked
from penstock.format.keys import SigningKey
from penstock.format.trust import Role
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.notices import Doubted, read_notices, undelete
from penstock.repository.pool import Workers
from penstock.repository.read.listing import listed
from penstock.repository.repository import Repository
from penstock.repository.snapshots import SnapshotEntry, each_snapshot, read_snapshot
from penstock.repository.trust.access import Access
from penstock.repository.trust.log import Grantee
from penstock.repository.upkeep.vouching import vouch_for

__all__ = [
    "KeyEntry",
    "add_maintainer",
    "add_slot",
    "add_writer",
    "entries",
    "find_domain",
    "keep",
    "left_out",
    "revoke",
]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of a repository, for listings. Times are ISO 8601 in UTC."""

    role: Role
    key: bytes
    label: str
    created: str
    #: The label of a writer's domain, and the backups that it may store there.
    domain: str | None
    names: tuple[str, ...]
    revoked_at: str | None


def add_writer(
    repository: Repository, label: str, *, domain: str | None = None, names: Sequence[str] = ("*",)
) -> Access:
    """Create and grant a writer's key, in a domain of its own unless `domain` is the label of one.

    The result exists nowhere else: keep it in a key file. Raises `KeyMissing`, `UsageError`.
    """
    if not names or not all(names):
        raise UsageError("a writer needs the name of a backup that it may store", hint="'*' stands for all.")
    if domain is not None:
        joined = find_domain(repository, domain)
    else:
        if "/" in label:
            raise UsageError("the label of a domain must not contain /", hint="It separates domain and backup.")
        if any(one.label == label for one in repository.domains):
            raise UsageError(f"there is a domain {label} already", hint="Choose another label, or join it by name.")
        joined = repository.add_domain(label)
    signing, key = SigningKey.generate(), new_id()
    repository.append(Granted(key, Role.WRITER, label, signing.public, joined.id, tuple(names)))
    access = repository.access
    return Access(Role.WRITER, repository.id, key, label, access.owner, joined.keys, signing)


def add_maintainer(repository: Repository, label: str) -> Access:
    """Create and grant a maintainer's key. The result exists nowhere else: keep it in a key file."""
    maintenance = repository.access.root.maintenance
    signing, key = SigningKey.generate(), new_id()
    repository.append(Granted(key, Role.MAINTAINER, label, signing.public))
    return Access(Role.MAINTAINER, repository.id, key, label, repository.access.owner, maintenance, signing)


def add_slot(repository: Repository, passphrase: Secret, label: str) -> bytes:
    """Add a passphrase that opens the repository as its owner; returns the slot's id."""
    return repository.add_slot(passphrase, label)


def find_domain(repository: Repository, label: str) -> Domain:
    """The domain with this label, or whose id begins so; raises `KeyMissing`."""
    found = [one for one in repository.domains if one.label == label]
    found = found or [one for one in repository.domains if label and one.id.hex().startswith(label)]
    if len(found) != 1:
        known = ", ".join(one.label for one in repository.domains)
        raise KeyMissing(f"there is no domain {label}", hint=f"There are: {known}.")
    return found[0]


def entries(repository: Repository) -> list[KeyEntry]:
    """All keys ever granted, oldest first."""
    return [_entry(repository, grantee) for grantee in repository.log]


def _entry(repository: Repository, grantee: Grantee) -> KeyEntry:
    grant = grantee.grant
    made = repository.log.domains.get(grant.domain) if grant.domain else None
    domain = made.label if made else None
    return KeyEntry(grant.role, grant.key, grant.label, grantee.created, domain, grant.names, grantee.revoked)


def revoke(
    repository: Repository,
    key: bytes,
    *,
    since: str | None = None,
    keep: Collection[bytes] = (),
    without: Collection[bytes] = (),
) -> list[SnapshotEntry]:
    """Revoke a key; returns the snapshots of a writer that stay valid.

    Of what a writer signed, everything that is there and whole stays valid, pinned by its digest, but what began at
    `since` or later, unless it is in `keep`, and what is in `without`; any other with its signature is refused from now
    on, whatever its date. Which packs it found damaged, and what a maintainer forgot, deleted, tagged or held before
    `since`, the owner says anew. A passphrase's slot is deleted. Revocation cannot take back what the holder of a key
    has already copied.
    """
    repository.access.require_owner("revoking a key")
    grantee = repository.log.find(key)
    if grantee is None or not grantee.active:
        raise KeyMissing(f"no active key {key.hex()}")
    role = grantee.grant.role
    if role is Role.SLOT and len(list(repository.log.active(Role.SLOT))) == 1:
        raise UsageError("this is the last passphrase", hint="Add another first: penstock key add-passphrase.")
    kept: list[SnapshotEntry] = []
    if role is not Role.SLOT:
        doubted = Doubted(key, since)
        with _workers(repository) as workers:
            for domain in repository.domains:
                notices = read_notices(domain, workers, doubted=doubted)
                objects = listed(workers, domain.sink, domain.at.snapshots)
                kept += [
                    entry
                    for entry in each_snapshot(domain, workers, objects, notices, _pass_over)
                    if entry.writer == key
                    and entry.id not in without
                    and (entry.id in keep or not (entry.from_the_future or (since and entry.latest_time >= since)))
                ]
                # First: what is deleted needs somebody whose word counts, also if this run breaks off here.
                vouch_for(domain, doubted, workers)
    kept.sort(key=lambda entry: (entry.time, entry.head.sequence))
    repository.append(Revoked(key, {entry.id: entry.digest for entry in kept}, since))
    if role is Role.SLOT:
        try:
            repository.sink.delete(layout.slot_key(key))
        except ObjectLocked as error:
            say_more(error, "the passphrase is revoked, and opens nothing; only its object stays as long")
            raise
    return kept


def left_out(repository: Repository, key: bytes) -> list[SnapshotEntry]:
    """The snapshots of a revoked writer that are there and not kept, whether it signed them before or after."""
    found = []
    with _workers(repository) as workers:
        for domain in repository.domains:
            for info in listed(workers, domain.sink, domain.at.snapshots):
                with suppress(DamagedObject, MissingObject):
                    entry = workers.call(read_snapshot, domain, info, hidden=True)
                    if entry.writer == key and not domain.log.in_force(key, entry.id, entry.digest):
                        found.append(entry)
    return sorted(found, key=lambda entry: (entry.time, entry.head.sequence))


def keep(repository: Repository, snapshots: Sequence[SnapshotEntry]) -> None:
    """Let more snapshots of revoked writers stay valid, and take back that any was forgotten.

    Raises `UsageError` for one of which neither is true, and for one that is void.
    """
    repository.access.require_owner("keeping snapshots")
    by_writer: dict[bytes, dict[bytes, bytes]] = {}
    forgotten: dict[bytes, dict[bytes, bytes]] = {}
    domains = {entry.domain.id: entry.domain for entry in snapshots}
    with _workers(repository) as workers:
        notices = {domain.id: read_notices(domain, workers) for domain in domains.values()}
    for entry in snapshots:
        log, said = repository.log, notices[entry.domain.id]
        was_forgotten = (entry.id, entry.digest) in said.forgets
        if was_forgotten:
            forgotten.setdefault(entry.domain.id, {})[entry.id] = entry.digest
        elif (why := said.hides(entry.id, entry.digest, entry.writer)) is not None:
            raise UsageError(f"{entry.id.hex()}: {why}", hint="Leave it out.")
        if not log.in_force(entry.writer, entry.id, entry.digest):
            by_writer.setdefault(entry.writer, {})[entry.id] = entry.digest
        elif not was_forgotten:
            raise UsageError(f"{entry.id.hex()} is valid already", hint="Leave it out.")
    for domain, some in forgotten.items():
        lifts = {record for head in some.items() for record in notices[domain].forgets[head]}
        undelete(domains[domain], some, lifts)
    for key, kept in by_writer.items():
        repository.append(Kept(key, kept))


def _workers(repository: Repository) -> Workers:
    return Workers(repository.sink.connections, "penstock-keys", repository.sink.stop)


def _pass_over(error: DamagedObject | MissingObject) -> None:
    """A revocation depends on the log alone: what a stranger put under the snapshots does not stop it."""
