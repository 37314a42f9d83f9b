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
        self._aborted = self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        """The next part of the text."""
        if self._aborted or self._closed:
            raise DumpFailed(f"{self._name} was {'aborted' if self._aborted else 'closed'}")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        """End the stream. Raises `DumpFailed` if it was aborted or not read to its end; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._aborted:
            raise DumpFailed(f"{self._name} was aborted")
        if self._left:
            raise DumpFailed(f"{self._name} was closed before its end")

    def abort(self) -> None:
        """End the stream early, and forget the text. After `close` it does nothing."""
        if not self._closed:
            self._aborted = True
            self._left = memoryview(b"")


def last_held_back(blocks: Iterable[memoryview]) -> Iterator[bytes]:
    """The blocks, one behind: the last comes only when `blocks` has ended without an error.

    For a restore program that completes its work as soon as it has read everything: it must not have the last bytes
    before `blocks` has ended without an error.
    """
    held = b""
    for block in blocks:
        if not block:
            continue
        if held:
            yield held
        held = bytes(block)
    if held:
        yield held


def whole_text(blocks: Iterable[memoryview], what: str, *, max_bytes: int) -> bytes:
    """All blocks as one text; raises `RestoreFailed` if they exceed `max_bytes`. `what`, a plural, names them then."""
    text = bytearray()
    for block in blocks:
        text += block
        if len(text) > max_bytes:
            raise RestoreFailed(f"{what} exceed {max_bytes} bytes: the stream is damaged, or holds other data")
    return bytes(text)
