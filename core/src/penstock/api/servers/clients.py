"""The engines' client programs: where they are, which version they have, and how they are told a secret."""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from penstock.api.errors import ClientMissing, SourceError
from penstock.api.process import run_child
from penstock.api.process.environment import search_path
from penstock.api.stopping import NEVER, StopToken

__all__ = ["Program", "find_programs", "piped"]

V = TypeVar("V")

_VERSION_SECONDS = 30.0


@dataclass(frozen=True)  # without slots: with them, Program[Version](…) is a TypeError in Python 3.11
class Program(Generic[V]):
    """One client program, and its version as the source understands it."""

    path: Path
    version: V


def find_programs(
    names: Sequence[str],
    version: Callable[[str], V | None],
    *,
    folders: Sequence[str],
    client_path: Path | None,
    install: str,
    arguments: Sequence[str] = ("--version",),
    skip: Callable[[Path], bool] = lambda _: False,
    stop: StopToken = NEVER,
) -> Iterator[Program[V]]:
    """All programs that have one of `names`: those on PATH first, then those in `folders`, which are globs.

    With `client_path` no other folder is searched. Each program is asked for its version once, by `arguments`, when its
    turn comes; `version` makes a value of the answer, None where it is another program's. `skip` says what is not even
    asked. Raises `ClientMissing` with the hint `install` at the end, when none was found; `Interrupted` after a stop.
    """
    seen: set[Path] = set()
    broken: list[str] = []
    any_found = False
    for path in _candidates(names, [client_path] if client_path else _folders(folders)):
        real = path.resolve()
        if real in seen or not os.access(path, os.X_OK) or path.is_dir() or skip(path):
            continue
        seen.add(real)
        try:
            answer = run_child([str(path), *arguments], name=str(path), timeout=_VERSION_SECONDS, stop=stop)
        except SourceError as error:
            broken.append(error.message)
            continue
        found = version(answer.decode(errors="replace"))
        if found is None:
            broken.append(f"{path} {arguments[-1]} gave no known version")
            continue
        any_found = True
        yield Program(path, found)
    if not any_found:
        where = f"in {client_path}, which client_path names" if client_path else "on PATH or in the usual folders"
        raise ClientMissing(f"no {' or '.join(names)} was found {where}", hint=install, details=tuple(broken))


@contextmanager
def piped(text: str) -> Iterator[int]:
    """A descriptor from which a child that inherits it (`pass_fds`) reads `text`: nothing touches the disk.

    It is open for the length of the block, in which the child is started; the child's own lives as long as it does.
    Raises `SourceError` for more than a pipe holds, 64 KiB on Linux: nobody reads it yet.
    """
    low, writing = os.pipe()
    # In a process without standard streams it has one of their numbers, which the child's own take.
    reading = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(low)
    try:
        try:
            os.set_blocking(writing, False)  # more than a pipe holds would wait for a reader
            data = text.encode()
            if os.write(writing, data) != len(data):
                raise BlockingIOError
        except BlockingIOError:
            raise SourceError("the connection's settings are too long to be handed to a client program") from None
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _folders(patterns: Sequence[str]) -> Iterator[Path]:
    yield from map(Path, search_path())
    for pattern in patterns:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)


def _candidates(names: Sequence[str], folders: Iterator[Path] | Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for name in names:
            yield folder / name
