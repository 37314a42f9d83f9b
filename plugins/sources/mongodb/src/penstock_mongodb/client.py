"""The MongoDB Database Tools: where they are, which version they have, and which servers they were made for."""

import re
from dataclasses import dataclass
from pathlib import Path

from penstock.api import NEVER, StopToken, find_programs

__all__ = ["Client", "find_client", "newest_server", "version_of"]

_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/mongodb-database-tools/bin")
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
    "Install the MongoDB Database Tools (package mongodb-database-tools of MongoDB's own package repository), "
    "or set client_path to their folder."
)


@dataclass(frozen=True, slots=True)
class Client:
    """One of the tools."""

    program: str
    version: str


def find_client(name: str, client_path: Path | None = None, stop: StopToken = NEVER) -> Client:
    """`mongodump` or `mongorestore`: from `client_path` alone, else from PATH or one of the usual folders.

    Raises `ClientMissing`.
    """
    found = find_programs([name], _version, folders=_FOLDERS, client_path=client_path, install=_INSTALL, stop=stop)
    first = next(found)
    return Client(str(first.path), first.version)


def newest_server(client: str) -> tuple[int, int]:
    """The newest server (major, minor) that tools of version `client` support."""
    version = version_of(client)
    return next(((major, minor) for since, major, minor in _SUPPORT if version >= since), (4, 2))


def version_of(text: str) -> tuple[int, int]:
    """The first two numbers of `6.0.27`; zeros if it has none."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _version(answer: str) -> str | None:
    found = re.search(r"version:\s*r?([0-9]+(?:\.[0-9]+)+\S*)", answer)
    return found[1] if found else None
