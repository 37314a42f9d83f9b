"""Creating and opening a repository: who owns it, and who may do what in it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from blake3 import blake3

from penstock.api.errors import (
    DamagedObject,
    KeyMissing,
    MissingObject,
    ObjectExists,
    ObjectMissing,
    RepositoryExists,
    RepositoryMissing,
    SinkError,
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
from penstock.format.grants import Content, Granted, MadeDomain
from penstock.format.keys import DecapsulationKey, PassphraseCost, SigningKey, new_secret
from penstock.format.slot import MOST_SLOTS, open_slot, seal_slot
from penstock.format.times import now
from penstock.format.trust import FORMAT_VERSION, OwnerSecret, RepositoryConfig, Role
from penstock.repository import layout
from penstock.repository.domain import Domain
from penstock.repository.fetching import fetch
from penstock.repository.trust.access import Access
from penstock.repository.trust.log import OwnerLog, read_log
from penstock.repository.trust.seeding import even_domain

__all__ = ["FIRST_DOMAIN", "Repository", "put_new", "repository_id"]

#: The label of the domain that a new repository has.
FIRST_DOMAIN = "main"


class Repository:
    """An open repository. `access` holds the keys it was opened with, `log` is the owner's log, verified.

    `domains` are those that the access reaches, oldest first.
    """

    def __init__(self, sink: Sink, config: RepositoryConfig, access: Access, log: OwnerLog) -> None:
        self.sink = sink
        self.config = config
        self.access = access
        self.log = log
        self.domains: tuple[Domain, ...] = ()
        #: While it is being created, what it has put so far.
        self._made: list[str] = []
        self._creating = False
        self._find_domains()

    @property
    def id(self) -> bytes:
        """The repository's identifier, 16 bytes."""
        return self.config.repository

    @property
    def domain(self) -> Domain:
        """Where this access stores backups: a writer's domain, for the owner the first. Raises `RoleForbids`."""
        self.access.require_writer()
        return self.domains[0]

    @classmethod
    def create(
        cls,
        sink: Sink,
        *,
        passphrase: Secret | None,
        chunker: ChunkerParameters | None = None,
        cost: PassphraseCost | None = None,
    ) -> "Repository":
        """Create a repository with one domain in an empty place, and open it as its owner.

        penstock.json is written last: without it, no repository exists. Without a passphrase, the owner's access must
        be saved as a key file, or everything is lost. Raises `RepositoryExists` if the place is not empty, and
        `SinkError` if it does not give back what it is given; after any `SinkError` nothing of it is left where the
        sink can delete.
        """
        if next(iter(sink.list()), None) is not None:
            what = "a repository" if _has_config(sink) else "objects"
            raise RepositoryExists(f"{sink.location} already holds {what}", hint="Choose another place, or empty it.")
        secret = OwnerSecret(SigningKey.generate(), DecapsulationKey.generate(), new_secret())
        config = RepositoryConfig(new_id(), now(), secret.public)
        document = encode_document(layout.CONFIG, config.to_json(), secret.signing)
        access = Access.of_owner(secret, config.repository)
        log = OwnerLog(secret.public.signing, blake3(document).digest())
        repository = cls(sink, config, access, log)
        with repository._undone_by_a_refusal():
            if passphrase is not None:
                repository.add_slot(passphrase, "first passphrase", cost)
            repository.add_domain(FIRST_DOMAIN, chunker)
            repository._put(layout.CONFIG, document)
        return repository

    @classmethod
    def open(cls, sink: Sink, unlock: Access | Secret) -> "Repository":
        """Open with a key or with a passphrase.

        Raises `RepositoryMissing`, `UnsupportedFormat`, `DamagedObject`, `MissingObject` (a gap in the owner's log),
        `WrongKey` (another repository's key, or a revoked one), `WrongPassphrase`, `KeyMissing` (no slot at all).
        """
        data, document, config = _read_config(sink)
        root = blake3(data).digest()
        if isinstance(unlock, Access):
            _require_same(sink, unlock, config)
            try:
                document.verified(unlock.owner.signing)
            except Malformed as error:
                raise DamagedObject(layout.CONFIG, f"{error}; may be forged") from None
            log = read_log(sink, unlock.owner.signing, root)
            log.require_active(unlock.key, unlock.role)
            return cls._checked(sink, config, unlock, log)
        # The log is read with the key that penstock.json claims: slots that it does not grant are not even tried.
        log = read_log(sink, config.owner.signing, root)
        secret = _open_slots(sink, config, log, unlock)
        if secret.public != config.owner:
            raise DamagedObject(layout.CONFIG, "its owner is not the one that the passphrase opens; may be forged")
        return cls._checked(sink, config, Access.of_owner(secret, config.repository), log)

    @classmethod
    def _checked(cls, sink: Sink, config: RepositoryConfig, access: Access, log: OwnerLog) -> "Repository":
        """Readers would take anything signed or sealed with other keys than the published ones for damage."""
        roles = (Role.WRITER, Role.MAINTAINER)
        if access.signing.public != log.signer(access.key, roles):
            raise WrongKey("the key file is damaged: its signing key is not the one that the owner granted")
        if access.recipient is not None and access.recipient.public != config.owner.recipient:
            raise WrongKey("the key file is damaged: its private key is not that of the repository's owner")
        repository = cls(sink, config, access, log)
        for domain in repository.domains:
            keys, made = domain.keys, domain.made
            if keys.layout_proof != made.layout_proof or (keys.secret and keys.domain_proof != made.domain_proof):
                raise WrongKey("the key file is damaged: its secrets are not those of the repository")
        if access.role is Role.WRITER and not repository.domains:
            raise WrongKey("the owner of this repository never made the domain of this key")
        return repository

    def _find_domains(self) -> None:
        found = ((made, self.access.domain(made.domain)) for made in self.log.domains.values())
        self.domains = tuple(Domain(self.sink, self.access, self.log, made, keys) for made, keys in found if keys)

    def add_domain(self, label: str, chunker: ChunkerParameters | None = None) -> Domain:
        """Make a domain, for the owner alone. Raises `RoleForbids`."""
        root = self.access.root
        parameters = chunker or ChunkerParameters()
        domain = even_domain(root, parameters)
        keys = root.domain(domain)
        self.append(MadeDomain(domain, label, parameters, keys.layout_proof, keys.domain_proof))
        return self.domains[-1]

    def add_slot(self, passphrase: Secret, label: str, cost: PassphraseCost | None = None) -> bytes:
        """Add a passphrase that opens the repository as its owner; returns the slot's id."""
        owner = self.access.owner_secret
        slot = new_id()
        key = layout.slot_key(slot)
        content = seal_slot(owner, _as_text(passphrase), cost or PassphraseCost(), self.id, slot)
        # The slot comes first: a grant promises that it exists.
        self._put(key, encode_document(key, content, owner.signing))
        self.append(Granted(slot, Role.SLOT, label))
        return slot

    def append(self, content: Content) -> None:
        """Append an entry to the owner's log. Raises `RoleForbids` for any other role."""
        self.access.require_owner("granting and revoking keys")
        entry = self.log.next(now(), content)
        key = layout.grant_key(new_id())
        document = encode_document(key, entry.to_json(), self.access.signing)
        self._put(key, document)
        self.log.take([(key, entry, blake3(document).digest())])
        self._find_domains()

    @contextmanager
    def _undone_by_a_refusal(self) -> Iterator[None]:
        """While it is being created: what is put is read back, and deleted again if the sink fails."""
        self._creating = True
        try:
            yield
        except SinkError:
            with suppress(SinkError):
                self.sink.delete_many(reversed(self._made))
            raise
        finally:
            self._creating = False
            self._made.clear()

    def _put(self, key: str, data: bytes) -> None:
        if not self._creating:
            put_new(self.sink, key, data)
            return
        self._made.append(key)
        try:
            put_new(self.sink, key, data)
        except ObjectExists:
            self._made.remove(key)  # not ours
            raise
        # Before anybody relies on it: a store that keeps something else would say so when it is too late.
        if self.sink.get(key, start=0, length=len(data) + 1) != data:
            raise SinkError(
                key,
                "the store does not give back what it was given",
                hint="Check the sink's settings, an endpoint above all: whatever answers there keeps other bytes.",
            )


def put_new(sink: Sink, key: str, data: bytes) -> None:
    """Put an object whose key nobody else can know; raises `ObjectExists` where the sink can tell."""
    sink.put(key, data, if_absent=Capability.CONDITIONAL_PUT in sink.capabilities())


def _has_config(sink: Sink) -> bool:
    try:
        sink.stat(layout.CONFIG)
    except ObjectMissing:
        return False
    return True


def repository_id(sink: Sink) -> bytes:
    """The repository's id as penstock.json claims it: not verified, good only for finding a key."""
    return _read_config(sink)[2].repository


def _require_same(sink: Sink, access: Access, config: RepositoryConfig) -> None:
    if access.repository != config.repository:
        raise WrongKey(
            f"the key belongs to another repository ({access.repository.hex()[:8]}) "
            f"than {sink.location} ({config.repository.hex()[:8]})",
            hint="Use this repository's own key file, or leave --key out to use the one of this host.",
        )


def _as_text(passphrase: Secret) -> str:
    """The passphrase; refused if its bytes were not UTF-8, since nobody could type it again."""
    text = passphrase.reveal()
    if not text.isascii() and text != text.encode(errors="replace").decode():
        raise WrongPassphrase("the passphrase is not valid UTF-8", hint="Check where it is read from.")
    return text


def _read_config(sink: Sink) -> tuple[bytes, Document, RepositoryConfig]:
    try:
        data = fetch(sink, layout.CONFIG)
        document = decode_document(layout.CONFIG, data)
        version = integer(document.claimed, "format")
        if version != FORMAT_VERSION:
            raise UnsupportedFormat(
                f"{sink.location} has format {version} according to {layout.CONFIG}; "
                f"this Penstock reads format {FORMAT_VERSION}",
                hint="Update Penstock.",
            )
        config = RepositoryConfig.from_json(document.claimed)
        # Trust in that owner comes later; this check keeps damage from looking like another repository's key.
        document.verified(config.owner.signing)
        return data, document, config
    except ObjectMissing:
        if next(iter(sink.list(layout.DOMAINS)), None) is not None:
            raise MissingObject(layout.CONFIG, "gone, although backups are there") from None
        raise RepositoryMissing(f"no repository at {sink.location}", hint="Run penstock init to create one.") from None
    except Malformed as error:
        raise DamagedObject(layout.CONFIG, str(error)) from None


def _open_slots(sink: Sink, config: RepositoryConfig, log: OwnerLog, passphrase: Secret) -> OwnerSecret:
    """The owner's secret, from the first granted slot that opens."""
    text = _as_text(passphrase)
    granted = [grantee.grant.key for grantee in log.active(Role.SLOT)]
    if not granted:
        raise KeyMissing(f"{sink.location} has no passphrase slot", hint="Use the owner's key file.")
    for content, slot in _slots(sink, config, granted[:MOST_SLOTS]):
        with suppress(Malformed):
            return open_slot(content, text, config.repository, slot)
    # A damaged slot is no other error: what is wrong with a slot is nobody's business who can forge one.
    raise WrongPassphrase(
        f"the passphrase opens no slot of {sink.location}",
        hint="Check for typing errors and the keyboard layout; any other passphrase or the owner's key file works too.",
    )


def _slots(sink: Sink, config: RepositoryConfig, slots: list[bytes]) -> Iterator[tuple[dict[str, object], bytes]]:
    for slot in slots:
        key = layout.slot_key(slot)
        with suppress(Malformed, ObjectMissing):
            yield decode_document(key, fetch(sink, key)).verified(config.owner.signing), slot
