"""Keys: those derived from the index secret, the owner's key pairs, data keys wrapped for recipients, passphrases.

HKDF is RFC 5869, HPKE RFC 9180 with the hybrid KEM MLKEM768-X25519 (draft-ietf-hpke-pq), signatures are Ed25519
(RFC 8032), passphrases go through Argon2id (RFC 9106). All implementations come from `cryptography`.
"""

import os
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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

from penstock.format.encoding import Malformed, id_from_hex, integer

__all__ = [
    "SECRET_BYTES",
    "DecapsulationKey",
    "EncapsulationKey",
    "IndexSecret",
    "PassphraseCost",
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
_MAX_ARGON2_KIB = 4 * 1024 * 1024

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


@dataclass(frozen=True)
class IndexSecret:
    """The secret that all roles share: enough to find and list backups, not to read one."""

    secret: bytes = field(repr=False)
    repository: bytes

    def _derive(self, purpose: str, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, self.repository, f"penstock/1 {purpose}".encode()).derive(self.secret)

    @cached_property
    def index_key(self) -> bytes:
        """Seals directories, index objects, catalogue entries and tombstones."""
        return self._derive("index key", 32)

    @cached_property
    def id_key(self) -> bytes:
        """The BLAKE3 key of chunk ids."""
        return self._derive("chunk id key", 32)

    @cached_property
    def proof(self) -> bytes:
        """Its proof in penstock.json: distinguishes a damaged secret from the real one and reveals nothing else."""
        return self._derive("index secret proof", 16)

    @cached_property
    def chunker_seed(self) -> int:
        """The chunker's seed: 63 bits, as pyfastcdc expects; never 0, which it takes as "no seed"."""
        return int.from_bytes(self._derive("chunker seed", 8), "little") >> 1 | 1


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

    def hpke(self) -> MLKEM768X25519PrivateKey:
        """Convert to `cryptography`'s type."""
        return MLKEM768X25519PrivateKey(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(self.mlkem768),
            x25519.X25519PrivateKey.from_private_bytes(self.x25519),
        )


def _wrap_info(repository: bytes, session: bytes, recipient: bytes) -> bytes:
    return b"".join((b"penstock/1 data key\0", repository, session, recipient))


def wrap_data_key(
    data_key: bytes, public: EncapsulationKey, *, repository: bytes, session: bytes, recipient: bytes
) -> bytes:
    """`data_key` wrapped for one recipient of one session: the KEM's encapsulation, then the sealed key.

    Raises `Malformed` if `public` is not a valid public key, such as a point of small order on Curve25519.
    """
    try:
        return _SUITE.encrypt(data_key, public.hpke(), _wrap_info(repository, session, recipient))
    except ValueError:
        raise Malformed("invalid public key") from None


def unwrap_data_key(
    wrapped: bytes, private: DecapsulationKey, *, repository: bytes, session: bytes, recipient: bytes
) -> bytes:
    """Reverse `wrap_data_key`; raises `Malformed` if changed, or meant for another key, session or recipient."""
    try:
        return _SUITE.decrypt(wrapped, private.hpke(), _wrap_info(repository, session, recipient))
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
        """Cost and salt; also raises `Malformed` for a cost that no honest writer would choose."""
        if not isinstance(value, dict) or value.get("name") != "argon2id":
            raise Malformed("unknown passphrase function")
        cost = cls(integer(value, "iterations"), integer(value, "memory_kib"), integer(value, "lanes"))
        lanes = 0 < cost.lanes <= 64
        if not (lanes and 0 < cost.iterations <= 100 and 8 * cost.lanes <= cost.memory_kib <= _MAX_ARGON2_KIB):
            raise Malformed("passphrase parameters are out of range")
        return cost, id_from_hex(value.get("salt"))

    def derive(self, passphrase: str, salt: bytes) -> bytes:
        """Derive the 32-byte key from a passphrase, normalized to Unicode NFC: keyboards differ."""
        return Argon2id(
            salt=salt, length=32, iterations=self.iterations, lanes=self.lanes, memory_cost=self.memory_kib
        ).derive(unicodedata.normalize("NFC", passphrase).encode())
