"""Chunk ids and stream digests: BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs)."""

import re
from collections.abc import Sequence

from blake3 import blake3

__all__ = ["CHUNK_ID_BYTES", "HOOK_SHARE", "ChunkNamer", "StreamDigest", "chunk_ids", "hooks"]

#: Two different chunks of a domain have one id with a probability of 2^-96: see docs/adr/0002-chunk-size.md.
CHUNK_ID_BYTES = 12
#: A chunk id whose last byte is one of these (low six bits clear) is a hook: the index keeps one id in 64.
_HOOK = re.compile(rb"[\x00\x40\x80\xc0]")
#: One chunk in so many is a hook.
HOOK_SHARE = 64


class ChunkNamer:
    """Gives chunks their ids: the first `CHUNK_ID_BYTES` of keyed BLAKE3. Used by one thread.

    Keyed, so that nobody without the repository's secret can test whether it holds known content.
    """

    def __init__(self, key: bytes) -> None:
        # One hasher for all: creating one costs as much as hashing a chunk.
        self._hasher = blake3(key=key)

    def id(self, chunk: memoryview) -> bytes:
        """The id of a chunk."""
        hasher = self._hasher
        found = hasher.update(chunk).digest(CHUNK_ID_BYTES)
        hasher.reset()
        return found

    def alike(self, data: memoryview, ids: Sequence[bytes], lengths: Sequence[int]) -> int:
        """How many of these chunks, one behind the other, are what `data` begins with."""
        hasher, size = self._hasher, len(data)
        start = 0
        for number, (chunk, length) in enumerate(zip(ids, lengths, strict=True)):
            end = start + length
            if end > size:
                return number
            found = hasher.update(data[start:end]).digest(CHUNK_ID_BYTES)
            hasher.reset()
            if found != chunk:
                return number
            start = end
        return len(ids)

    def ids(self, data: memoryview, lengths: Sequence[int]) -> list[bytes]:
        """The ids of consecutive chunks of `data`."""
        ids: list[bytes] = []
        add, hasher = ids.append, self._hasher
        start = 0
        for length in lengths:
            end = start + length
            add(hasher.update(data[start:end]).digest(CHUNK_ID_BYTES))
            hasher.reset()
            start = end
        return ids


def chunk_ids(key: bytes, data: memoryview, lengths: Sequence[int]) -> list[bytes]:
    """The ids of consecutive chunks of `data`."""
    return ChunkNamer(key).ids(data, lengths)


def hooks(ids: bytes) -> list[bytes]:
    """The hooks among concatenated chunk ids: the sample that the index keeps."""
    # Scan only the last bytes first: this runs for every chunk.
    starts = [found.start() * CHUNK_ID_BYTES for found in _HOOK.finditer(ids[CHUNK_ID_BYTES - 1 :: CHUNK_ID_BYTES])]
    return [ids[start : start + CHUNK_ID_BYTES] for start in starts]


class StreamDigest:
    """BLAKE3-256 over a whole stream."""

    def __init__(self) -> None:
        self._state = blake3()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the stream."""
        self._state.update(data)

    def digest(self) -> bytes:
        """32 bytes."""
        return self._state.digest()
