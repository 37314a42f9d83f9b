"""Penstock's command and the engine's own programs, on private servers: what the benchmarks of databases share."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks.measure import Cost, Spread, run
from tests.servers.mysql import MySQLServer, MySQLServers, Vendor
from tests.servers.postgres import PostgresServer, PostgresServers

__all__ = ["ENGINES", "Penstock", "PlainMySQL", "PlainPostgres", "compared", "private_engine", "private_server"]

ENGINES = ("postgres", "mariadb", "mysql")

T = TypeVar("T")

_PASSPHRASE = "correct horse battery staple"
#: What a server outside of tests does: it makes sure that what it has committed is on the disk.
_DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on")
_DURABLE_MYSQL: dict[Vendor, tuple[str, ...]] = {
    "mariadb": ("--innodb-flush-log-at-trx-commit=1", "--innodb-doublewrite=ON", "--innodb-flush-method=fsync"),
    "mysql": ("--innodb-flush-log-at-trx-commit=1", "--innodb-doublewrite=ON"),
}


class Penstock:
    """The command with a repository of its own in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = str(Path(sys.executable).with_name("penstock"))
        self.run("init")

    def run(self, *arguments: str) -> Cost:
        """One command, to its end."""
        environment = {
            "HOME": str(self._folder / "home"),
            "PENSTOCK_REPOSITORY": f"file://{self._folder / 'repository'}",
            "PENSTOCK_PASSPHRASE": _PASSPHRASE,
            "PENSTOCK_CACHE_DIR": str(self._folder / "cache"),
        }
        return run([self._program, *arguments], environment)


class PlainPostgres:
    """The client programs of a server, as they are used without a backup program."""

    def __init__(self, server: PostgresServer) -> None:
        if server.bin is None:
            raise SystemExit("the client programs of the PostgreSQL server are not on this machine")
        self.server = server
        self._bin = server.bin

    def command(self, program: str, *arguments: str) -> list[str]:
        """A program of that server, told where it is."""
        server = self.server
        where = [f"--host={server.host}", f"--port={server.port}", f"--username={server.user}"]
        return [str(self._bin / program), *where, *arguments]

    def url(self, database: str = "", **settings: str) -> str:
        """For Penstock, with the same programs."""
        query = "&".join(f"{name}={value}" for name, value in {"client_path": str(self._bin), **settings}.items())
        return f"postgres://{self.server.user}@{self.server.host}:{self.server.port}/{database}?{query}"

    def run(self, program: str, *arguments: str) -> Cost:
        """It, to its end."""
        return run(self.command(program, *arguments), {})


@contextmanager
def private_server() -> Iterator[tuple[PlainPostgres, Path]]:
    """The newest PostgreSQL, as durable as one in use, and an empty folder, both gone at the end of the block."""
    with closing(PostgresServers()) as servers, TemporaryDirectory(prefix="penstock-bench-") as folder:
        yield PlainPostgres(servers.private(settings=_DURABLE)), Path(folder)


class PlainMySQL:
    """The client programs of a server, as they are used without a backup program, by an account without a password."""

    _ACCOUNT = "bench"

    def __init__(self, server: MySQLServer) -> None:
        self.server = server
        self.client = server.vendor
        self.dumper = "mariadb-dump" if server.vendor == "mariadb" else "mysqldump"
        server.execute(f"CREATE USER {self._ACCOUNT}@'%' IDENTIFIED BY ''")
        server.execute(f"GRANT ALL ON *.* TO {self._ACCOUNT}@'%' WITH GRANT OPTION")

    def url(self, **settings: str) -> str:
        """For Penstock, with the same programs."""
        server = self.server
        query = "&".join(f"{name}={value}" for name, value in {"client_path": str(server.bin), **settings}.items())
        return f"{server.vendor}://{self._ACCOUNT}@{server.host}:{server.port}/?{query}"

    def run(self, program: str, *arguments: str, stdin: Path | None = None, stdout: Path | None = None) -> Cost:
        """A program of that server, to its end."""
        where = ["--no-defaults", "--protocol=tcp", f"--host={self.server.host}", f"--port={self.server.port}"]
        command = [str(self.server.bin / program), *where, f"--user={self._ACCOUNT}", *arguments]
        return run(command, {}, stdin, stdout)


@contextmanager
def _private_mysql(vendor: Vendor) -> Iterator[tuple[PlainMySQL, Path]]:
    with closing(MySQLServers()) as servers, TemporaryDirectory(prefix="penstock-bench-") as folder:
        yield PlainMySQL(servers.get(vendor, *_DURABLE_MYSQL[vendor])), Path(folder)


@contextmanager
def private_engine(
    name: str, of_postgres: Callable[[PlainPostgres, Path], T], of_mysql: Callable[[PlainMySQL, Path], T]
) -> Iterator[tuple[T, Path]]:
    """What a benchmark makes of a server (one of `ENGINES`, as durable as one in use) and of an empty folder.

    Both are gone at the end of the block.
    """
    if name == "postgres":
        with private_server() as (postgres, folder):
            yield of_postgres(postgres, folder), folder
    else:
        with _private_mysql("mysql" if name == "mysql" else "mariadb") as (mysql, folder):
            yield of_mysql(mysql, folder), folder


def compared(rounds: int, one: Callable[[], Cost], other: Callable[[], Cost]) -> Sequence[Spread]:
    """Both in turn: the wall-clock seconds of each, and the ratios of one to the other."""
    pairs = [(one().wall, other().wall) for _ in range(rounds)]
    ones, others = zip(*pairs, strict=True)
    return Spread.of(ones), Spread.of(others), Spread.of_ratios(ones, others)
