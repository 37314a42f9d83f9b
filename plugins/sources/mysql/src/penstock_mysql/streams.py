"""The stream of a dump program, started now or earlier."""

import re
from collections.abc import Callable

from penstock.api import ChildOutput, DumpFailed, DumpStream
from penstock.api.servers import Advice

__all__ = ["END_MARKER", "ChildStream"]

#: What the last line of a whole dump begins with.
END_MARKER = b"-- Dump completed"
#: It is within this many bytes of the end.
_TAIL_BYTES = 512

#: What max_allowed_packet can be raised to (bytes).
_LARGEST_STATEMENT = 1 << 30
_INSERT = b"\nINSERT INTO "
_TABLE = re.compile(rb"`(?:[^`]|``)*`")

_ADVICE = Advice(
    {
        r"Table definition has changed|\b1412\b|doesn't exist|\b1146\b": (
            "Run the backup again, outside of schema changes: a table was altered or dropped while it was dumped."
        ),
        r"Lost connection|gone away|\b2013\b|\b2006\b": (
            "Check whether the server was restarted, and its net_write_timeout: when the sink stalls for longer, it "
            "ends the dump of a client program that cannot raise it (SET GLOBAL net_write_timeout = 86400)."
        ),
        r"definer|\b1449\b": "Give the view or routine another definer, or drop it: its account is gone.",
        r"max_allowed_packet|\b2020\b": "Raise max_allowed_packet on the server: a row is larger.",
        r"[Aa]ccess denied|insufficient priv": (
            "Grant what is missing: SELECT, SHOW VIEW, TRIGGER and EVENT, and for routines SELECT on *.*."
        ),
    }
)


class ChildStream(DumpStream):
    """The output of a dump program, with advice on what it says when it fails; `before_end` comes before its last line."""

    def __init__(self, child: ChildOutput, database: str, *, before_end: bytes = b"") -> None:
        self._child = child
        self._source = _Inserting(child.readinto, before_end).readinto if before_end else child.readinto
        self._database = database
        self._line_bytes = 0
        self._table = b""
        self._ahead = memoryview(b"")

    def wait_for_first_byte(self) -> None:
        """Return as soon as the program has written anything: its transaction has begun by then."""
        buffer = bytearray(1 << 16)
        count = self._source(memoryview(buffer))
        self._ahead = memoryview(buffer)[:count]

    def readinto(self, buffer: memoryview, /) -> int:
        """What was read ahead, then what the program writes. Raises `DumpFailed` for what no server takes back."""
        count = self._read(buffer)
        self._watch(buffer[:count])
        return count

    def _read(self, buffer: memoryview) -> int:
        if self._ahead:
            count = min(len(buffer), len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        return self._source(buffer)

    def _watch(self, block: memoryview) -> None:
        """See how long the statement is that the block ends in: its rows have no line breaks in them."""
        text = bytes(block)
        if (insert := text.rfind(_INSERT)) >= 0:
            found = _TABLE.match(text, insert + len(_INSERT))
            self._table = found[0] if found else b""
        end = text.rfind(b"\n")
        self._line_bytes = len(text) - end - 1 if end >= 0 else self._line_bytes + len(text)
        if self._line_bytes > _LARGEST_STATEMENT:
            self._child.abort()
            table = self._table.decode(errors="replace") or "a table"
            raise DumpFailed(
                f"{self._database}: a row of {table} takes more than {_LARGEST_STATEMENT >> 20} MiB in a dump, and no "
                "server takes it back: binary data takes twice its size",
                hint="Leave the table out with exclude_tables and save it in another way, or divide the row.",
            )

    def close(self) -> None:
        """As `ChildOutput`; the error has a hint."""
        try:
            self._child.close()
        except DumpFailed as error:
            _ADVICE.give(error)
            raise

    def abort(self) -> None:
        """Kill the program."""
        self._child.abort()


class _Inserting:
    """What `read` gives, with a text before the line that ends a whole dump."""

    def __init__(self, read: Callable[[memoryview], int], text: bytes) -> None:
        self._read = read
        self._text = text
        self._block = memoryview(bytearray(1 << 20))
        self._held = self._ready = b""
        self._ended = False

    def readinto(self, buffer: memoryview) -> int:
        """As `DumpStream.readinto`."""
        while not self._ready and not self._ended:
            if count := self._read(self._block):
                self._held += self._block[:count]
                self._ready, self._held = self._held[:-_TAIL_BYTES], self._held[-_TAIL_BYTES:]
                continue
            self._ended = True
            at = self._held.rfind(END_MARKER)
            # Without its end the dump is no success, whatever is in it.
            self._ready = self._held if at < 0 else b"".join((self._held[:at], self._text, self._held[at:]))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
