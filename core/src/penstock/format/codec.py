"""The codec byte and zstd (RFC 8878). Sealed plaintext is always `codec byte ‖ payload`."""

import threading

import zstandard

from penstock.format.encoding import Malformed

__all__ = ["QUICK", "RAW", "ZSTD", "Effort", "compress", "decompress"]

RAW = 0
ZSTD = 1

#: A level of zstd, or settings that no level has.
Effort = int | zstandard.ZstdCompressionParameters
#: Rows of databases become as small as level 3 makes them, in three quarters of its time or less: of what began with
#: the same six bytes, the last place alone is looked at. See docs/adr/0004-new-data-that-is-scattered.md.
QUICK = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST, window_log=21, hash_log=17, min_match=6, chain_log=16, search_log=1
)

_local = threading.local()


def compress(data: bytes | bytearray | memoryview, effort: Effort) -> bytes:
    """`data` with its codec byte: zstd with this effort, or unchanged if zstd would not make it smaller."""
    contexts: dict[Effort, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    context = contexts.get(effort)
    if context is None:
        if isinstance(effort, int):
            context = zstandard.ZstdCompressor(level=effort)
        else:
            context = zstandard.ZstdCompressor(compression_params=effort)
        contexts[effort] = context
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
