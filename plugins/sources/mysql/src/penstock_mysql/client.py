"""The client programs: where they are, whose and how old they are, and which of them fits."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from penstock.api import ClientMissing, ClientTooOld, SourceError, run_child
from penstock_mysql.dialect import DIALECTS, Dialect, Version, client_version

__all__ = ["Client", "client_for_dump", "client_for_restore", "find_clients"]

#: Where programs are that are not on PATH: MySQL's own packages, Homebrew.
_FOLDERS = (
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/mysql/bin",
    "/opt/mysql/*/bin",
    "/opt/homebrew/opt/mysql*/bin",
    "/opt/homebrew/opt/mariadb*/bin",
    "/usr/local/opt/mysql*/bin",
    "/usr/local/opt/mariadb*/bin",
)
_VERSION_SECONDS = 30.0

Task = Literal["dump", "restore"]


@dataclass(frozen=True, slots=True)
class Client:
    """One client program."""

    path: Path
    version: Version

    @property
    def dialect(self) -> Dialect:
        """What it understands."""
        return DIALECTS[self.version.vendor]


def find_clients(task: Task, client_path: Path | None = None) -> list[Client]:
    """All programs for a task: those on PATH first, then those of the usual folders.

    With `client_path` no other folder is looked at. Raises `ClientMissing` when there is none.
    """
    clients: dict[Path, Client] = {}
    broken: list[str] = []
    for folder in [client_path] if client_path else _candidates():
        for name in _names(task):
            path = folder / name
            if not os.access(path, os.X_OK) or path.is_dir() or path.resolve() in clients:
                continue
            try:
                answer = run_child([str(path), "--no-defaults", "--version"], name=str(path), timeout=_VERSION_SECONDS)
            except SourceError as error:
                broken.append(error.message)
                continue
            if version := client_version(answer.decode(errors="replace")):
                clients[path.resolve()] = Client(path, version)
    if not clients:
        where = f"in {client_path}, which client_path names" if client_path else "on PATH or in the usual folders"
        raise ClientMissing(
            f"there is no {' or '.join(_names(task))} {where}",
            hint="install the client programs of the server's own make, or let client_path name their folder",
            details=tuple(broken),
        )
    return list(clients.values())


def client_for_dump(server: Version, clients: list[Client], *, older: bool = False) -> Client:
    """The client that dumps a server: of its own make and as new as it, or the next newer one there is.

    The other make's client is never taken: MariaDB's writes dumps of MySQL that no server takes back, and exits with
    0; MySQL's does not know what only MariaDB has. `older` allows an older major. Raises `ClientMissing`,
    `ClientTooOld`.
    """
    return _nearest(server, clients, server.numbers, "dump", None if older else server.major)


def client_for_restore(server: Version, clients: list[Client], dumped_by: Version | None = None) -> Client:
    """The client that writes to a server: of its own make, the nearest to it that is not older.

    It only passes statements on, so any major will do, but one that is older than MySQL 8 does not know how an
    account logs in there. `dumped_by` is taken into account where it is of the same make. Raises `ClientMissing`.
    """
    wanted = server.numbers
    if dumped_by and dumped_by.vendor == server.vendor:
        wanted = max(wanted, dumped_by.numbers)
    return _nearest(server, clients, wanted, "restore", None)


def _nearest(
    server: Version, clients: list[Client], wanted: tuple[int, ...], task: Task, least: tuple[int, ...] | None
) -> Client:
    dialect = DIALECTS[server.vendor]
    same = sorted((client for client in clients if client.version.vendor == server.vendor), key=lambda c: c.version)
    if not same:
        others = ", ".join(f"{client.path} ({client.version})" for client in clients)
        raise ClientMissing(
            f"the server is {server}, but the only client programs here are of the other make: {others}",
            hint=_how_to_install(dialect, task),
        )
    best = next((client for client in same if client.version.numbers[:2] >= wanted[:2]), same[-1])
    if least is not None and best.version.numbers[: len(least)] < least:
        raise ClientTooOld(
            f"the server is {server}, but the newest client program here is {best.path} of {best.version}",
            hint=f"{_how_to_install(dialect, task)}; or allow it with older_client = true and try a restore",
        )
    return best


def _names(task: Task) -> tuple[str, ...]:
    found = [d.dump_programs if task == "dump" else d.client_programs for d in (DIALECTS["mariadb"], DIALECTS["mysql"])]
    return tuple(dict.fromkeys(name for names in found for name in names))


def _candidates() -> Iterator[Path]:
    yield from (Path(folder) for folder in os.get_exec_path())
    for pattern in _FOLDERS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)


def _how_to_install(dialect: Dialect, task: Task) -> str:
    program = (dialect.dump_programs if task == "dump" else dialect.client_programs)[0]
    return (
        f"install {dialect.title}'s {program} (package {dialect.packages}), as new as the server, "
        "or let the setting client_path name its folder"
    )
