"""Starts the reader process, and is its other end: the view that it holds, and the stream that it sends."""

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

from penstock.api import (
    ChildOutput,
    DumpFailed,
    DumpStream,
    PenstockError,
    SourceDenied,
    SourceError,
    SourceUnreachable,
    StopToken,
)
from penstock_sqlite.settings import SqliteSettings

__all__ = ["ImageStream", "Reader"]

# -I keeps PYTHON* variables and the working directory out; the package is found where this process found it.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from penstock_sqlite.reader import serve; "
    "sys.exit(serve(int(sys.argv[2]), 1))"
)
_KINDS: dict[str, type[SourceError]] = {
    "unreachable": SourceUnreachable,
    "denied": SourceDenied,
    "broken": SourceError,
}


class Reader:
    """A process that holds one view of the database, from `answer()` until `end()`.

    It is a process of its own because it reads the database file itself, and closing a file takes away all locks that
    its process has on it: also those of connections that belong to somebody else.
    """

    def __init__(self, settings: SqliteSettings, stop: StopToken) -> None:
        self.path = str(settings.path)
        self._request = {
            "path": os.path.abspath(settings.path),  # noqa: PTH100 - resolves no symbolic links, and keeps any bytes
            "busy_timeout": settings.busy_timeout,
            "row_counts": settings.row_counts,
            "integrity_check": settings.integrity_check,
            "immutable": settings.immutable,
            "copy_to": None if settings.copy_to is None else str(settings.copy_to),
        }
        low, self._commands = os.pipe()
        # In a process without standard streams it has one of their numbers, which the reader's own take.
        commands = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(low)
        try:
            self._output = ChildOutput(
                [sys.executable, "-I", "-c", _PROGRAM, str(Path(__file__).resolve().parent.parent), str(commands)],
                name=f"the reader of {self.path}",
                stall_timeout=settings.stall_timeout + settings.busy_timeout,
                pass_fds=[commands],
                stop=stop,
            )
        except BaseException:
            os.close(self._commands)
            raise
        finally:
            os.close(commands)

    def answer(self) -> dict[str, Any]:
        """What the view is like; from here on it is held. Raises what `Source.inspect` raises, or `DumpFailed`."""
        self._tell(json.dumps(self._request))
        pending = b""
        buffer = memoryview(bytearray(1 << 16))
        while count := self._output.readinto(buffer):
            # Nothing of the image can be among it: that is not sent before it is asked for.
            *lines, pending = (pending + buffer[:count]).split(b"\n")
            for message in map(json.loads, lines):
                if "view" in message:
                    return dict(message["view"])
                if "error" in message:
                    raise _translated(message["error"])
        self._output.close()  # says how the process ended
        raise DumpFailed(f"{self.path}: the reader process gave no answer")

    def stream(self, size: int) -> "ImageStream":
        """Ask for the image, of `size` bytes. Can be done once."""
        self._tell("stream")
        return ImageStream(self._output, self.path, size)

    def end(self) -> None:
        """Let the database go: kill the process if it runs, reap it, free everything. May be called again."""
        self._output.abort()
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def _tell(self, line: str) -> None:
        try:
            os.write(self._commands, line.encode() + b"\n")  # short: a pipe takes it whole
        except BrokenPipeError:
            return  # the process died: the next read says so


class ImageStream(DumpStream):
    """The image of the database file, as the reader process sends it."""

    def __init__(self, output: ChildOutput, path: str, size: int) -> None:
        self._output = output
        self._path = path
        self._size = size
        self._received = 0
        self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        """As the contract says."""
        count = self._output.readinto(buffer)
        self._received += count
        return count

    def close(self) -> None:
        """As the contract says: the process has to exit with 0, and the image to have the length that it announced."""
        if self._closed:
            return
        self._closed = True
        try:
            self._output.close()
        except DumpFailed as error:
            raise type(error)(
                f"{self._path}: the dump broke off after {self._received} of {self._size} bytes: {error.message}",
                hint=error.hint,
                details=error.details,
            ) from error
        if self._received != self._size:
            raise DumpFailed(f"{self._path}: the dump has {self._received} bytes instead of {self._size}")

    def abort(self) -> None:
        """As the contract says."""
        self._output.abort()


def _translated(problem: dict[str, Any]) -> PenstockError:
    kind = _KINDS[problem["kind"]]
    return kind(problem["message"], hint=problem["hint"], details=tuple(problem["details"]))
