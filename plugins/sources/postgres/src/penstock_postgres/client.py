"""The client programs: where they are, which version they have, and which of them fits."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from penstock.api import NEVER, ClientMissing, ClientTooOld, StopToken, find_programs

__all__ = ["Client", "client_for_dump", "client_for_restore", "find_clients"]

#: Where packages of the usual systems put the programs of each major: Debian, PGDG's RPMs, Alpine, Homebrew, source.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)


@dataclass(frozen=True, slots=True)
class Client:
    """One folder with programs of one version."""

    folder: Path
    version: str
    major: int

    def has(self, program: str) -> bool:
        """Whether the folder has that program."""
        return os.access(self.folder / program, os.X_OK)

    def program(self, name: str) -> str:
        """The path of a program; raises `ClientMissing`."""
        if not self.has(name):
            raise ClientMissing(f"{self.folder} has no {name}", hint=_how_to_install(self.major))
        return str(self.folder / name)


def find_clients(program: str, client_path: Path | None = None, stop: StopToken = NEVER) -> list[Client]:
    """All installations that have `program`: those on PATH first, then those of the usual folders.

    With `client_path` no other folder is searched. Raises `ClientMissing` when none is found.
    """
    found = find_programs(
        [program],
        _version,
        folders=_FOLDERS,
        client_path=client_path,
        install=_how_to_install(None),
        stop=stop,
        # Debian's wrapper on PATH chooses a version by rules of its own; what it chooses from is found anyway.
        skip=lambda path: path.resolve().name == "pg_wrapper",
    )
    return [Client(one.path.parent, one.version, major_of(one.version)) for one in found]


def client_for_dump(server: str, clients: Iterable[Client]) -> Client:
    """The client that dumps a server of version `server`: of the same major, else of the next newer one.

    A newer client can dump an older server, but what it writes may be restored only by one that is as new.
    Raises `ClientTooOld`.
    """
    clients = list(clients)
    best = _nearest(major_of(server), clients)
    if best is None:
        raise ClientTooOld(
            f"the server is PostgreSQL {server}, but the newest pg_dump here is {_newest(clients)}: it cannot dump it",
            hint=_how_to_install(major_of(server)),
        )
    return best


def client_for_restore(dumped_by: str, target: str, clients: Iterable[Client]) -> Client:
    """The client that restores what pg_dump `dumped_by` wrote into a server of version `target`.

    It must not be older than that pg_dump. Of those the target's own major is best, because a newer pg_restore may
    use what an older server does not know. Raises `ClientTooOld`.
    """
    clients = list(clients)
    needed = major_of(dumped_by)
    best = _nearest(max(needed, major_of(target)), clients) or _nearest(needed, clients)
    if best is None:
        raise ClientTooOld(
            f"the dump was written by pg_dump {dumped_by}, but the newest pg_restore here is {_newest(clients)}: "
            "it cannot read it",
            hint=_how_to_install(needed),
        )
    return best


def major_of(version: str) -> int:
    """The major of `17.9`, `18beta1` or `15.20 (Debian 15.20-0+deb12u1)`; 0 if there is none."""
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


def _nearest(major: int, clients: list[Client]) -> Client | None:
    fitting = [client for client in clients if client.major >= major]
    return min(fitting, key=lambda client: (client.major, -_minor(client.version)), default=None)


def _newest(clients: list[Client]) -> str:
    newest = max(clients, key=lambda client: (client.major, _minor(client.version)))
    return f"{newest.version} in {newest.folder}"


def _minor(version: str) -> int:
    found = re.match(r"\d+\.(\d+)", version)
    return int(found[1]) if found else 0


def _version(answer: str) -> str | None:
    found = re.search(r"\(PostgreSQL\) (\S+)", answer)
    return found[1] if found else None


def _how_to_install(major: int | None) -> str:
    number = str(major) if major else "<major>"
    return (
        f"Install the client programs of PostgreSQL {number} or newer (Debian and Ubuntu: postgresql-client-{number}, "
        f"RPM systems: postgresql{number}; both from the PostgreSQL project's own package repository), "
        "or set client_path to their folder."
    )
