"""The codec byte and zstd (RFC 8878). Sealed plaintext is always `codec byte ‖ payload`."""

import threading

import zstandard

from penstock.format.encoding import Malformed

__all__ = ["RAW", "ZSTD", "compress", "decompress"]

RAW = 0
ZSTD = 1

_local = threading.local()


def compress(data: bytes | bytearray | memoryview, level: int) -> bytes:
    """`data` with its codec byte: zstd at `level`, or unchanged if zstd would not make it smaller."""
    contexts: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    context = contexts.get(level)
    if context is None:
        context = contexts[level] = zstandard.ZstdCompressor(level=level)
    packed = context.compress(data)
    if len(packed) < len(data):
        return bytes((ZSTD,)) + packed
    return bytes((RAW,)) + bytes(data)


def decompress(data: bytes | memoryview, limit: int) -> bytes:
    """The payload of `codec byte ‖ payload`; raises `Malformed` for damage, or for more than `limit` bytes.

    The size comes from the frame's header and is checked before any memory is allocated.
    """
    if not len(data):
        raise Malformed("empty payload: no codec byte")
    view = memoryview(data)
    codec = view[0]
    payload = view[1:]
    if codec == RAW:
        if len(payload) > limit:
            raise Malformed("the payload is larger than allowed")
        return bytes(payload)
    if codec != ZSTD:
        raise Malformed(f"unknown codec {codec}")
    context: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if context is None:
        context = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        size = zstandard.frame_content_size(payload)
        # For size 0 python-zstandard only looks at the header; empty payloads are stored raw.
        if size <= 0:
            raise Malformed("the payload does not state its size")
        if size > limit:
            raise Malformed("the payload is larger than allowed")
        return context.decompress(payload, max_output_size=size, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"zstd: {error}") from None
