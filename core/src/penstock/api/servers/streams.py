"""Small streams: texts that are made in memory, and blocks of a restore that are held back."""

from collections.abc import Iterable, Iterator

from penstock.api.errors import DumpFailed, RestoreFailed
from penstock.api.source import DumpStream

__all__ = ["TextStream", "last_held_back", "whole_text"]


class TextStream(DumpStream):
    """A stream whose few bytes are in memory already; `name` is for errors."""

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
        """Forget the text."""
        self._ended = self._ended or "aborted"


def last_held_back(blocks: Iterable[memoryview]) -> Iterator[bytes]:
    """The blocks, each when the next has come, and the last when `blocks` has ended.

    For a restore program that completes its work as soon as it has read everything: it must not have the last bytes
    before `blocks` has ended without an error.
    """
    held = b""
    for block in blocks:
        if held:
            yield held
        held = bytes(block)
    if held:
        yield held


def whole_text(blocks: Iterable[memoryview], what: str, *, max_bytes: int) -> bytes:
    """All blocks as one text; raises `RestoreFailed` for more than `max_bytes`, and says that `what` has them."""
    text = bytearray()
    for block in blocks:
        text += block
        if len(text) > max_bytes:
            raise RestoreFailed(f"{what} exceed {max_bytes} bytes: the stream is damaged, or something else")
    return bytes(text)
