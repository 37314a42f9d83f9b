"""Signed documents: penstock.json, grants, slots and sessions.

A document is two lines of canonical JSON: the content, then `{"signature":"…"}`. The Ed25519 signature covers
`penstock/1 document ‖ 0 ‖ the object's key ‖ 0 ‖ the first line`, so a document is valid only under its own key.
"""

import re
from collections.abc import Mapping
from typing import Any

from penstock.format.encoding import Malformed, decode_json, encode_json
from penstock.format.keys import SigningKey, VerifyingKey

__all__ = ["Document", "decode_document", "encode_document"]

_SIGNATURE = re.compile("[0-9a-f]{128}")


class Document:
    """A parsed document, signature not yet verified: only `verified` returns content that can be trusted."""

    def __init__(self, key: str, content: dict[str, Any], line: bytes, signature: bytes) -> None:
        self.claimed = content
        self._message = _message(key, line)
        self._signature = signature

    def verified(self, by: VerifyingKey) -> dict[str, Any]:
        """The content; raises `Malformed` unless `by` signed it for this object."""
        if not by.verify(self._signature, self._message):
            raise Malformed("invalid signature")
        return self.claimed


def _message(key: str, line: bytes) -> bytes:
    return b"".join((b"penstock/1 document\0", key.encode(), b"\0", line))


def encode_document(key: str, content: Mapping[str, Any], signer: SigningKey) -> bytes:
    """The bytes of the object `key`."""
    line = encode_json(content)
    signature = signer.sign(_message(key, line)).hex()
    return line + b"\n" + encode_json({"signature": signature}) + b"\n"


def decode_document(key: str, data: bytes) -> Document:
    """Parse the bytes of the object `key`; raises `Malformed`."""
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[2]:
        raise Malformed("not a document of two lines")
    outer = decode_json(lines[1])
    signature = outer.get("signature")
    if list(outer) != ["signature"] or not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise Malformed("its second line is not a signature of 128 hexadecimal digits")
    raw = bytes.fromhex(signature)
    return Document(key, decode_json(lines[0]), lines[0], raw)
