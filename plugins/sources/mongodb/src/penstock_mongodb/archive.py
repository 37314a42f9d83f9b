"""The beginning and the end of what `mongodump --archive` writes.

An archive is a magic number, a prelude (BSON documents that describe it and each collection), a terminator, and then
blocks: a header that names a collection, its documents, a terminator. The last block of each collection is a header
alone, which says so and has a checksum; with the oplog, the oplog's is the last of all. Source: `common/archive` of
MongoDB's Database Tools.
"""

import re

from penstock.api import ChildOutput, DumpFailed, DumpStream, SourceError
from penstock.api.servers import Advice
from penstock_mongodb.speech import spoken

__all__ = ["ARCHIVE", "Archive", "ChangedMeanwhile"]

#: The format of every stream: what `mongodump --archive` writes, not compressed.
ARCHIVE = "mongodump-archive"

_MAGIC = b"\x6d\xe2\x99\x81"
#: {..., EOF: true, CRC: <64 bits>} and the terminator.
_END = re.compile(rb"\x08EOF\x00\x01\x12CRC\x00.{8}\x00\xff\xff\xff\xff\Z", re.DOTALL)
_OPLOG = b"\x02db\x00\x01\x00\x00\x00\x00\x02collection\x00\x06\x00\x00\x00oplog\x00"
_TAIL_BYTES = 256

_ADVICE = Advice(
    {
        r"oplog overflow": "Give the oplog more room (replSetResizeOplog), or dump at a quieter time: it was "
        "overwritten while the dump ran.",
        r"not authorized|Unauthorized": "Grant the user the role backup in the database admin.",
    }
)
#: What the oplog cannot hold for mongodump, but the next dump may be without: the words for it, what it is, the hint.
_PASSING = (
    (
        r"renames occur|renameCollection",
        "a collection was renamed meanwhile",
        "Run the dump again when no $out or mapReduce does; where one always runs, dump without the oplog: oplog = no.",
    ),
    (
        r"system\.version is modified",
        "the first user of the server was made meanwhile",
        "Run the dump again: the first user of a server is made once.",
    ),
)


class ChangedMeanwhile(DumpFailed):
    """Something happened during the dump that no oplog of mongodump's may hold: the next dump may be without."""

    retryable = True


class Archive(DumpStream):
    """The output of mongodump, which must begin and end as an archive does."""

    def __init__(self, child: ChildOutput, name: str, *, oplog: bool) -> None:
        self._child = child
        self._name = name
        self._oplog = oplog
        self._closed = False
        self._start = b""
        self._tail = b""

    def readinto(self, buffer: memoryview, /) -> int:
        """Read on, and remember both ends."""
        count = self._child.readinto(buffer)
        if len(self._start) < len(_MAGIC):
            self._start += bytes(buffer[: min(count, len(_MAGIC) - len(self._start))])
        if count:
            self._tail = (self._tail + bytes(buffer[max(0, count - _TAIL_BYTES) : count]))[-_TAIL_BYTES:]
        return count

    def close(self) -> None:
        """Judge mongodump's exit, and then its output."""
        if self._closed:
            return
        self._closed = True
        try:
            self._child.close()
        except SourceError as error:
            _ADVICE.give(error)
            error.details = tuple(map(spoken, error.details))
            for words, what, hint in _PASSING:
                if re.search(words, "\n".join(error.details)):
                    raise ChangedMeanwhile(f"{error.message}: {what}", hint=hint, details=error.details) from error
            raise
        end = _END.search(self._tail)
        if self._start != _MAGIC or end is None or (self._oplog and not self._tail[: end.start()].endswith(_OPLOG)):
            raise DumpFailed(
                f"mongodump exited with 0, but {self._name} does not begin and end as an archive "
                f"{'with the oplog ' if self._oplog else ''}does",
                hint="Run the dump again: a database that was dropped meanwhile gives an empty archive.",
            )

    def abort(self) -> None:
        """Kill mongodump."""
        self._child.abort()
