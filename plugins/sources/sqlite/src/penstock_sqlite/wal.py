"""Reads which pages of a frozen snapshot are in the write-ahead log, and where.

The log's format is part of SQLite's file format (https://www.sqlite.org/fileformat2.html#walformat), the shared index
in the `-shm` file is described in https://www.sqlite.org/walformat.html. Imports nothing outside the standard library:
it runs in the reader process.
"""

import fcntl
import heapq
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["INDEX_VERSION", "Overlay", "WalHeader", "WalMismatch", "in_use", "read_backfill", "read_header", "recover"]

#: The only version of the shared index there has been since SQLite 3.7.0.
INDEX_VERSION = 3_007_000
FRAME_HEADER = 24
LOG_HEADER = 32
_INDEX_HEADER = struct.Struct("=IIIBBHII2I8s2I")
_BACKFILL = struct.Struct("=I")
_BACKFILL_OFFSET = 2 * _INDEX_HEADER.size
_FRAME = struct.Struct(">II8s2I")
_SORT_RUN = 1 << 16
_MASK = 0xFFFF_FFFF
_LOG = struct.Struct(">IIII8s2I")
#: The magic number of a log, and the byte order of its checksums.
_ORDERS = {0x377F_0682: "<", 0x377F_0683: ">"}
# The byte of the -shm file that every connection locks (src/os_unix.c, UNIX_SHM_DMS), and what fcntl tells of it.
_SHM_DMS = 128
_FLOCK = struct.Struct("hhqqi4x")


class WalMismatch(Exception):
    """The log is not the one that its index speaks of."""


@dataclass(frozen=True, slots=True)
class WalHeader:
    """One committed state of a database in WAL mode: equal headers mean the same state (`change` counts commits)."""

    version: int
    change: int
    page_size: int
    frames: int
    pages: int
    last_checksum: tuple[int, int]
    salts: bytes


def read_header(shm: int) -> WalHeader | None:
    """The state that the index in the open `-shm` file names; None while a writer is changing it."""
    data = os.pread(shm, 2 * _INDEX_HEADER.size, 0)
    first, second = data[: _INDEX_HEADER.size], data[_INDEX_HEADER.size :]
    # SQLite writes the second copy, a memory barrier, then the first: as its own readers do, take only equal copies.
    if first != second or len(first) != _INDEX_HEADER.size:
        return None
    version, _, change, ready, _, size, frames, pages, sum1, sum2, salts, *checksum = _INDEX_HEADER.unpack(first)
    if not ready or _checksum(first[:40]) != tuple(checksum):
        return None
    page_size = (size & 0xFE00) | ((size & 1) << 16)
    return WalHeader(version, change, page_size, frames, pages, (sum1, sum2), salts)


def read_backfill(shm: int) -> int:
    """How many frames a checkpoint has copied into the main file so far."""
    data = os.pread(shm, _BACKFILL.size, _BACKFILL_OFFSET)
    return int(_BACKFILL.unpack(data)[0])


def in_use(shm: int) -> bool:
    """Whether another process has the database open, so that the index in the `-shm` file is the one in use."""
    if sys.platform != "linux":  # the structure is another one there
        return True
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _SHM_DMS, 1, 0)
    return bool(_FLOCK.unpack(fcntl.fcntl(shm, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)


def recover(log: int) -> WalHeader | None:
    """The newest state that a log holds, found as SQLite finds it where no index is in use; None if it holds none.

    Reads all of the log: the checksum of each frame goes on from that of the one before.
    """
    head = os.pread(log, LOG_HEADER, 0)
    if len(head) < LOG_HEADER:
        return None
    magic, version, page_size, _, salts, *told = _LOG.unpack(head)
    order = _ORDERS.get(magic)
    if order is None or version != INDEX_VERSION or _checksum(head[:24], order) != tuple(told):
        return None
    sums = (told[0], told[1])
    newest: WalHeader | None = None
    frame = 0
    while True:
        frame += 1
        data = os.pread(log, FRAME_HEADER + page_size, LOG_HEADER + (frame - 1) * (FRAME_HEADER + page_size))
        if len(data) < FRAME_HEADER + page_size:
            return newest
        page, pages, frame_salts, *frame_sums = _FRAME.unpack(data[:FRAME_HEADER])
        sums = _checksum(data[:8] + data[FRAME_HEADER:], order, sums)
        if page == 0 or frame_salts != salts or tuple(frame_sums) != sums:
            return newest
        if pages:
            newest = WalHeader(version, 0, page_size, frame, pages, sums, salts)


class Overlay:
    """The pages of a snapshot that are to be taken from the log, in ascending order.

    Keeps eight bytes a frame: two MiB for a log of one GiB. `log` stays the caller's. Raises `WalMismatch` when any
    frame of the snapshot does not belong to it.
    """

    def __init__(self, log: int, header: WalHeader) -> None:
        self._log = log
        self._header = header
        self._frame_size = FRAME_HEADER + header.page_size
        self.check()
        self._runs = list(self._sorted_runs())

    def check(self) -> None:
        """Raises `WalMismatch` when the log was started anew since the snapshot was taken."""
        head = os.pread(self._log, LOG_HEADER, 0)
        if head[16:24] != self._header.salts:
            raise WalMismatch("the write-ahead log was started anew")

    def pages(self) -> Iterator[tuple[int, int]]:
        """Each page's number with its latest version's offset in the log, by ascending page number."""
        latest: tuple[int, int] | None = None
        for entry in heapq.merge(*self._runs):
            page, frame = entry >> 32, entry & _MASK
            if latest is not None and latest[0] != page:
                yield latest
            latest = page, LOG_HEADER + (frame - 1) * self._frame_size + FRAME_HEADER
        if latest is not None:
            yield latest

    def _sorted_runs(self) -> Iterator["array[int]"]:
        entries: list[int] = []
        checksum: tuple[int, int] | None = None
        for frame in range(1, self._header.frames + 1):
            data = os.pread(self._log, FRAME_HEADER, LOG_HEADER + (frame - 1) * self._frame_size)
            if len(data) != FRAME_HEADER:
                raise WalMismatch(f"the write-ahead log ends before frame {frame} of {self._header.frames}")
            page, _, salts, sum1, sum2 = _FRAME.unpack(data)
            if salts != self._header.salts or page == 0:
                raise WalMismatch(f"frame {frame} of the write-ahead log is from another time")
            checksum = sum1, sum2
            if page <= self._header.pages:
                entries.append(page << 32 | frame)
            if len(entries) == _SORT_RUN:
                yield array("Q", sorted(entries))
                entries = []
        if checksum != self._header.last_checksum:
            raise WalMismatch("the last frame of the write-ahead log is not the one that the index names")
        yield array("Q", sorted(entries))


def _checksum(data: bytes, order: str = "=", start: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """The log's checksum (fileformat2, section 4.2) of a multiple of eight bytes, which goes on from `start`."""
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first, second = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
