"""Small building blocks: identifiers, varints, canonical JSON and records. See docs/format.md, "Building blocks"."""

import json
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

__all__ = [
    "ID_BYTES",
    "Malformed",
    "bytes_from_hex",
    "decode_json",
    "decode_record",
    "decode_varints",
    "digest_from_hex",
    "encode_json",
    "encode_record",
    "encode_varints",
    "id_from_hex",
    "ids_from_hex",
    "integer",
    "little_endian",
    "new_id",
    "text",
    "texts",
    "whole",
]

#: Length in bytes of every identifier: of repositories, sessions, packs, snapshots, index objects and keys.
ID_BYTES = 16

_LENGTH = struct.Struct("<I")


class Malformed(ValueError):
    """Bytes that violate the format. The layer that knows the object's key turns it into `DamagedObject`."""


def new_id() -> bytes:
    """A fresh random identifier."""
    return os.urandom(ID_BYTES)


def little_endian(values: "array[int]") -> bytes:
    """Numbers of two bytes as they are stored."""
    if sys.byteorder == "big":  # pragma: no cover - no such machine in the tests
        values = array("H", values)
        values.byteswap()
    return values.tobytes()


def id_from_hex(text: object) -> bytes:
    """Parse an identifier of 32 lower-case hexadecimal digits; raises `Malformed`."""
    if not isinstance(text, str) or len(text) != 2 * ID_BYTES:
        raise Malformed("not an identifier")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        raise Malformed("not an identifier") from None
    if value.hex() != text:
        raise Malformed("the identifier is not in lower case")
    return value


def ids_from_hex(value: object) -> tuple[bytes, ...]:
    """Parse a list of identifiers; raises `Malformed`."""
    if not isinstance(value, list):
        raise Malformed("not a list of identifiers")
    return tuple(id_from_hex(entry) for entry in value)


def digest_from_hex(value: object) -> bytes:
    """Parse a 32-byte digest of 64 lower-case hexadecimal digits; raises `Malformed`."""
    if not isinstance(value, str) or len(value) != 64:
        raise Malformed("not a digest")
    return id_from_hex(value[:32]) + id_from_hex(value[32:])


def bytes_from_hex(value: object, size: int) -> bytes:
    """Parse so many bytes, of lower-case hexadecimal digits; raises `Malformed`."""
    if isinstance(value, str) and len(value) == 2 * size:
        with suppress(ValueError):
            found = bytes.fromhex(value)
            if found.hex() == value:
                return found
    raise Malformed(f"not {size} bytes")


def encode_json(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no white space, UTF-8.

    Raises `ValueError` for a number that is not an integer from 0 to 2**63 - 1: nobody would read it again.
    """
    data = _canonical(value)
    _parse(data)
    return data


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _parse(data: bytes) -> Any:
    return json.loads(data, parse_int=_number, parse_float=_number, parse_constant=_number)


def _number(digits: str) -> int:
    if not digits.isdigit() or (value := int(digits)) >= 1 << 63:
        raise ValueError("numbers are integers from 0 to 2**63 - 1")
    return value


def decode_json(data: bytes) -> dict[str, Any]:
    """Parse canonical JSON; raises `Malformed` for anything that `encode_json` would have written differently.

    One value has one encoding, so no bit of a stored document can change unnoticed.
    """
    try:
        value = _parse(data)
        canonical = _canonical(value) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        raise Malformed("not valid JSON") from None
    if canonical != data:
        raise Malformed("not a canonical JSON object")
    assert isinstance(value, dict)
    return value


def encode_varints(values: Iterable[int]) -> bytes:
    """Unsigned LEB128: seven bits a byte, least significant first, the top bit set on all but the last byte."""
    out = bytearray()
    for value in values:
        if not 0 <= value < 1 << 63:
            raise ValueError("varints hold 63 bits")
        rest = value
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def decode_varints(data: bytes | memoryview) -> list[int]:
    """Decode `data` as a sequence of varints; raises `Malformed` for one that is truncated or exceeds 63 bits."""
    values: list[int] = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 56:
                raise Malformed("varint too large")
        else:
            if not byte and shift:
                raise Malformed("varint not in its shortest form")
            values.append(value)
            value = shift = 0
    if shift:
        raise Malformed("truncated varint")
    return values


def encode_record(header: Mapping[str, Any], parts: Sequence[bytes | bytearray | memoryview] = ()) -> bytes:
    """A record: u32 length of the header, the header as canonical JSON, then the body."""
    head = encode_json(header)
    return b"".join((_LENGTH.pack(len(head)), head, *parts))


def decode_record(data: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """The header and the body of a record; raises `Malformed`."""
    view = memoryview(data)
    if len(view) < _LENGTH.size:
        raise Malformed("truncated record")
    (length,) = _LENGTH.unpack_from(view)
    if len(view) < _LENGTH.size + length:
        raise Malformed("truncated record")
    return decode_json(bytes(view[_LENGTH.size : _LENGTH.size + length])), view[_LENGTH.size + length :]


def text(content: Mapping[str, Any], name: str) -> str:
    """The string under `name`; raises `Malformed`."""
    value = content.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} is missing or not a string")
    return value


def texts(content: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The list of strings under `name`; raises `Malformed`."""
    value = content.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Malformed(f"{name} is missing or not a list of strings")
    return tuple(value)


def whole(value: object, limit: int = 1 << 63) -> int:
    """`value`, if it is an integer from 0 to below `limit`; else raises `Malformed`."""
    if type(value) is not int or not 0 <= value < limit:
        raise Malformed("not an integer, or out of range")
    return value


def integer(content: Mapping[str, Any], name: str) -> int:
    """The non-negative integer of at most 63 bits under `name`; raises `Malformed`."""
    try:
        return whole(content.get(name))
    except Malformed:
        raise Malformed(f"{name} is missing, not an integer, or out of range") from None
