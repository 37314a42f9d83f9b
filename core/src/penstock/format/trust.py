"""What the owner signs (the repository's configuration and the log of grants), and the content of slots and sessions.

All trust starts at the owner's public keys, which every key file carries: nothing in the bucket vouches for itself.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from blake3 import blake3

from penstock.format.chunker import ChunkerParameters
from penstock.format.codec import RAW
from penstock.format.encoding import Malformed, decode_json, encode_json, id_from_hex, integer, text
from penstock.format.keys import (
    DecapsulationKey,
    EncapsulationKey,
    PassphraseCost,
    SigningKey,
    VerifyingKey,
    unwrap_data_key,
    wrap_data_key,
)
from penstock.format.sealing import Sealer, binding

__all__ = [
    "FORMAT_VERSION",
    "OWNER_ID",
    "Grant",
    "OwnerPublic",
    "OwnerSecret",
    "RepositoryConfig",
    "Role",
    "SessionDocument",
    "digest_of",
    "open_slot",
    "seal_slot",
]

FORMAT_VERSION = 1
#: The id of the owner as writer and as recipient.
OWNER_ID = bytes(16)


class Role(StrEnum):
    """What a key is for. A slot is the owner's key under a passphrase."""

    OWNER = "owner"
    WRITER = "writer"
    MAINTAINER = "maintainer"
    SLOT = "slot"


def digest_of(data: bytes) -> str:
    """BLAKE3-256 of an object, in hexadecimal, by which documents pin other objects."""
    return blake3(data).hexdigest()


@dataclass(frozen=True, slots=True)
class OwnerPublic:
    """The owner's public keys: where all trust starts."""

    signing: VerifyingKey
    recipient: EncapsulationKey

    def to_json(self) -> dict[str, str]:
        """The form stored in penstock.json and in key files."""
        return {"ed25519": self.signing.raw.hex(), **self.recipient.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> "OwnerPublic":
        """Raises `Malformed`."""
        if not isinstance(value, dict):
            raise Malformed("the owner's public keys are missing")
        return cls(VerifyingKey.from_hex(value.get("ed25519")), EncapsulationKey.from_json(value))


@dataclass(frozen=True, slots=True)
class OwnerSecret:
    """The owner's private keys and the index secret: they give access to everything."""

    signing: SigningKey
    recipient: DecapsulationKey
    index_secret: bytes = field(repr=False)

    @property
    def public(self) -> OwnerPublic:
        """The public halves."""
        return OwnerPublic(self.signing.public, self.recipient.public)

    def to_json(self) -> dict[str, Any]:
        """The form stored in the owner's key file and, sealed, in a slot."""
        return {
            "ed25519": self.signing.seed.hex(),
            "index_secret": self.index_secret.hex(),
            "recipient": self.recipient.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "OwnerSecret":
        """Raises `Malformed`."""
        return cls(
            SigningKey.from_hex(value.get("ed25519")),
            DecapsulationKey.from_json(value.get("recipient")),
            SigningKey.from_hex(value.get("index_secret")).seed,
        )


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """penstock.json."""

    repository: bytes
    created: str
    chunker: ChunkerParameters
    owner: OwnerPublic
    #: `IndexSecret.proof` of the repository's index secret.
    index_proof: bytes

    def to_json(self) -> dict[str, Any]:
        """The document's content."""
        return {
            "chunker": self.chunker.to_json(),
            "created": self.created,
            "format": FORMAT_VERSION,
            "index_proof": self.index_proof.hex(),
            "owner": self.owner.to_json(),
            "repository": self.repository.hex(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RepositoryConfig":
        """Raises `Malformed`; the caller has already checked `format`."""
        return cls(
            repository=id_from_hex(value.get("repository")),
            created=text(value, "created"),
            chunker=ChunkerParameters.from_json(value.get("chunker")),
            owner=OwnerPublic.from_json(value.get("owner")),
            index_proof=id_from_hex(value.get("index_proof")),
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of the owner's log: grants a role to a key, or revokes that grant.

    `previous` is the digest of the previous entry (for the first, of penstock.json), so none can be removed from the
    middle. The revocation of a writer pins the snapshots it had signed by then, {snapshot id: digest of the object}:
    any other snapshot with its signature is refused from then on, whatever date it claims.
    """

    number: int
    previous: str
    revoked: bool
    role: Role
    key: bytes
    label: str
    created: str
    signing: VerifyingKey | None = None
    snapshots: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document's content."""
        return {
            "action": "revoke" if self.revoked else "grant",
            "created": self.created,
            "ed25519": self.signing.raw.hex() if self.signing else None,
            "key": self.key.hex(),
            "label": self.label,
            "number": self.number,
            "previous": self.previous,
            "role": self.role.value,
            "snapshots": dict(self.snapshots),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Grant":
        """Raises `Malformed`."""
        action, signing = text(value, "action"), value.get("ed25519")
        snapshots = value.get("snapshots")
        if action not in ("grant", "revoke") or not isinstance(snapshots, dict):
            raise Malformed("unknown kind of grant")
        try:
            role = Role(text(value, "role"))
        except ValueError:
            raise Malformed("unknown role in a grant") from None
        if role is Role.OWNER:
            raise Malformed("the role of owner cannot be granted")
        return cls(
            number=integer(value, "number"),
            previous=text(value, "previous"),
            revoked=action == "revoke",
            role=role,
            key=id_from_hex(value.get("key")),
            label=text(value, "label"),
            created=text(value, "created"),
            signing=None if signing is None else VerifyingKey.from_hex(signing),
            snapshots={name: text(snapshots, name) for name in snapshots},
        )


@dataclass(frozen=True, slots=True)
class SessionDocument:
    """sessions/<id>: one writer's run, and its data key wrapped for every recipient at that time.

    `grants` is the number of the last grant that the writer saw: a shorter log has been truncated.
    """

    session: bytes
    writer: bytes
    started: str
    host: str
    grants: int
    wrapped: Mapping[bytes, bytes] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The document's content."""
        return {
            "data_key": {recipient.hex(): wrapped.hex() for recipient, wrapped in self.wrapped.items()},
            "grants": self.grants,
            "host": self.host,
            "session": self.session.hex(),
            "started": self.started,
            "writer": self.writer.hex(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SessionDocument":
        """Raises `Malformed`."""
        wrapped = value.get("data_key")
        if not isinstance(wrapped, dict):
            raise Malformed("the data key is missing")
        try:
            keys = {id_from_hex(recipient): bytes.fromhex(entry) for recipient, entry in wrapped.items()}
        except (TypeError, ValueError):
            raise Malformed("the wrapped data key is not hexadecimal") from None
        if any(keys[id_from_hex(recipient)].hex() != entry for recipient, entry in wrapped.items()):
            raise Malformed("the wrapped data key is not hexadecimal in lower case")
        return cls(
            session=id_from_hex(value.get("session")),
            writer=id_from_hex(value.get("writer")),
            started=text(value, "started"),
            host=text(value, "host"),
            grants=integer(value, "grants"),
            wrapped=keys,
        )

    @staticmethod
    def wrap(
        data_key: bytes, recipients: Mapping[bytes, EncapsulationKey], repository: bytes, session: bytes
    ) -> dict[bytes, bytes]:
        """The data key, wrapped for each recipient."""
        return {
            name: wrap_data_key(data_key, public, repository=repository, session=session, recipient=name)
            for name, public in recipients.items()
        }

    def unwrap(self, private: DecapsulationKey, recipient: bytes, repository: bytes) -> bytes:
        """The data key; raises `Malformed` if `recipient` was not among the recipients, or the entry was changed."""
        wrapped = self.wrapped.get(recipient)
        if wrapped is None:
            raise Malformed("not wrapped for this key")
        return unwrap_data_key(wrapped, private, repository=repository, session=self.session, recipient=recipient)


def seal_slot(
    owner: OwnerSecret, passphrase: str, cost: PassphraseCost, repository: bytes, slot: bytes
) -> dict[str, Any]:
    """The content of slots/<id>: the owner's secret under a passphrase."""
    salt = os.urandom(16)
    sealer = Sealer(cost.derive(passphrase, salt))
    plain = bytes((RAW,)) + encode_json(owner.to_json())
    sealed = sealer.seal(plain, binding("slot", repository, slot))
    return {"kdf": cost.to_json(salt), "sealed": sealed.hex(), "slot": slot.hex()}


def open_slot(content: Mapping[str, Any], passphrase: str, repository: bytes, slot: bytes) -> OwnerSecret | None:
    """The owner's secret, or None if the passphrase does not open the slot; raises `Malformed` for a damaged slot."""
    cost, salt = PassphraseCost.from_json(content.get("kdf"))
    try:
        sealed = bytes.fromhex(text(content, "sealed"))
    except ValueError:
        raise Malformed("the slot is not hexadecimal") from None
    sealer = Sealer(cost.derive(passphrase, salt))
    try:
        plain = sealer.open(sealed, binding("slot", repository, slot))
    except Malformed:
        return None
    if plain[:1] != bytes((RAW,)):
        raise Malformed("unknown codec in the slot")
    return OwnerSecret.from_json(decode_json(plain[1:]))
