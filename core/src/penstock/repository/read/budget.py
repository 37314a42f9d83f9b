"""How `memory` is spent on reading: how many requests at once, and what is kept of their answers."""

from dataclasses import dataclass

from penstock.api.errors import UsageError
from penstock.repository.budget import MIB, PACK_CAPACITY, SEGMENT

__all__ = ["DEFAULT_MEMORY", "RANGE", "ReadBudget"]

#: What reading may take where nobody says otherwise, in bytes.
DEFAULT_MEMORY = 128 * MIB
#: What one request reads at most when it reads ahead, in bytes.
RANGE = 2 * MIB

_SMALLEST = 64 * MIB
#: Segments under way ahead of the one in use, for each request.
_AHEAD = 3
#: For each request: a range under way and another that is being used up, a segment that is being opened (compressed
#: and plain), and the segments that were opened ahead.
_REQUEST_COST = 2 * RANGE + (2 + _AHEAD) * SEGMENT
#: A pack that is checked is in memory as a whole, with its directory and a segment that is being opened.
_PACK_COST = PACK_CAPACITY + 4 * SEGMENT
#: Segments that stay after their use: scattered changes come back to the same ones. An eighth of the memory.
_KEPT_SHARE = 8


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """How many of each may exist at once; see `of`."""

    #: Requests for parts of objects, and for small objects.
    requests: int
    #: Ranges of packs that are kept until all of them was asked for.
    ranges: int
    #: Opened segments that wait for their turn.
    ahead: int
    #: Opened segments that stay after their use.
    kept: int
    #: Packs that are read as a whole.
    packs: int

    @classmethod
    def of(cls, memory: int, connections: int) -> "ReadBudget":
        """Divide `memory` bytes among as many requests as are worthwhile (`Sink.connections`), or fewer.

        Raises `UsageError` for less than 64 MiB.
        """
        if memory < _SMALLEST:
            raise UsageError(f"memory must be at least {_SMALLEST // MIB} MiB")
        kept = memory // _KEPT_SHARE
        # What remains of the other eighth holds directories of packs.
        requests = max(1, min(connections, (memory - 2 * kept) // _REQUEST_COST))
        return cls(
            requests=requests,
            ranges=2 * requests,
            ahead=_AHEAD * requests,
            kept=kept // SEGMENT,
            packs=max(1, min(connections, (memory - kept) // _PACK_COST)),
        )
