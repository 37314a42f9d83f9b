"""The stream of a dump program, started now or earlier."""

from penstock.api import Advice, ChildOutput, DumpFailed, DumpStream

__all__ = ["ChildStream"]

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
    """The output of a dump program, with advice on what it says when it fails."""

    def __init__(self, child: ChildOutput) -> None:
        self._child = child
        self._ahead = memoryview(b"")

    def wait_for_first_byte(self) -> None:
        """Return as soon as the program has written anything: its transaction has begun by then."""
        buffer = bytearray(1 << 16)
        count = self._child.readinto(memoryview(buffer))
        self._ahead = memoryview(buffer)[:count]

    def readinto(self, buffer: memoryview, /) -> int:
        """What was read ahead, then what the program writes."""
        if self._ahead:
            count = min(len(buffer), len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        return self._child.readinto(buffer)

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
