"""What a dump or a restore starts, and leaves behind, in this process and beside it. Reads /proc, so Linux only."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import pytest

from penstock.api.process.guardian import GUARDIAN

__all__ = ["Traces", "command_lines", "programs_started"]

_PROC = Path("/proc")
#: Where the command line stands among the arguments of Python's audit events for the start of a program.
_STARTS = {"subprocess.Popen": 1, "os.posix_spawn": 1, "os.exec": 1, "os.system": 0}


class Traces:
    """The child processes and open descriptors of this process, from when it is made.

    `settle` is how many seconds they are given to go: threads of a client library may close a socket a moment later,
    and a process that was killed takes its time to die. What is never reaped, or closed, is still there then.
    """

    settle: ClassVar[float] = 5.0

    def __init__(self) -> None:
        if not (_PROC / "self" / "fd").is_dir():
            pytest.skip("child processes and descriptors are looked for in /proc, which this system does not have")
        gc.collect()
        GUARDIAN.start()  # the first child would start it, and it stays as long as this process
        self._descriptors = _descriptors()
        self._known = _descendants()
        self._seen: dict[int, str] = {}

    def look(self) -> int:
        """Remember the processes that were started since, with theirs; gives how many run now."""
        found = {pid: start for pid, start in _descendants().items() if self._known.get(pid) != start}
        self._seen.update(found)
        return len(found)

    def check(self, after: str) -> None:
        """Fail where something is left; `after` says of what, for the message."""
        left = self.left()
        assert not left, f"{after} leaves behind: {', '.join(left)}"

    def left(self) -> list[str]:
        """What is there now and was not before, named: nothing, if all is well."""
        self.look()
        gc.collect()
        deadline = time.monotonic() + self.settle
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _left(self) -> list[str]:
        alive = [f"process {pid} ({_command(pid)})" for pid, start in self._seen.items() if _start(pid) == start]
        opened = {number: what for number, what in _descriptors().items() if self._descriptors.get(number) != what}
        return alive + [f"descriptor {number} ({what})" for number, what in opened.items()]


def command_lines() -> Iterator[str]:
    """The command line of every process below this one; others are none of our business, and may hold any secret."""
    for pid in _descendants():
        with suppress(OSError):
            yield (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


class _Starts:
    """Hears which programs this process starts. Python never forgets an audit hook: there is one, made when needed."""

    def __init__(self) -> None:
        self._listeners: list[set[str]] = []
        self._installed = False

    @contextmanager
    def heard(self) -> Iterator[set[str]]:
        if not self._installed:
            sys.addaudithook(self._hear)
            self._installed = True
        found: set[str] = set()
        self._listeners.append(found)
        try:
            yield found
        finally:
            self._listeners = [one for one in self._listeners if one is not found]

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _STARTS and self._listeners:
            words = arguments[_STARTS[event]]
            line = " ".join(map(_text, words)) if isinstance(words, list | tuple) else _text(words)
            for found in self._listeners:
                found.add(line)


_programs = _Starts()


@contextmanager
def programs_started() -> Iterator[set[str]]:
    """Collects the command line of every program that this process starts in the block, however soon it ends."""
    with _programs.heard() as found:
        yield found


def _text(word: object) -> str:
    return os.fsdecode(word) if isinstance(word, str | bytes | os.PathLike) else repr(word)


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in (_PROC / "self" / "fd").iterdir():
        with suppress(OSError):
            found[int(entry.name)] = str(entry.readlink())
    # The listing itself had one open.
    return {number: what for number, what in found.items() if not what.startswith(f"/proc/{os.getpid()}/")}


def _descendants() -> dict[int, str]:
    """The processes below this one, zombies included, with the time when each started."""
    parents: dict[int, tuple[int, str]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            parents[int(folder.name)] = (int(fields[1]), fields[19])
    ours = {os.getpid()}
    while more := {pid for pid, (parent, _) in parents.items() if parent in ours} - ours:
        ours |= more
    return {pid: parents[pid][1] for pid in ours - {os.getpid()}}


def _start(pid: int) -> str | None:
    fields = _stat(pid)
    # A zombie that the system has to reap is as good as gone; one that is left to this process is not.
    if not fields or (fields[0] == "Z" and int(fields[1]) != os.getpid()):
        return None
    return fields[19]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on: state, parent, ...; see proc(5)."""
    with suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def _command(pid: int) -> str:
    with suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    return "gone"
