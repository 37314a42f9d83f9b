"""Roles, the owner's keys, and penstock.json.

All trust starts at the owner's public keys, which every key file carries: nothing in the bucket vouches for itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from penstock.format.encoding import Malformed, id_from_hex, text
from penstock.format.keys import DecapsulationKey, EncapsulationKey, SigningKey, VerifyingKey

__all__ = ["FORMAT_VERSION", "OWNER_ID", "OwnerPublic", "OwnerSecret", "RepositoryConfig", "Role"]

FORMAT_VERSION = 1
#: The id of the owner as a signer.
OWNER_ID = bytes(16)


class Role(StrEnum):
    """What a key is for. A slot is the owner's key under a passphrase."""

    OWNER = "owner"
    WRITER = "writer"
    MAINTAINER = "maintainer"
    SLOT = "slot"


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
    """The owner's private keys and the root secret: they give access to everything."""

    signing: SigningKey
    recipient: DecapsulationKey
    root: bytes = field(repr=False)

    @property
    def public(self) -> OwnerPublic:
        """The public halves."""
        return OwnerPublic(self.signing.public, self.recipient.public)


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """penstock.json."""

    repository: bytes
    created: str
    owner: OwnerPublic

    def to_json(self) -> dict[str, Any]:
        """The document's content."""
        return {
            "created": self.created,
            "format": FORMAT_VERSION,
            "owner": self.owner.to_json(),
            "repository": self.repository.hex(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RepositoryConfig":
        """Raises `Malformed`; the caller has already checked `format`."""
        return cls(
            repository=id_from_hex(value.get("repository")),
            created=text(value, "created"),
            owner=OwnerPublic.from_json(value.get("owner")),
        )
