"""What a command costs: CPU, wall-clock time and memory of its whole process tree."""

import os
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

__all__ = ["Cost", "OnStart", "Spread", "in_turn", "run", "size_of"]

T = TypeVar("T")
#: Told of the id of a process that was started.
OnStart = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU (user and system, of all processes) and wall-clock time in seconds; peak RSS of the largest in bytes."""

    cpu: float
    wall: float
    rss: int

    def __add__(self, later: "Cost") -> "Cost":
        """Of this command, and of another one after it."""
        return Cost(self.cpu + later.cpu, self.wall + later.wall, max(self.rss, later.rss))


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    stdin: Path | None = None,
    stdout: Path | None = None,
    on_start: OnStart | None = None,
) -> Cost:
    """Run a command to its end; raises `CalledProcessError` if it fails. Its stderr goes to ours.

    Start-up counts: the clock starts before the process does. The kernel adds up the usage of each process and of the
    children it waited for.
    """
    with (
        Path(stdin or os.devnull).open("rb") as source,
        Path(stdout or os.devnull).open("wb") as target,
    ):
        begun = time.monotonic()
        child = subprocess.Popen(command, env=_compiled(os.environ | environment), stdin=source, stdout=target)
        if on_start is not None:
            on_start(child.pid)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
    # `child` must not wait a second time.
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, list(command))
    return Cost(used.ru_utime + used.ru_stime, wall, _rss(used))


def _compiled(environment: dict[str, str]) -> dict[str, str]:
    """Without what keeps Python from storing its bytecode: an installed program does not compile at each start."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _rss(used: resource.struct_rusage) -> int:
    return used.ru_maxrss * 1024  # Linux counts KiB


def size_of(folder: Path) -> int:
    """Total size in bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_turn(things: Sequence[T], number: int) -> list[T]:
    """Rotate the order, so that another one begins in each round."""
    start = number % len(things)
    return [*things[start:], *things[:start]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, and their spread."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """Of at least one figure."""
        return cls(median(figures), min(figures), max(figures))

    @classmethod
    def of_ratios(cls, ones: Sequence[float], others: Sequence[float]) -> "Spread":
        """Of each to the one of the others that was measured beside it."""
        return cls.of([one / other for one, other in zip(ones, others, strict=True)])

    def __str__(self) -> str:
        if f"{self.least:.2f}" == f"{self.most:.2f}":
            return f"{self.middle:.2f}"
        return f"{self.middle:.2f} ({self.least:.2f} to {self.most:.2f})"
