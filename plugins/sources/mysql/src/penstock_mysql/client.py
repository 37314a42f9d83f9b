"""The client programs: where they are, whose and how old they are, and which of them fits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from penstock.api import NEVER, ClientMissing, ClientTooOld, StopToken, find_programs
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

    @property
    def keeps_long_dumps(self) -> bool:
        """Whether a dump of it lives on when nobody reads it for longer than the server's net_write_timeout."""
        return self.version.numbers >= self.dialect.dump_session_since


def find_clients(task: Task, client_path: Path | None = None, stop: StopToken = NEVER) -> list[Client]:
    """All programs for a task: those on PATH first, then those of the usual folders.

    With `client_path` no other folder is searched. Raises `ClientMissing` when none is found.
    """
    found = find_programs(
        _names(task),
        client_version,
        folders=_FOLDERS,
        client_path=client_path,
        install="Install the client programs of the server's own make, or set client_path to their folder.",
        arguments=("--no-defaults", "--version"),
        stop=stop,
    )
    return [Client(one.path, one.version) for one in found]


def client_for_dump(server: Version, clients: list[Client], *, older: bool = False) -> Client:
    """The client that dumps a server: of its own make and as new as it, or the next newer one.

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
            hint=f"{_how_to_install(dialect, task)} Or allow it with older_client = true, and try a restore.",
        )
    return best


def _names(task: Task) -> tuple[str, ...]:
    found = [d.dump_programs if task == "dump" else d.client_programs for d in (DIALECTS["mariadb"], DIALECTS["mysql"])]
    return tuple(dict.fromkeys(name for names in found for name in names))


def _how_to_install(dialect: Dialect, task: Task) -> str:
    program = (dialect.dump_programs if task == "dump" else dialect.client_programs)[0]
    return (
        f"Install {dialect.title}'s {program} (package {dialect.packages}), as new as the server, "
        "or set client_path to its folder."
    )
