"""What `redis-cli --rdb -` writes: an RDB file, and perhaps the mark that ended its transfer.

An RDB file starts with REDIS and ends with the byte 0xFF and a checksum of 8 bytes. A server that sends it straight
from memory does not know its length beforehand, and ends it with 40 random hexadecimal digits; redis-cli writes those
too.
"""

import re

from penstock.api import ChildOutput, DumpFailed, DumpStream

__all__ = ["RdbStream"]

_MAGIC = b"REDIS"
_END = 9
_MARK = re.compile(rb"[0-9a-f]{40}\Z")
_HELD_BACK = 40 + _END


class RdbStream(DumpStream):
    """The RDB file alone, which must begin and end as one does."""

    def __init__(self, child: ChildOutput, name: str) -> None:
        self._child = child
        self._name = name
        self._room = memoryview(bytearray(1 << 20))
        self._held = bytearray()
        self._start = b""
        self._over = False
        self._whole = False
        self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        """As the contract says; the last bytes are held back until it is known what they are."""
        if not len(buffer):
            return 0
        while True:
            count = min(len(buffer), len(self._held) - (0 if self._over else _HELD_BACK))
            if count > 0 or self._over:
                buffer[:count] = self._held[:count]
                del self._held[:count]
                return count
            if got := self._child.readinto(self._room):
                self._held += self._room[:got]
                self._start = self._start or bytes(self._held[: len(_MAGIC)])
            else:
                self._over = True
                self._judge()

    def close(self) -> None:
        """As the contract says: first redis-cli is judged, then what it wrote."""
        if self._closed:
            return
        self._closed = True
        self._child.close()
        if self._held:
            raise DumpFailed(f"{self._name} was closed before its end")
        if not self._whole:
            raise DumpFailed(f"redis-cli exited with 0, but {self._name} does not begin and end as an RDB file does")

    def abort(self) -> None:
        """Kill redis-cli."""
        self._child.abort()

    def _judge(self) -> None:
        # 0xFF is not a hexadecimal digit: nothing but an RDB file has it in this place.
        if self._held[-_END:][:1] != b"\xff" and _MARK.search(self._held):
            del self._held[-40:]
        self._whole = self._start == _MAGIC and self._held[-_END:][:1] == b"\xff"
