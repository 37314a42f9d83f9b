"""Amounts of memory, as people write them."""

import re

__all__ = ["SIZE_PATTERN", "parse_size"]

_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
#: The same, as a pattern for the JSON schema.
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([KMG]i?)?B?$"
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([a-z]*)", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes: `128MiB`, `1.5 GiB`, `512MB` (powers of ten), or a bare number of bytes. Raises `ValueError`."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError("must be an amount of memory, such as 128MiB or 1GiB")
    amount = float(match[1]) * _UNITS[match[2]]
    if amount < 1:
        raise ValueError("must be more than nothing")
    return int(amount)
