"""The MongoDB Database Tools: where they are, which version they have, and which servers they were made for."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from penstock.api import ClientMissing, SourceError, run_child

__all__ = ["Client", "find_client", "newest_server", "version_of"]

_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/mongodb-database-tools/bin")
_VERSION_SECONDS = 30.0
#: The newest server that each release of the tools supports, from their changelog.
_SUPPORT = (
    ((100, 13), 8, 2),
    ((100, 10), 8, 0),
    ((100, 8), 7, 0),
    ((100, 5), 6, 3),
    ((100, 4), 5, 0),
    ((100, 0), 4, 4),
)
_INSTALL = (
    "install the MongoDB Database Tools (package mongodb-database-tools of MongoDB's own package repository), "
    "or let the setting client_path name their folder"
)


@dataclass(frozen=True, slots=True)
class Client:
    """One of the tools."""

    program: str
    version: str


def find_client(name: str, client_path: Path | None = None) -> Client:
    """`mongodump` or `mongorestore`: from `client_path` alone, else from PATH or one of the usual folders.

    Raises `ClientMissing`.
    """
    folders = [client_path] if client_path else [*map(Path, os.get_exec_path()), *map(Path, _FOLDERS)]
    broken: list[str] = []
    for folder in folders:
        path = folder / name
        if not os.access(path, os.X_OK) or path.is_dir():
            continue
        try:
            answer = run_child([str(path), "--version"], name=str(path), timeout=_VERSION_SECONDS)
        except SourceError as error:
            broken.append(error.message)
            continue
        found = re.search(rb"version:\s*r?([0-9]+(?:\.[0-9]+)+\S*)", answer)
        if found:
            return Client(str(path), found[1].decode(errors="replace"))
        broken.append(f"{path} --version does not say which version it is")
    where = f"in {client_path}, which client_path names" if client_path else "on PATH or in the usual folders"
    raise ClientMissing(f"there is no {name} {where}", hint=_INSTALL, details=tuple(broken))


def newest_server(client: str) -> tuple[int, int]:
    """The newest server (major, minor) that tools of version `client` support."""
    version = version_of(client)
    return next(((major, minor) for since, major, minor in _SUPPORT if version >= since), (4, 2))


def version_of(text: str) -> tuple[int, int]:
    """The first two numbers of `6.0.27`; zeros for what is no version."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
