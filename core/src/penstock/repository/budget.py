"""How `memory` is divided. Every large buffer of a run is counted here, so the total is known before it starts."""

import mmap
import os
from dataclasses import dataclass

from penstock.api.errors import UsageError

__all__ = ["BATCH", "PACK_CAPACITY", "PACK_CHUNKS", "PACK_TARGET", "SEGMENT", "Budget", "new_buffer"]

KIB = 1024
MIB = 1024 * KIB

#: Bytes of a stream that are read and looked up at once.
BATCH = 2 * MIB
#: Plain bytes of a segment at most.
SEGMENT = 2 * MIB
#: Sealed bytes of a pack: it is closed when another segment might not fit.
PACK_TARGET = 16 * MIB
#: A pack is closed at this many chunks, however well they compress, to keep its directory small.
PACK_CHUNKS = 32768
#: Room for a pack's segments, its ends, and the zeroes between them.
PACK_CAPACITY = PACK_TARGET + 2 * MIB
#: Bytes that a chunk of a loaded pack takes: its id (64), its slot in a dictionary (about 48), where it ends (8).
_CHUNK_COST = 120
#: An incompressible segment exists four times while it is being sealed: plain, with its codec byte, encrypted, and with
#: its nonce prepended.
_SEGMENT_COST = 4 * SEGMENT

_SMALLEST = 64 * MIB


@dataclass(frozen=True, slots=True)
class Budget:
    """How many buffers of each kind a writer has, and how many threads use them; see `of`."""

    batches: int
    sealing: int
    packs: int
    directory_chunks: int
    sealers: int
    uploads: int
    #: Sealed bytes of a pack, as `PACK_TARGET`; less where large uploads break.
    pack_size: int = PACK_TARGET

    @classmethod
    def of(cls, memory: int, connections: int) -> "Budget":
        """Divide `memory` bytes for a sink that takes `connections` requests at once.

        A quarter goes to directories, which find the duplicates; then come two batches, the packs (one open, the
        others uploading, as many as the sink takes), and sealing gets the rest, as far as the processors can use it.
        Raises `UsageError` for less than 64 MiB.
        """
        if memory < _SMALLEST:
            raise UsageError(f"memory must be at least {_SMALLEST // MIB} MiB")
        processors = _processors()
        batches = 2
        least = batches * BATCH + 2 * PACK_CAPACITY + 2 * _SEGMENT_COST
        directories = min(memory // 4, memory - least)
        rest = memory - directories - batches * BATCH
        packs = max(2, min(connections + 1, (rest * 3 // 4) // PACK_CAPACITY))
        sealing = max(2, min(2 * processors + 2, (rest - packs * PACK_CAPACITY) // _SEGMENT_COST))
        return cls(
            batches=batches,
            sealing=sealing,
            packs=packs,
            directory_chunks=directories // _CHUNK_COST,
            sealers=min(processors, sealing),
            uploads=max(1, min(connections, packs - 1)),
        )


def _processors() -> int:
    """Those that this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def new_buffer(size: int, *, at_once: bool = False) -> mmap.mmap:
    """A large buffer that takes memory only for pages written to, and returns all of it as soon as it is dropped.

    Memory from malloc does neither: freed blocks of this size stay with the process, fragmented. With `at_once`, it
    takes all of its memory now, where the system can: what a run needs does not depend on how much there is to store,
    and a host that has too little of it says so before the dump begins.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return mmap.mmap(-1, size, flags=flags | getattr(mmap, "MAP_POPULATE", 0) if at_once else flags)
