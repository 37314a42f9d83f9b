"""Streams of a dump: the engine's dump program, started now or earlier, and text that was made here."""

import re

from penstock.api import ChildOutput, DumpFailed, DumpStream

__all__ = ["ChildStream", "TextStream"]

#: What to do about what the dump programs say, in the order in which it is looked for.
_HINTS = {
    r"Table definition has changed|\b1412\b|doesn't exist|\b1146\b": (
        "a table was altered or dropped while it was dumped: run the backup again, outside of schema changes"
    ),
    r"Lost connection|gone away|\b2013\b|\b2006\b": (
        "the server ended the connection: it was restarted, or the dump was not read for longer than its "
        "net_write_timeout, because the sink was slow; a higher one helps (SET GLOBAL net_write_timeout = 3600)"
    ),
    r"definer|\b1449\b": "a view or routine belongs to an account that is gone: give it another definer, or drop it",
    r"max_allowed_packet|\b2020\b": "a row is larger than the server's max_allowed_packet: raise it there",
    r"[Aa]ccess denied|insufficient priv": (
        "grant what is missing: SELECT, SHOW VIEW, TRIGGER and EVENT, and for routines SELECT on *.*"
    ),
}


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
            said = "\n".join(error.details)
            error.hint = error.hint or next(
                (hint for pattern, hint in _HINTS.items() if re.search(pattern, said)), None
            )
            raise

    def abort(self) -> None:
        """Kill the program."""
        self._child.abort()


class TextStream(DumpStream):
    """A short text that is in memory already."""

    def __init__(self, name: str, text: bytes) -> None:
        self._name = name
        self._left = memoryview(text)
        self._ended: str | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        """The next part of the text."""
        if self._ended:
            raise DumpFailed(f"{self._name} was {self._ended}")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        """Raises `DumpFailed` before the end."""
        if self._ended == "closed":
            return
        early = bool(self._left) or self._ended is not None
        self._ended = self._ended or "closed"
        if early:
            raise DumpFailed(f"{self._name} was {self._ended} before its end")

    def abort(self) -> None:
        """Forget it."""
        self._ended = self._ended or "aborted"
