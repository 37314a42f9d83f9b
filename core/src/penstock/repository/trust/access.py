"""Access: the role and secrets with which a repository is opened, and the key files that hold them."""

from dataclasses import dataclass, field
from typing import Any

from penstock.api.errors import KeyProblem, RoleForbids
from penstock.format.encoding import Malformed, decode_json, encode_json, id_from_hex, integer, text
from penstock.format.keys import DecapsulationKey, IndexSecret, SigningKey
from penstock.format.trust import OWNER_ID, OwnerPublic, OwnerSecret, Role

__all__ = ["Access"]

_KEY_FILE_VERSION = 1


@dataclass(frozen=True)
class Access:
    """A role in one repository and the secrets behind it; its repr shows none of them.

    `signing` signs what this role writes; `recipient` opens data keys and belongs to the owner alone.
    """

    role: Role
    repository: bytes
    key: bytes
    label: str
    owner: OwnerPublic = field(repr=False)
    index: IndexSecret = field(repr=False)
    signing: SigningKey | None = field(default=None, repr=False)
    recipient: DecapsulationKey | None = field(default=None, repr=False)

    @classmethod
    def of_owner(cls, secret: OwnerSecret, repository: bytes) -> "Access":
        """The owner's access."""
        return cls(
            role=Role.OWNER,
            repository=repository,
            key=OWNER_ID,
            label="owner",
            owner=secret.public,
            index=IndexSecret(secret.index_secret, repository),
            signing=secret.signing,
            recipient=secret.recipient,
        )

    @property
    def owner_secret(self) -> OwnerSecret:
        """The owner's secret; raises `RoleForbids` for any other role."""
        signing, recipient = self.require_owner("the owner's secret")
        return OwnerSecret(signing, recipient, self.index.secret)

    def require_owner(self, what: str) -> tuple[SigningKey, DecapsulationKey]:
        """The owner's private keys; raises `RoleForbids`, saying that `what` needs them."""
        if self.role is not Role.OWNER or self.signing is None or self.recipient is None:
            raise RoleForbids(f"{what} needs the owner's key or the passphrase; the key at hand is a {self.role} key")
        return self.signing, self.recipient

    def require_writer(self) -> SigningKey:
        """The key that signs snapshots; raises `RoleForbids` for a maintainer."""
        if self.signing is None:
            raise RoleForbids(f"a backup needs a writer key; the key at hand is a {self.role} key")
        return self.signing

    def to_key_file(self) -> bytes:
        """The content of a key file: one line of JSON. Secret: store it with mode 0600."""
        return encode_json(self._content()) + b"\n"

    def _content(self) -> dict[str, Any]:
        return {
            "ed25519": self.signing.seed.hex() if self.signing else None,
            "index_secret": self.index.secret.hex(),
            "key": self.key.hex(),
            "label": self.label,
            "owner": self.owner.to_json(),
            "penstock_key": _KEY_FILE_VERSION,
            "recipient": self.recipient.to_json() if self.recipient else None,
            "repository": self.repository.hex(),
            "role": self.role.value,
        }

    @classmethod
    def from_key_file(cls, data: bytes, origin: str) -> "Access":
        """Parse a key file; raises `KeyProblem`, which names `origin` and quotes no content."""
        try:
            content = decode_json(data.strip())
            version = integer(content, "penstock_key")
            if version > _KEY_FILE_VERSION:
                raise KeyProblem(f"{origin} was written by a later version of Penstock", hint="Update Penstock.")
            if version < _KEY_FILE_VERSION:
                raise Malformed(f"unknown version {version}")
            role = _role(text(content, "role"))
            signing, recipient = content.get("ed25519"), content.get("recipient")
            signs, opens = role is not Role.MAINTAINER, role is Role.OWNER
            if role is Role.SLOT or (signing is not None) != signs or (recipient is not None) != opens:
                raise Malformed(f"its content does not match the role {role}")
            repository = id_from_hex(content.get("repository"))
            found = cls(
                role=role,
                repository=repository,
                key=id_from_hex(content.get("key")),
                label=text(content, "label"),
                owner=OwnerPublic.from_json(content.get("owner")),
                index=IndexSecret(SigningKey.from_hex(content.get("index_secret")).seed, repository),
                signing=None if signing is None else SigningKey.from_hex(signing),
                recipient=None if recipient is None else DecapsulationKey.from_json(recipient),
            )
            # Missing entries are null. Anything unknown is damage: it may once have been a known entry.
            if {**dict.fromkeys(found._content()), **content} != found._content():
                raise Malformed("it holds unknown entries")
            return found
        except Malformed as error:
            raise KeyProblem(f"{origin} is not a Penstock key file: {error}") from None


def _role(word: str) -> Role:
    try:
        return Role(word)
    except ValueError:
        raise Malformed("unknown role") from None
