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
_AHEAD = 2
#: For each request: a range under way and another that is being used up, a segment that is being opened (compressed
#: and plain), the segments that were opened ahead, and as many buffers that wait for their next use.
_REQUEST_COST = 2 * RANGE + (2 + 2 * _AHEAD) * SEGMENT
#: A pack that is checked is in memory as a whole, with its directory and a segment that is being opened.
_PACK_COST = PACK_CAPACITY + 4 * SEGMENT
#: Segments that stay after their use: the changes of many nights lie scattered in as many segments, and a restore goes
#: through all of these at once. Three eighths of the memory; a writer makes them small enough for that.
_KEPT_SHARE = 8 / 3
#: An eighth is for what says where segments are.
_TABLES_SHARE = 8


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """How many of each may exist at once; see `of`."""

    #: Requests for parts of objects, and for small objects.
    requests: int
    #: Ranges of packs that are kept until all of them was asked for.
    ranges: int
    #: Segments that are asked for before their turn.
    ahead: int
    #: Bytes of opened segments, those that wait for their turn and those that stay after their use.
    opened: int
    #: Packs that are read as a whole.
    packs: int

    @classmethod
    def of(cls, memory: int, connections: int) -> "ReadBudget":
        """Divide `memory` bytes among as many requests as are worthwhile (`Sink.connections`), or fewer.

        Raises `UsageError` for less than 64 MiB.
        """
        if memory < _SMALLEST:
            raise UsageError(f"memory must be at least {_SMALLEST // MIB} MiB")
        kept = int(memory / _KEPT_SHARE)
        tables = memory // _TABLES_SHARE
        requests = max(1, min(connections, (memory - kept - tables) // _REQUEST_COST))
        return cls(
            requests=requests,
            ranges=2 * requests,
            ahead=_AHEAD * requests,
            opened=kept + _AHEAD * requests * SEGMENT,
            packs=max(1, min(connections, (memory - tables) // _PACK_COST)),
        )
