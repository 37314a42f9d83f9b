"""Slots: the owner's secrets under a passphrase. All have one length, and commit to their key."""

import os
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any

from penstock.format.encoding import Malformed, digest_from_hex, text
from penstock.format.keys import DecapsulationKey, PassphraseCost, SigningKey
from penstock.format.sealing import OVERHEAD, Sealer, message
from penstock.format.trust import OwnerSecret

__all__ = ["MOST_SLOTS", "open_slot", "seal_slot"]

#: Slots that a reader tries: a stranger's would cost it half a second each.
MOST_SLOTS = 64
#: Ed25519 seed, root secret, ML-KEM seed, X25519 scalar.
_LENGTHS = (32, 32, 64, 32)


def seal_slot(
    owner: OwnerSecret, passphrase: str, cost: PassphraseCost, repository: bytes, slot: bytes
) -> dict[str, Any]:
    """The content of slots/<id>."""
    salt = os.urandom(16)
    key, commitment = cost.derive(passphrase, salt)
    plain = b"".join((owner.signing.seed, owner.root, owner.recipient.mlkem768, owner.recipient.x25519))
    sealed = Sealer(key).seal(plain, message("slot", repository, slot))
    return {
        "commitment": commitment.hex(),
        "kdf": cost.to_json(salt),
        "sealed": sealed.hex(),
        "slot": slot.hex(),
    }


def open_slot(content: Mapping[str, Any], passphrase: str, repository: bytes, slot: bytes) -> OwnerSecret:
    """The owner's secret; raises `Malformed` if the passphrase does not open the slot, and for a damaged slot.

    Nobody is told which of the two it was: the answer would be an oracle for whoever forges slots.
    """
    try:
        return _open(content, passphrase, repository, slot)
    except Malformed:
        raise Malformed("the passphrase does not open the slot") from None


def _open(content: Mapping[str, Any], passphrase: str, repository: bytes, slot: bytes) -> OwnerSecret:
    cost, salt = PassphraseCost.from_json(content.get("kdf"))
    commitment = digest_from_hex(content.get("commitment"))
    try:
        sealed = bytes.fromhex(text(content, "sealed"))
    except ValueError:
        raise Malformed("the slot is not hexadecimal") from None
    if len(sealed) != sum(_LENGTHS) + OVERHEAD or sealed.hex() != content["sealed"]:
        raise Malformed("the slot has the wrong length")
    key, expected = cost.derive(passphrase, salt)
    if not compare_digest(commitment, expected):
        raise Malformed("the passphrase does not open the slot")
    plain = Sealer(key).open(sealed, message("slot", repository, slot))
    fields = []
    for length in _LENGTHS:
        fields.append(plain[:length])
        plain = plain[length:]
    seed, root, mlkem768, x25519 = fields
    return OwnerSecret(SigningKey(seed), DecapsulationKey(mlkem768, x25519), root)
