"""The codec byte and zstd (RFC 8878). Everything that is sealed is `codec byte ‖ payload`."""

import threading

import zstandard

from penstock.format.encoding import Malformed

__all__ = ["RAW", "ZSTD", "compress", "decompress"]

RAW = 0
ZSTD = 1

_local = threading.local()


def compress(data: bytes | bytearray | memoryview, level: int) -> bytes:
    """`data` with its codec byte: zstd at `level`, or as it is where zstd would not make it smaller."""
    contexts: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    context = contexts.get(level)
    if context is None:
        context = contexts[level] = zstandard.ZstdCompressor(level=level)
    packed = context.compress(data)
    if len(packed) < len(data):
        return bytes((ZSTD,)) + packed
    return bytes((RAW,)) + bytes(data)


def decompress(data: bytes | memoryview, limit: int) -> bytes:
    """The payload of `codec byte ‖ payload`; more than `limit` bytes, or damage, raises `Malformed`.

    The size is taken from the frame's header and checked before any memory is reserved for it.
    """
    if not len(data):
        raise Malformed("an empty payload has no codec")
    view = memoryview(data)
    codec = view[0]
    payload = view[1:]
    if codec == RAW:
        if len(payload) > limit:
            raise Malformed("a payload is larger than it may be")
        return bytes(payload)
    if codec != ZSTD:
        raise Malformed(f"codec {codec} is unknown")
    context: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if context is None:
        context = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        size = zstandard.frame_content_size(payload)
        # For a size of 0 python-zstandard looks at nothing but the header; empty payloads are stored as they are.
        if size <= 0:
            raise Malformed("a payload does not state its size")
        if size > limit:
            raise Malformed("a payload is larger than it may be")
        return context.decompress(payload, max_output_size=size, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"zstd: {error}") from None
