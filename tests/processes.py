"""The processes that a test has started, with theirs; what else runs on the machine is nobody's business here.

Other tests, other checkouts and other people's programs may show what they like, and come and go as they like.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "descendants", "parent_of", "running"]

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process as it was when somebody looked."""

    pid: int
    #: Its arguments, as `ps` shows them to everybody: each with a NUL at its end. A zombie has none.
    arguments: bytes

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process with that id; without arguments when it is gone."""
        with suppress(OSError):
            return cls(pid, (_PROC / str(pid) / "cmdline").read_bytes())
        return cls(pid, b"")

    @property
    def program(self) -> str:
        """The name of what it runs, without its folder."""
        return os.fsdecode(self.arguments.partition(b"\0")[0]).rpartition("/")[2]

    @property
    def environment(self) -> bytes:
        """What it was started with; empty when it is gone or belongs to somebody else."""
        with suppress(OSError):
            return (_PROC / str(self.pid) / "environ").read_bytes()
        return b""


def descendants(*of: int) -> list[Process]:
    """Everything that this process, or those with these ids, has started, with what that has started."""
    parents = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (parent := parent_of(int(entry.name))) is not None:
            parents[int(entry.name)] = parent
    roots = set(of or (os.getpid(),))
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return [Process.of(pid) for pid in sorted(found - roots)]


def running(program: str) -> list[int]:
    """The ids of those that run `program`; its name is matched as a regular expression."""
    return [process.pid for process in descendants() if re.fullmatch(program, process.program)]


def parent_of(pid: int) -> int | None:
    """The parent of a process, None when it is gone."""
    with suppress(OSError):
        return int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return None
