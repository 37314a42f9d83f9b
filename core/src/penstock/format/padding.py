"""Padding, so that the size of a sealed object says little about what it holds: Padmé (Nikitin et al., PoPETs 2019)."""

import struct

from penstock.format.codec import compress, decompress
from penstock.format.encoding import Malformed
from penstock.format.sealing import OVERHEAD, Sealer

__all__ = ["LEAST", "LEAST_OF_MANY", "open_padded", "padded", "seal_padded"]

#: Nothing that is padded is smaller (bytes).
LEAST = 4096
#: But for what there is a lot of in one object, which is padded itself.
LEAST_OF_MANY = 256
_LENGTH = struct.Struct("<I")


def padded(size: int, least: int = LEAST) -> int:
    """The size to pad to: at most 12 % more than `size`, and fewer than 2 % on average for megabytes.

    Sizes of one class, of which there are some 16 between a number and its double, cannot be told apart.
    """
    if size <= least:
        return least
    exponent = size.bit_length() - 1
    step = 1 << exponent - exponent.bit_length()
    return -(-size // step) * step


def seal_padded(plain: bytes, level: int, sealer: Sealer, bound_to: bytes, *, limit: int, least: int = LEAST) -> bytes:
    """Compress, pad and seal. Raises `ValueError` for more than `limit` bytes, which nobody would open again."""
    if len(plain) > limit:
        raise ValueError(f"more than {limit} bytes to seal")
    payload = compress(plain, level)
    size = _LENGTH.size + len(payload)
    zeroes = bytes(padded(size + OVERHEAD, least) - OVERHEAD - size)
    return sealer.seal(b"".join((_LENGTH.pack(len(payload)), payload, zeroes)), bound_to)


def open_padded(sealed: bytes | memoryview, limit: int, sealer: Sealer, bound_to: bytes) -> bytes:
    """Reverse `seal_padded`; raises `Malformed`, also for more than `limit` bytes."""
    plain = sealer.open(sealed, bound_to)
    if len(plain) < _LENGTH.size:
        raise Malformed("truncated")
    end = _LENGTH.size + _LENGTH.unpack_from(plain)[0]
    if end > len(plain) or plain.count(0, end) != len(plain) - end:
        raise Malformed("the padding is not what it should be")
    return decompress(memoryview(plain)[_LENGTH.size : end], limit)
