"""Creating and opening a repository: who owns it, and who may do what in it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from penstock.api.errors import (
    DamagedObject,
    KeyMissing,
    MissingObject,
    ObjectExists,
    ObjectMissing,
    RepositoryExists,
    RepositoryMissing,
    UnsupportedFormat,
    WrongKey,
    WrongPassphrase,
)
from penstock.api.plugin import Capability
from penstock.api.secrets import Secret
from penstock.api.sink import Sink
from penstock.format.chunker import ChunkerParameters
from penstock.format.documents import Document, decode_document, encode_document
from penstock.format.encoding import Malformed, integer, new_id
from penstock.format.keys import DecapsulationKey, IndexSecret, PassphraseCost, SigningKey
from penstock.format.sealing import Sealer
from penstock.format.trust import (
    FORMAT_VERSION,
    Grant,
    OwnerSecret,
    RepositoryConfig,
    Role,
    digest_of,
    open_slot,
    seal_slot,
)
from penstock.repository import layout
from penstock.repository.trust.access import Access
from penstock.repository.trust.grants import GrantLog, read_grants
from penstock.repository.trust.seeding import even_index_secret

__all__ = ["Repository", "now", "repository_id"]


def now() -> str:
    """The time as documents hold it: ISO 8601, UTC. Microseconds keep two runs in one second in order."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Repository:
    """An open repository. `access` holds the keys it was opened with, `grants` is the owner's log, verified."""

    def __init__(self, sink: Sink, config: RepositoryConfig, access: Access, grants: GrantLog) -> None:
        self.sink = sink
        self.config = config
        self.access = access
        self.grants = grants
        self.index_sealer = Sealer(access.index.index_key)

    @property
    def id(self) -> bytes:
        """The repository's identifier, 16 bytes."""
        return self.config.repository

    @classmethod
    def create(
        cls,
        sink: Sink,
        *,
        passphrase: Secret | None,
        chunker: ChunkerParameters | None = None,
        cost: PassphraseCost | None = None,
    ) -> "Repository":
        """Create a repository in an empty place, and open it as its owner.

        penstock.json is written last: without it, no repository exists. Without a passphrase, the owner's access must
        be saved as a key file, or everything is lost. Raises `RepositoryExists` if the place is not empty.
        """
        if next(iter(sink.list()), None) is not None:
            what = "a repository" if _has_config(sink) else "objects"
            raise RepositoryExists(f"{sink.location} already holds {what}", hint="Choose another place, or empty it.")
        identifier = new_id()
        parameters = chunker or ChunkerParameters()
        index_secret = even_index_secret(identifier, parameters)
        secret = OwnerSecret(SigningKey.generate(), DecapsulationKey.generate(), index_secret)
        proof = IndexSecret(index_secret, identifier).proof
        config = RepositoryConfig(identifier, now(), parameters, secret.public, proof)
        document = encode_document(layout.CONFIG, config.to_json(), secret.signing)
        access = Access.of_owner(secret, config.repository)
        repository = cls(sink, config, access, GrantLog(secret.public.signing, digest_of(document)))
        if passphrase is not None:
            repository.add_slot(passphrase, "first passphrase", cost)
        _put_new(sink, layout.CONFIG, document)
        return repository

    @classmethod
    def open(cls, sink: Sink, unlock: Access | Secret) -> "Repository":
        """Open with a key or with a passphrase.

        Raises `RepositoryMissing`, `UnsupportedFormat`, `DamagedObject`, `WrongKey` (another repository's key, or a
        revoked one), `WrongPassphrase`, `KeyMissing` (a passphrase, but no slot).
        """
        found = _read_config(sink)
        if isinstance(unlock, Access):
            return cls._opened(sink, found, unlock, unlock.key, unlock.role)
        refused: WrongKey | None = None
        for access, slot in _accesses_by_passphrase(sink, found[2], unlock):
            try:
                return cls._opened(sink, found, access, slot, Role.SLOT)
            except WrongKey as error:
                # Its grant or revocation may have been interrupted, and the same passphrase may have another slot.
                refused = refused or error
        assert refused is not None
        raise refused

    @classmethod
    def _opened(
        cls, sink: Sink, found: tuple[bytes, Document, RepositoryConfig], access: Access, key: bytes, role: Role
    ) -> "Repository":
        """Open with `access`, provided that the owner granted `key` that role; raises what `open` does."""
        data, document, config = found
        if access.repository != config.repository:
            raise WrongKey(
                f"the key belongs to another repository ({access.repository.hex()[:8]}) "
                f"than {sink.location} ({config.repository.hex()[:8]})",
                hint="Use this repository's own key file, or leave --key out to use the one of this host.",
            )
        try:
            document.verified(access.owner.signing)
        except Malformed as error:
            raise DamagedObject(layout.CONFIG, f"{error}; may be forged") from None
        grants = read_grants(sink, access.owner.signing, digest_of(data))
        grants.require_active(key, role)
        # Readers would take anything signed or sealed with other keys than the published ones for damage.
        if access.signing is not None and access.signing.public != grants.writer(access.key):
            raise WrongKey("the key file is damaged: its signing key is not the one that the owner granted")
        if access.recipient is not None and access.recipient.public != config.owner.recipient:
            raise WrongKey("the key file is damaged: its private key is not that of the repository's owner")
        if access.index.proof != config.index_proof:
            raise WrongKey("the key file is damaged: its index secret is not that of the repository")
        return cls(sink, config, access, grants)

    def add_slot(self, passphrase: Secret, label: str, cost: PassphraseCost | None = None) -> bytes:
        """Add a passphrase that opens the repository as its owner; returns the slot's id."""
        signing, _ = self.access.require_owner("a new passphrase")
        slot = new_id()
        content = seal_slot(
            self.access.owner_secret, _as_text(passphrase), cost or PassphraseCost(), self.config.repository, slot
        )
        # The slot comes first: a grant promises that it exists.
        self.sink.put(layout.slot_key(slot), encode_document(layout.slot_key(slot), content, signing))
        self.append_grant(role=Role.SLOT, key=slot, label=label)
        return slot

    def append_grant(
        self,
        *,
        role: Role,
        key: bytes,
        label: str,
        revoked: bool = False,
        signing: SigningKey | None = None,
        snapshots: dict[str, str] | None = None,
    ) -> Grant:
        """Append an entry to the owner's log."""
        owner, _ = self.access.require_owner("granting and revoking keys")
        number = self.grants.length + 1
        grant = Grant(
            number=number,
            previous=self.grants.head,
            revoked=revoked,
            role=role,
            key=key,
            label=label,
            created=now(),
            signing=signing.public if signing else None,
            snapshots=snapshots or {},
        )
        name = layout.grant_key(number)
        document = encode_document(name, grant.to_json(), owner)
        try:
            _put_new(self.sink, name, document)
        except ObjectExists as error:
            raise RepositoryExists(
                f"{name}: somebody else changed the keys at the same time", hint="Try again."
            ) from error
        return self.grants.append(document)


def _has_config(sink: Sink) -> bool:
    try:
        sink.stat(layout.CONFIG)
    except ObjectMissing:
        return False
    return True


def repository_id(sink: Sink) -> bytes:
    """The repository's id as penstock.json claims it: not verified, good only for finding a key."""
    return _read_config(sink)[2].repository


def _as_text(passphrase: Secret) -> str:
    """The passphrase; refused if its bytes were not UTF-8, since nobody could type it again."""
    text = passphrase.reveal()
    if not text.isascii() and text != text.encode(errors="replace").decode():
        raise WrongPassphrase("the passphrase is not valid UTF-8", hint="Check where it is read from.")
    return text


def _put_new(sink: Sink, key: str, data: bytes) -> None:
    sink.put(key, data, if_absent=Capability.CONDITIONAL_PUT in sink.capabilities())


def _read_config(sink: Sink) -> tuple[bytes, Document, RepositoryConfig]:
    try:
        data = sink.get(layout.CONFIG)
    except ObjectMissing:
        if any(True for prefix in (layout.SESSIONS, layout.PACKS, layout.SNAPSHOTS) for _ in sink.list(prefix)):
            raise MissingObject(layout.CONFIG, "gone, although backups are there") from None
        raise RepositoryMissing(f"no repository at {sink.location}", hint="Run penstock init to create one.") from None
    try:
        document = decode_document(layout.CONFIG, data)
        version = integer(document.claimed, "format")
        if version > FORMAT_VERSION:
            raise UnsupportedFormat(
                f"{sink.location} has format {version} according to {layout.CONFIG}; "
                f"this Penstock reads formats up to {FORMAT_VERSION}",
                hint="Update Penstock.",
            )
        config = RepositoryConfig.from_json(document.claimed)
        # Trust in that owner comes later; this check keeps damage from looking like another repository's key.
        document.verified(config.owner.signing)
        return data, document, config
    except Malformed as error:
        raise DamagedObject(layout.CONFIG, str(error)) from None


def _accesses_by_passphrase(sink: Sink, config: RepositoryConfig, passphrase: Secret) -> Iterator[tuple[Access, bytes]]:
    """Try every slot; yields the owner's access and the slot's id for each that opens. Raises if none does.

    The owner's private key comes from a slot that only the passphrase opens. The public key in penstock.json is then
    compared with it, and nothing is trusted before that.
    """
    damage: DamagedObject | None = None
    slots = opened = 0
    for info in sink.list(layout.SLOTS):
        slots += 1
        try:
            slot = layout.id_of(info.key)
            content = decode_document(info.key, sink.get(info.key)).verified(config.owner.signing)
            secret = open_slot(content, _as_text(passphrase), config.repository, slot)
        except Malformed as error:
            damage = damage or DamagedObject(info.key, str(error))
            continue
        if secret is not None:
            if secret.public != config.owner:
                raise DamagedObject(layout.CONFIG, "its owner is not the one that the passphrase opens; may be forged")
            opened += 1
            yield Access.of_owner(secret, config.repository), slot
    if opened:
        return
    if damage is not None:
        raise damage
    if not slots:
        raise KeyMissing(f"{sink.location} has no passphrase slot", hint="Use the owner's key file.")
    raise WrongPassphrase(
        f"the passphrase opens no slot of {sink.location}",
        hint="Check for typing errors and the keyboard layout; any other passphrase or the owner's key file works too.",
    )
