"""The reader process: looks at a database, then sends its image. Imports nothing outside the standard library.

It reads one request, a line of JSON, from a pipe of commands, and answers with lines of JSON on its output: any number
of `{"alive": true}`, then `{"view": …}` or `{"error": …}`. After the command `stream` it sends the image, and exits
with 0 if all of it was sent. When the commands end before that, which is also how it notices that its parent is gone,
so does the process.
"""

import json
import os
import select
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any, BinaryIO

from penstock_sqlite.inventory import examine, glance, inventory
from penstock_sqlite.view import BLOCK, View, ViewError, translated

__all__ = ["serve"]

_ALIVE_SECONDS = 1.0


def serve(commands: int, output: int) -> int:
    """Serve one request over two descriptors; returns the exit status."""
    try:
        line = _read_line(commands)
        if line:
            _serve(json.loads(line), commands, output)
    except ViewError as error:
        problem = {"kind": error.kind, "message": error.message, "hint": error.hint, "details": error.details}
        if not error.in_image:
            _say(output, {"error": problem})
        sys.stderr.write(error.message + "\n")
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _serve(request: dict[str, Any], commands: int, output: int) -> None:
    alive = _Pulse(commands, output)
    with ExitStack() as stack:
        view = stack.enter_context(
            View(request["path"], request["busy_timeout"], immutable=bool(request.get("immutable")))
        )
        with translated(view.path):
            answer = _describe(view, request, alive)
        blocks = view.blocks()
        if request["copy_to"] is not None:
            blocks = _spooled(stack.enter_context(_copied(view, request["copy_to"], alive)))
            view.close()
        _say(output, {"view": answer})
        if _read_line(commands) != b"stream\n":
            return
        try:
            for block in blocks:
                _write(output, block)
        except ViewError as error:
            error.in_image = True  # no line may be mixed into it
            raise


def _describe(view: View, request: dict[str, Any], alive: "_Pulse") -> dict[str, Any]:
    damage: tuple[str, ...] = ()
    unchecked = ""
    if request["integrity_check"] == "auto":
        damage, unchecked = glance(view, on_wait=alive)
    elif request["integrity_check"] != "off":
        examine(view, full=request["integrity_check"] == "full", on_wait=alive)
    items, unreadable = inventory(view, count=request["row_counts"] == "auto", on_wait=alive)
    return {
        "size": view.size,
        "page_size": view.page_size,
        "page_count": view.page_count,
        "journal_mode": view.journal_mode,
        "encoding": view.pragma("encoding"),
        "user_version": view.pragma("user_version"),
        "application_id": view.pragma("application_id"),
        "written_by": _version(int.from_bytes(view.header[96:100])),
        "mode": f"{view.stat.st_mode & 0o777:o}",
        "leaves_files": view.journal_mode == "wal"
        and not (view.had_log or view.immutable)
        and os.geteuid() not in {0, view.stat.st_uid},
        "immutable": view.immutable,
        "inventory": [asdict(item) for item in items],
        "unreadable": unreadable,
        "damage": damage,
        "unchecked": unchecked,
    }


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}" if number else "unknown"


@contextmanager
def _copied(view: View, folder: str, alive: "_Pulse") -> Iterator[BinaryIO]:
    """The image in a file without a name, which the system removes whatever happens to this process."""
    try:
        spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - to be translated is only what happens here
    except OSError as error:
        raise _no_copy(view, folder, error) from error
    with spool:
        try:
            for block in view.blocks():
                spool.write(block)
                alive()
            spool.seek(0)
        except OSError as error:
            raise _no_copy(view, folder, error) from error
        yield spool


def _no_copy(view: View, folder: str, error: OSError) -> ViewError:
    message = f"cannot copy {view.path} into {folder}: {error.strerror}"
    return ViewError("broken", message, "Set copy_to to a folder with room for the whole database.")


def _spooled(spool: BinaryIO) -> Iterator[memoryview]:
    while block := spool.read(BLOCK):
        yield memoryview(block)


def _write(descriptor: int, block: memoryview) -> None:
    while block:
        block = block[os.write(descriptor, block) :]


def _say(output: int, message: dict[str, Any]) -> None:
    _write(output, memoryview(json.dumps(message).encode() + b"\n"))


def _read_line(commands: int) -> bytes:
    """One line of the commands, without reading past it; b"" at their end."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(commands, 1)
        if not byte:
            return b""
        line += byte
    return bytes(line)


class _Pulse:
    """Called during long work: tells the parent that it goes on, and ends the process when the parent is gone."""

    def __init__(self, commands: int, output: int) -> None:
        self._commands = commands
        self._output = output
        self._next = time.monotonic() + _ALIVE_SECONDS

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _ALIVE_SECONDS
        if select.select([self._commands], [], [], 0)[0]:  # nothing is sent meanwhile, so this is their end
            os._exit(1)
        _say(self._output, {"alive": True})
