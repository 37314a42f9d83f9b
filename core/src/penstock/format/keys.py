"""Keys: the tree of secrets, the owner's key pairs, data keys wrapped for the owner, and passphrases.

HKDF is RFC 5869, HPKE RFC 9180 with the hybrid KEM MLKEM768-X25519 (draft-ietf-hpke-pq), signatures are Ed25519
(RFC 8032), passphrases go through Argon2id (RFC 9106). All implementations come from `cryptography`.
"""

import os
import unicodedata
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from penstock.format.encoding import ID_BYTES, Malformed, id_from_hex, integer
from penstock.format.sealing import message

__all__ = [
    "SECRET_BYTES",
    "DecapsulationKey",
    "DomainKeys",
    "EncapsulationKey",
    "MaintenanceSecret",
    "PassphraseCost",
    "RootSecret",
    "SigningKey",
    "VerifyingKey",
    "new_secret",
    "unwrap_data_key",
    "wrap_data_key",
]

SECRET_BYTES = 32
_X25519_BYTES = 32
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
#: Bounds on the cost of a passphrase: OWASP's least, and a minute on a small machine.
_LEAST_KIB = 19 * 1024
_MOST_KIB = 1024 * 1024
_MOST_PASSES = 10

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def new_secret() -> bytes:
    """32 fresh random bytes."""
    return os.urandom(SECRET_BYTES)


def _unhex(value: Any, length: int) -> bytes:
    try:
        data = bytes.fromhex(value)
    except (TypeError, ValueError):
        raise Malformed("a key is not hexadecimal") from None
    if len(data) != length or data.hex() != value:
        raise Malformed("a key has the wrong length")
    return data


def _derive(secret: bytes, repository: bytes, purpose: str, domain: bytes = b"", length: int = SECRET_BYTES) -> bytes:
    info = b"".join((b"penstock/1 ", purpose.encode(), b"\0", domain))
    return HKDF(hashes.SHA256(), length, repository, info).derive(secret)


@dataclass(frozen=True)
class DomainKeys:
    """What a role holds of one domain: the layout key, and, unless it is a maintainer, the domain's secret.

    With the layout key, backups can be listed, checked for damage and pruned. With the secret, chunks can be hashed,
    and so deduplicated. Neither opens a backup.
    """

    repository: bytes
    domain: bytes
    layout_key: bytes = field(repr=False)
    secret: bytes | None = field(default=None, repr=False)

    @property
    def scope(self) -> bytes:
        """What binds sealed and signed bytes to this domain: the repository's id and the domain's."""
        return self.repository + self.domain

    @cached_property
    def layout_proof(self) -> bytes:
        """Its proof in the owner's log: tells a damaged key from the real one, and reveals nothing else."""
        return _derive(self.layout_key, self.repository, "layout proof", self.domain, ID_BYTES)

    @cached_property
    def domain_proof(self) -> bytes:
        """As `layout_proof`, of the secret."""
        return self._from_secret("domain proof", ID_BYTES)

    def tag(self, text: str) -> bytes:
        """16 bytes for a name, by which a host finds it again in its own cache without keeping it there."""
        key = _derive(self.layout_key, self.repository, "local tags", self.domain)
        return blake3(text.encode(), key=key).digest(ID_BYTES)

    @cached_property
    def chunk_key(self) -> bytes:
        """The BLAKE3 key of chunk ids."""
        return self._from_secret("chunk id key")

    @cached_property
    def id_key(self) -> bytes:
        """Seals chunk ids and hooks."""
        return self._from_secret("id key")

    @cached_property
    def chunker_seed(self) -> int:
        """The chunker's seed: 63 bits, as pyfastcdc expects; never 0, which it takes as "no seed"."""
        return int.from_bytes(self._from_secret("chunker seed", 8), "little") >> 1 | 1

    def _from_secret(self, purpose: str, length: int = SECRET_BYTES) -> bytes:
        if self.secret is None:
            raise ValueError("a maintainer cannot hash chunks")
        return _derive(self.secret, self.repository, purpose, self.domain, length)


@dataclass(frozen=True)
class MaintenanceSecret:
    """The maintainer's branch of the tree: the layout key of every domain."""

    secret: bytes = field(repr=False)
    repository: bytes

    def domain(self, domain: bytes) -> DomainKeys:
        """A domain's keys, without its secret."""
        return DomainKeys(self.repository, domain, _derive(self.secret, self.repository, "layout key", domain))


@dataclass(frozen=True)
class RootSecret:
    """The root of the tree of secrets, which the owner alone holds."""

    secret: bytes = field(repr=False)
    repository: bytes

    @cached_property
    def maintenance(self) -> MaintenanceSecret:
        """The maintainer's branch."""
        return MaintenanceSecret(_derive(self.secret, self.repository, "maintenance secret"), self.repository)

    def domain(self, domain: bytes) -> DomainKeys:
        """All keys of a domain: the writer's branch."""
        secret = _derive(self.secret, self.repository, "domain secret", domain)
        return replace(self.maintenance.domain(domain), secret=secret)


@dataclass(frozen=True)
class VerifyingKey:
    """An Ed25519 public key."""

    raw: bytes

    @classmethod
    def from_hex(cls, value: Any) -> "VerifyingKey":
        """Raises `Malformed`."""
        return cls(_unhex(value, 32))

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's signature over `message`."""
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 private key."""

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new random key."""
        return cls(new_secret())

    @classmethod
    def from_hex(cls, value: Any) -> "SigningKey":
        """Raises `Malformed`."""
        return cls(_unhex(value, SECRET_BYTES))

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return ed25519.Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)

    def own_key(self, scope: bytes) -> bytes:
        """A key that nobody but its holder knows, for what it hands to itself in another process. Never stored."""
        return _derive(self.seed, scope, "own key")

    @cached_property
    def public(self) -> VerifyingKey:
        """Its public half."""
        private = ed25519.Ed25519PrivateKey.from_private_bytes(self.seed)
        return VerifyingKey(private.public_key().public_bytes_raw())


@dataclass(frozen=True)
class EncapsulationKey:
    """The public half of a recipient: ML-KEM-768 and X25519."""

    mlkem768: bytes
    x25519: bytes

    def to_json(self) -> dict[str, str]:
        """The form stored in documents."""
        return {"mlkem768": self.mlkem768.hex(), "x25519": self.x25519.hex()}

    @classmethod
    def from_json(cls, value: Any) -> "EncapsulationKey":
        """Raises `Malformed`."""
        if not isinstance(value, dict):
            raise Malformed("a public key is missing")
        return cls(_unhex(value.get("mlkem768"), _MLKEM_PUBLIC_BYTES), _unhex(value.get("x25519"), _X25519_BYTES))

    def hpke(self) -> MLKEM768X25519PublicKey:
        """Convert to `cryptography`'s type; raises `Malformed`."""
        try:
            return MLKEM768X25519PublicKey(
                mlkem.MLKEM768PublicKey.from_public_bytes(self.mlkem768),
                x25519.X25519PublicKey.from_public_bytes(self.x25519),
            )
        except ValueError:
            raise Malformed("invalid public key") from None


@dataclass(frozen=True)
class DecapsulationKey:
    """The private half of a recipient: the ML-KEM-768 seed (d ‖ z of FIPS 203) and the X25519 scalar."""

    mlkem768: bytes = field(repr=False)
    x25519: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> "DecapsulationKey":
        """A new random key."""
        return cls(os.urandom(_MLKEM_SEED_BYTES), os.urandom(_X25519_BYTES))

    def to_json(self) -> dict[str, str]:
        """The form stored in key files and, sealed, in slots: secret."""
        return {"mlkem768": self.mlkem768.hex(), "x25519": self.x25519.hex()}

    @classmethod
    def from_json(cls, value: Any) -> "DecapsulationKey":
        """Raises `Malformed`."""
        if not isinstance(value, dict):
            raise Malformed("a private key is missing")
        return cls(_unhex(value.get("mlkem768"), _MLKEM_SEED_BYTES), _unhex(value.get("x25519"), _X25519_BYTES))

    @cached_property
    def public(self) -> EncapsulationKey:
        """Its public half."""
        return EncapsulationKey(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(self.mlkem768).public_key().public_bytes_raw(),
            x25519.X25519PrivateKey.from_private_bytes(self.x25519).public_key().public_bytes_raw(),
        )

    @cached_property
    def hpke(self) -> MLKEM768X25519PrivateKey:
        """The same as `cryptography`'s type; made once, for a restore unwraps a data key of each of many nights."""
        return MLKEM768X25519PrivateKey(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(self.mlkem768),
            x25519.X25519PrivateKey.from_private_bytes(self.x25519),
        )


def wrap_data_key(data_key: bytes, public: EncapsulationKey, scope: bytes, session: bytes) -> bytes:
    """`data_key` wrapped for the owner, as that of one session: the KEM's encapsulation, then the sealed key.

    Raises `Malformed` if `public` is not a valid public key, such as a point of small order on Curve25519.
    """
    try:
        return _SUITE.encrypt(data_key, public.hpke(), message("data key", scope, session))
    except ValueError:
        raise Malformed("invalid public key") from None


def unwrap_data_key(wrapped: bytes, private: DecapsulationKey, scope: bytes, session: bytes) -> bytes:
    """Reverse `wrap_data_key`; raises `Malformed` if changed, or meant for another key or session."""
    try:
        return _SUITE.decrypt(wrapped, private.hpke, message("data key", scope, session))
    except (InvalidTag, ValueError):
        raise Malformed("the data key cannot be unwrapped: changed, or wrapped for another key") from None


@dataclass(frozen=True)
class PassphraseCost:
    """The cost of Argon2id: the second recommended option of RFC 9106, section 4 (64 MiB, three passes, four lanes)."""

    iterations: int = 3
    memory_kib: int = 65536
    lanes: int = 4

    def to_json(self, salt: bytes) -> dict[str, Any]:
        """The form stored in a slot."""
        return {
            "iterations": self.iterations,
            "lanes": self.lanes,
            "memory_kib": self.memory_kib,
            "name": "argon2id",
            "salt": salt.hex(),
        }

    @classmethod
    def from_json(cls, value: Any) -> tuple["PassphraseCost", bytes]:
        """Cost and salt; raises `Malformed`, also for a cost that nobody honest chooses: too cheap, or endless."""
        if not isinstance(value, dict) or value.get("name") != "argon2id":
            raise Malformed("unknown passphrase function")
        cost = cls(integer(value, "iterations"), integer(value, "memory_kib"), integer(value, "lanes"))
        lanes, passes, memory = cost.lanes, cost.iterations, cost.memory_kib
        if not (1 <= lanes <= 16 and 2 <= passes <= _MOST_PASSES and _LEAST_KIB <= memory <= _MOST_KIB):
            raise Malformed("passphrase parameters are out of range")
        return cost, id_from_hex(value.get("salt"))

    def derive(self, passphrase: str, salt: bytes) -> tuple[bytes, bytes]:
        """A key (32 bytes) and a commitment to it (32), from a passphrase normalized to Unicode NFC: keyboards differ.

        AES-GCM alone does not commit to its key: a slot could be made that opens under several passphrases.
        """
        secret = Argon2id(
            salt=salt, length=32, iterations=self.iterations, lanes=self.lanes, memory_cost=self.memory_kib
        ).derive(unicodedata.normalize("NFC", passphrase).encode())
        return _derive(secret, salt, "slot key"), _derive(secret, salt, "slot commitment")
