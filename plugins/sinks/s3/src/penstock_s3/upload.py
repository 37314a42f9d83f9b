"""An object's bytes on their way up, out of the caller's buffer."""

import io

from penstock.api import Deadline

__all__ = ["Upload"]


class Upload(io.RawIOBase):
    """A seekable reader of the caller's buffer. Reads return copies; `close` releases the buffer.

    A view of it would be quicker still, but nobody may hold on to the buffer after the call, and the SDK's frames do.
    """

    def __init__(self, data: bytes | bytearray | memoryview, deadline: Deadline) -> None:
        super().__init__()
        self._view = memoryview(data).cast("B")
        self._at = 0
        self._deadline = deadline

    def __len__(self) -> int:
        return len(self._view)

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true: the SDK reads it once for the checksum and once to send it."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; raises `TimeoutError` once the deadline has passed."""
        if self._deadline.expired:
            raise TimeoutError("the deadline has passed")
        end = len(self._view) if size is None or size < 0 else min(self._at + size, len(self._view))
        block = bytes(self._view[self._at : end])
        self._at = end
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; returns it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        self._at = min(max(0, start + offset), len(self._view))
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def close(self) -> None:
        """Release the caller's buffer."""
        self._view.release()
        super().close()
