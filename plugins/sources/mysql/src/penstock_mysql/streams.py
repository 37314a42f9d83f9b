"""The stream of a dump program, started now or earlier."""

from collections.abc import Callable

from penstock.api import ChildOutput, DumpFailed, DumpStream, StreamOutcome
from penstock.api.servers import Advice
from penstock_mysql.watching import Watch

__all__ = ["END_MARKER", "ChildStream"]

#: What the last line of a whole dump begins with.
END_MARKER = b"-- Dump completed"
#: It is within this many bytes of the end.
_TAIL_BYTES = 512

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
    """The output of a dump program, with advice on what it says when it fails.

    `before_end` is put before the line that ends a whole dump.
    """

    def __init__(self, child: ChildOutput, database: str, *, before_end: bytes = b"") -> None:
        self._child = child
        self._source = _Inserting(child.readinto, before_end).readinto if before_end else child.readinto
        self._watch = Watch(database)
        self._ahead = memoryview(b"")

    def wait_for_first_byte(self) -> None:
        """Return as soon as the program has written anything: its transaction has begun by then."""
        buffer = bytearray(1 << 16)
        count = self._source(memoryview(buffer))
        self._ahead = memoryview(buffer)[:count]

    def readinto(self, buffer: memoryview, /) -> int:
        """What was read ahead, then what the program writes."""
        count = self._read(buffer)
        self._watch.see(buffer[:count])
        return count

    def _read(self, buffer: memoryview) -> int:
        if self._ahead:
            count = min(len(buffer), len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        return self._source(buffer)

    def close(self) -> None:
        """As `ChildOutput`; the error has a hint."""
        try:
            self._child.close()
        except DumpFailed as error:
            _ADVICE.give(error)
            raise

    def outcome(self) -> StreamOutcome:
        """What has passed, and what of it no server takes back."""
        return self._watch.outcome()

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
