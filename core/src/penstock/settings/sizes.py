"""Amounts of bytes, as people write them."""

import re

from pydantic import ByteSize, TypeAdapter, ValidationError

__all__ = ["SIZE_PATTERN", "parse_size"]

#: What is accepted, as a pattern for the JSON schema too. pydantic reads more than that: bits, and what follows a size.
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([KMGTkmgt][Ii]?[Bb]|[KMGTkmgt]|[Bb])?$"
_SIZE = re.compile(SIZE_PATTERN)
_BYTES = TypeAdapter(ByteSize)
_LARGEST = 1 << 62


def parse_size(text: str) -> int:
    """Bytes: `128MiB`, `1.5 GiB`, `512MB` (powers of ten), or a bare number of bytes. Raises `ValueError`."""
    text = text.strip()
    try:
        size = int(_BYTES.validate_python(text)) if _SIZE.match(text) else -1
    except ValidationError:
        size = -1
    if not 0 <= size <= _LARGEST:
        raise ValueError("must be a size, such as 128MiB or 1GiB")
    if size < 1:
        raise ValueError("must be at least one byte")
    return size
