"""The bytes of one object on their way: upwards out of the caller's buffer, downwards into one `bytes`."""

import io
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from penstock.api import Deadline, SinkUnreachable, content_range, drain
from penstock_s3.refusals import http_status

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Upload", "download"]

#: Small, so that the deadline is looked at often enough on a slow line.
_BLOCK = 64 * 1024


class Upload(io.RawIOBase):
    """A seekable reader of the caller's buffer, which is copied block by block and let go of by `close`.

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
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes: the SDK reads it once for the checksum and once to send it."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; raises `TimeoutError` once the deadline has passed."""
        if self._deadline.expired:
            raise TimeoutError("the deadline has passed")
        end = len(self._view) if size is None or size < 0 else min(self._at + size, len(self._view))
        block = bytes(self._view[self._at : end])
        self._at = max(self._at, end)
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
        """Let the caller's buffer go."""
        self._view.release()
        super().close()


def download(
    client: "S3Client",
    deadline: Deadline,
    *,
    read_timeout: float,
    key: str,
    place: Mapping[str, object],
    start: int,
    length: int | None,
) -> bytes:
    """The object's bytes from `start`, `length` of them (1 or more) or to the end; b"" from its end on.

    No wait for the next bytes is longer than `read_timeout` seconds.

    Raises `SinkUnreachable` when fewer arrive than the object has there, and what the SDK raises.
    """
    asked: Any = dict(place)
    if start or length is not None:
        asked["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
    try:
        response = client.get_object(**asked)
    except ClientError as error:
        if http_status(error) == 416 and "Range" in asked:
            return b""
        raise
    with closing(response["Body"]) as body:
        try:
            data = drain(
                lambda: body.read(_BLOCK),
                bound=body.set_socket_timeout,
                timeout=read_timeout,
                deadline=deadline,
                size=response["ContentLength"],
            )
        except TimeoutError as error:
            raise SinkUnreachable(key, str(error)) from error
    if len(data) != response["ContentLength"]:
        raise SinkUnreachable(key, f"the answer broke off after {len(data)} of {response['ContentLength']} bytes")
    given = response.get("ContentRange")
    if "Range" not in asked:
        return data
    if not given:  # a service without ranges gave all of it
        return data[start : None if length is None else start + length]
    first, total = content_range(given)
    end = total if length is None else min(start + length, total)
    if first != start or len(data) != end - start:
        raise SinkUnreachable(key, f"asked for bytes {start} to {end}, the service gave {given}")
    return data
