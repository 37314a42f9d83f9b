"""The bytes of one object on their way, and their CRC32C (RFC 3720, appendix B.4), which Google Cloud Storage keeps."""

import base64
import json
import secrets
from collections.abc import Iterator, Mapping

import google_crc32c

from penstock.api import Deadline

__all__ = ["Upload", "crc32c", "told_crc32c"]

#: Small, so that the deadline is looked at often enough on a slow line.
_BLOCK = 64 * 1024
_SUMMED_AT_ONCE = 1024 * 1024


class Upload:
    """A body of `multipart/related` (RFC 2387): the object's metadata as JSON, then its bytes.

    They leave the caller's buffer block by block, so that there is no second copy of it in memory. `blocks` is to be
    closed, which lets the buffer go.
    """

    def __init__(self, metadata: Mapping[str, object], data: bytes | bytearray | memoryview) -> None:
        boundary = secrets.token_hex(16)  # that the data hold it is as likely as guessing a key
        self._data = data
        self._head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(metadata)}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/related; boundary={boundary}"
        with memoryview(data) as view:
            self.size = len(self._head) + view.nbytes + len(self._tail)

    def blocks(self, deadline: Deadline) -> Iterator[bytes]:
        """The body; raises `TimeoutError` once the deadline has passed."""
        yield self._head
        for block in _slices(self._data, _BLOCK):
            if deadline.expired:
                raise TimeoutError("the deadline has passed")
            yield block
        yield self._tail


def crc32c(data: bytes | bytearray | memoryview) -> str:
    """The checksum as the service writes it: base64 of four bytes, the highest first."""
    value = 0
    for block in _slices(data, _SUMMED_AT_ONCE):
        value = google_crc32c.extend(value, block)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def told_crc32c(header: str | None) -> str | None:
    """The checksum in an `x-goog-hash` header, such as `crc32c=n03x6A==,md5=…`; None where there is none."""
    for part in (header or "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "crc32c":
            return value
    return None


def _slices(data: bytes | bytearray | memoryview, size: int) -> Iterator[bytes]:
    with memoryview(data) as whole, whole.cast("B") as view:
        for start in range(0, len(view), size):
            yield bytes(view[start : start + size])
