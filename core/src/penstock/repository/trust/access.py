"""Access: the role and secrets with which a repository is opened, and the key files that hold them."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from penstock.api.errors import KeyProblem, RoleForbids
from penstock.format.encoding import Malformed, decode_json, encode_json, id_from_hex, integer, text
from penstock.format.keys import DecapsulationKey, DomainKeys, MaintenanceSecret, RootSecret, SigningKey
from penstock.format.trust import OWNER_ID, OwnerPublic, OwnerSecret, Role

__all__ = ["Access", "Branch"]

_KEY_FILE_VERSION = 1

#: What a role holds of the tree of secrets: the owner, a maintainer, a writer.
Branch: TypeAlias = RootSecret | MaintenanceSecret | DomainKeys


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
    branch: Branch = field(repr=False)
    signing: SigningKey = field(repr=False)
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
            branch=RootSecret(secret.root, repository),
            signing=secret.signing,
            recipient=secret.recipient,
        )

    def domain(self, domain: bytes) -> DomainKeys | None:
        """The keys of a domain; None if this access does not reach it."""
        if isinstance(self.branch, DomainKeys):
            return self.branch if self.branch.domain == domain else None
        return self.branch.domain(domain)

    @property
    def owner_secret(self) -> OwnerSecret:
        """The owner's secret; raises `RoleForbids` for any other role."""
        recipient = self.require_owner("the owner's secret")
        assert isinstance(self.branch, RootSecret)
        return OwnerSecret(self.signing, recipient, self.branch.secret)

    @property
    def root(self) -> RootSecret:
        """The root of the tree of secrets; raises `RoleForbids` for any other role than the owner."""
        return RootSecret(self.owner_secret.root, self.repository)

    def require_owner(self, what: str) -> DecapsulationKey:
        """The owner's key that opens data keys; raises `RoleForbids`, saying that `what` needs it."""
        if self.role is not Role.OWNER or self.recipient is None:
            raise RoleForbids(f"{what} needs the owner's key or the passphrase; the key at hand is a {self.role} key")
        return self.recipient

    def require_keeper(self, what: str) -> None:
        """Raises `RoleForbids`, saying that `what` needs a maintainer or the owner, for a writer."""
        if self.role is Role.WRITER:
            raise RoleForbids(f"{what} needs a maintainer's or the owner's key; the key at hand is a {self.role} key")

    def require_writer(self) -> None:
        """Raises `RoleForbids` for a maintainer."""
        if self.role is Role.MAINTAINER:
            raise RoleForbids(f"a backup needs a writer key; the key at hand is a {self.role} key")

    def to_key_file(self) -> bytes:
        """The content of a key file: one line of JSON. Secret: store it with mode 0600."""
        return encode_json(self.content()) + b"\n"

    def content(self) -> dict[str, Any]:
        """What a key file holds. Secret."""
        return {
            "ed25519": self.signing.seed.hex(),
            "key": self.key.hex(),
            "label": self.label,
            "owner": self.owner.to_json(),
            "penstock_key": _KEY_FILE_VERSION,
            "repository": self.repository.hex(),
            "role": self.role.value,
            "secrets": self._secrets(),
        }

    def _secrets(self) -> dict[str, str]:
        match self.branch:
            case RootSecret():
                assert self.recipient is not None
                return {"root": self.branch.secret.hex(), **self.recipient.to_json()}
            case MaintenanceSecret():
                return {"maintenance": self.branch.secret.hex()}
            case DomainKeys():
                assert self.branch.secret is not None
                return {
                    "domain": self.branch.domain.hex(),
                    "domain_secret": self.branch.secret.hex(),
                    "layout_key": self.branch.layout_key.hex(),
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
            found = cls._parsed(content)
            # Anything unknown is damage: it may once have been a known entry.
            if found.content() != content:
                raise Malformed("it holds unknown entries, or not those of its role")
            return found
        except Malformed as error:
            raise KeyProblem(f"{origin} is not a Penstock key file: {error}") from None

    @classmethod
    def _parsed(cls, content: dict[str, Any]) -> "Access":
        role, secrets = text(content, "role"), content.get("secrets")
        if not isinstance(secrets, dict):
            raise Malformed("it holds no secrets")
        repository = id_from_hex(content.get("repository"))
        branch: Branch
        match role:
            case Role.OWNER:
                branch = RootSecret(_secret(secrets, "root"), repository)
            case Role.MAINTAINER:
                branch = MaintenanceSecret(_secret(secrets, "maintenance"), repository)
            case Role.WRITER:
                domain, layout_key = id_from_hex(secrets.get("domain")), _secret(secrets, "layout_key")
                branch = DomainKeys(repository, domain, layout_key, _secret(secrets, "domain_secret"))
            case _:
                raise Malformed("unknown role")
        return cls(
            role=Role(role),
            repository=repository,
            key=id_from_hex(content.get("key")),
            label=text(content, "label"),
            owner=OwnerPublic.from_json(content.get("owner")),
            branch=branch,
            signing=SigningKey.from_hex(content.get("ed25519")),
            recipient=DecapsulationKey.from_json(secrets) if role == Role.OWNER else None,
        )


def _secret(secrets: dict[str, Any], name: str) -> bytes:
    return SigningKey.from_hex(secrets.get(name)).seed
