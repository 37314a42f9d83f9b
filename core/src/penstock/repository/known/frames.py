"""What a host remembers of a stream, in frames: its chunks, the hashes of their records, and its recipe.

frame := u32 length ‖ keyed digest(16) ‖ payload

A frame is of some megabytes of the stream, and of whole chunks. It is believed only if its digest, under a secret of
the domain, fits its bytes and its place.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import zstandard
from blake3 import blake3
from numpy.typing import NDArray

from penstock.format.encoding import Malformed
from penstock.format.ids import CHUNK_ID_BYTES
from penstock.repository.extents import I64, U64, Extents

__all__ = ["NO_CUT", "Frame", "FrameKey", "read_piece", "write_piece"]

#: In the place of a lag: the chunk ends where its stream did, not behind a cut.
NO_CUT = 0xFFFF

_HEADER = struct.Struct("<I16s")
_COUNTS = struct.Struct("<IIII")
_DIGEST_BYTES = 16
_CONTEXT = "penstock/1 remembered streams"
#: A frame of a batch has less.
_LARGEST = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of a stream. `counts` says how many records each chunk has: together they make it, or there are none.

    `lags` says how far before the end of each chunk FastCDC's cut was, from which it goes on; `NO_CUT` if the stream
    ended there.
    """

    chunks: list[bytes]
    chunk_lengths: I64
    lags: NDArray[np.uint16]
    counts: I64
    hashes: U64
    record_lengths: NDArray[np.uint16]
    extents: Extents

    @property
    def adds_up(self) -> bool:
        """Whether the extents make the chunks, and the records those that have any."""
        size, ends = int(self.chunk_lengths.sum()), self.lags == NO_CUT
        return (
            self.extents.size == size
            and bool((self.extents.lengths > 0).all() and (self.chunk_lengths > 0).all())
            and bool((ends | (self.lags <= self.chunk_lengths)).all())
            and int(self.counts.sum()) == len(self.hashes)
            and int(self.record_lengths.sum()) == int(self.chunk_lengths[self.counts > 0].sum())
        )

    def encode(self) -> list[bytes | memoryview]:
        """In pieces; hashes and ids as they are, for they do not compress."""
        columns = [
            self.chunk_lengths.astype("<u4"),
            self.counts.astype("<u4"),
            self.lags.astype("<u2"),
            self.record_lengths.astype("<u2"),
            self.extents.segments.astype("<i8"),
            self.extents.starts.astype("<u4"),
            self.extents.lengths.astype("<u4"),
        ]
        packed = zstandard.ZstdCompressor(level=1).compress(b"".join(column.tobytes() for column in columns))
        counts = _COUNTS.pack(len(self.chunks), len(self.hashes), len(self.extents.segments), len(packed))
        hashes = np.ascontiguousarray(self.hashes, dtype="<u8")
        return [counts, packed, b"".join(self.chunks), hashes.data.cast("B") if len(hashes) else b""]

    @classmethod
    def decode(cls, data: bytes) -> "Frame":
        """Reverse `encode`, of bytes whose digest was right."""
        chunks, records, extents, packed = _COUNTS.unpack_from(data)
        at = _COUNTS.size + packed
        size = 10 * chunks + 2 * records + 16 * extents
        columns = zstandard.ZstdDecompressor().decompress(data[_COUNTS.size : at], max_output_size=size)
        if len(columns) != size or len(data) != at + CHUNK_ID_BYTES * chunks + 8 * records:
            raise Malformed("a remembered frame has another size than it says")
        taken = 0

        def column(kind: str, count: int) -> NDArray[np.generic]:
            nonlocal taken
            found = np.frombuffer(columns, dtype=kind, count=count, offset=taken)
            taken += found.nbytes
            return found

        lengths, counts = column("<u4", chunks).astype(np.int64), column("<u4", chunks).astype(np.int64)
        lags, record_lengths = column("<u2", chunks).astype(np.uint16), column("<u2", records).astype(np.uint16)
        segments = column("<i8", extents).astype(np.int64)
        starts, sizes = column("<u4", extents).astype(np.int64), column("<u4", extents).astype(np.int64)
        end = at + CHUNK_ID_BYTES * chunks
        ids = [data[place : place + CHUNK_ID_BYTES] for place in range(at, end, CHUNK_ID_BYTES)]
        hashes = np.frombuffer(data, dtype="<u8", offset=end).astype(np.uint64)
        made = cls(ids, lengths, lags, counts, hashes, record_lengths, Extents(segments, starts, sizes))
        if not made.adds_up:
            raise Malformed("a remembered frame does not add up")
        return made


class FrameKey:
    """Makes and checks the digests of frames, of one run of one writer's."""

    def __init__(self, chunk_key: bytes, run: bytes) -> None:
        self._key = blake3(chunk_key, derive_key_context=_CONTEXT).digest()
        self._run = run

    def digest(self, pieces: Iterable[bytes | memoryview], *place: int) -> bytes:
        """The digest of bytes at a place in the run."""
        state = blake3(self._run + struct.pack(f"<{len(place)}Q", *place), key=self._key)
        for piece in pieces:
            state.update(piece)
        return state.digest(_DIGEST_BYTES)


def write_piece(
    file: IO[bytes], pieces: Sequence[bytes | memoryview], key: FrameKey, *place: int, room: int | None = None
) -> int:
    """Append bytes with their digest; returns how many that takes, or 0 if it is more than the `room` for it."""
    size = sum(map(len, pieces))
    if room is not None and _HEADER.size + size > room:
        return 0
    file.writelines((_HEADER.pack(size, key.digest(pieces, *place)), *pieces))
    return _HEADER.size + size


def read_piece(file: IO[bytes], key: FrameKey, *place: int) -> bytes:
    """The next bytes; raises `Malformed` for anything but what was written at this place."""
    header = file.read(_HEADER.size)
    if len(header) != _HEADER.size:
        raise Malformed("what is remembered is truncated")
    length, digest = _HEADER.unpack(header)
    if length > _LARGEST:
        raise Malformed("what is remembered is damaged")
    data = file.read(length)
    if len(data) != length or key.digest([data], *place) != digest:
        raise Malformed("what is remembered is damaged")
    return data
