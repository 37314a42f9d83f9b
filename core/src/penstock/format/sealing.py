"""Authenticated encryption of everything that is not public: AES-256-GCM (NIST SP 800-38D).

Sealed data is `nonce (12) ‖ ciphertext ‖ tag (16)`. The associated data says what it is and where it belongs, so
nothing sealed can pass for anything else. Nonces are random: one key seals fewer than 2**32 messages, the bound of
SP 800-38D section 8.3 (a session would have to write 4 PiB; a layout key seals a few messages per pack).
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from penstock.format.encoding import Malformed

__all__ = ["OVERHEAD", "Sealer", "message"]

_NONCE_BYTES = 12
_TAG_BYTES = 16
#: Bytes that sealing adds.
OVERHEAD = _NONCE_BYTES + _TAG_BYTES


def message(what: str, scope: bytes, *names: bytes | memoryview) -> bytes:
    """What binds sealed or signed bytes to their place: their kind, the repository and domain (`scope`), names there.

    `what` ends with a zero byte, and all names but the last have fixed lengths: no two places coincide.
    """
    return b"".join((b"penstock/1 ", what.encode(), b"\0", scope, *names))


class Sealer:
    """Seals and opens under one 32-byte key. Thread-safe; its repr does not show the key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, data: bytes | bytearray | memoryview, bound_to: bytes) -> bytes:
        """Encrypt `data` for this place only."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, bound_to)

    def open(self, sealed: bytes | memoryview, bound_to: bytes) -> bytes:
        """Decrypt; raises `Malformed` if changed, truncated, or sealed for another place or under another key."""
        view = memoryview(sealed)
        if len(view) < OVERHEAD:
            raise Malformed("truncated")
        try:
            return self._cipher.decrypt(view[:_NONCE_BYTES], view[_NONCE_BYTES:], bound_to)
        except InvalidTag:
            raise Malformed("cannot be decrypted: changed, or sealed for another place") from None
