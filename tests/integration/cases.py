"""Sources and sinks as the story of the tests sees them, one small class each; those that need no service of others.

A new source or sink adds a class, here or in a module of its own, and a line in `matrix.py`; the tests that are for all
of them run with it.
"""

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import sql
from tests.integration import databases
from tests.integration.databases import Content
from tests.servers import versions
from tests.servers.postgres import PostgresServer, PostgresServers


@dataclass(frozen=True)
class Bench:
    """What cases are made of."""

    folder: Path
    servers: PostgresServers


@dataclass(frozen=True)
class Target:
    """Where nothing is yet."""

    url: str
    environ: dict[str, str]
    content: Callable[[], Content]
    settings: dict[str, Any] = field(default_factory=dict)


def in_domain(key: str) -> str:
    """What is left of an object's key without the domain that it is in."""
    return key.split("/", 2)[2] if key.startswith("d/") else key


class SourceCase(ABC):
    """A database that lives: it is filled, it changes, and what it holds can be compared."""

    #: How the backup is called.
    name: str
    url: str
    #: What a host needs to reach it, besides the URL: secrets, by the variables that they are in.
    environ: dict[str, str]
    #: What a settings file must say besides the URL: where secrets are, if no variable of the engine's own holds them.
    settings: Mapping[str, Any] = MappingProxyType({})
    #: The engine, and the program that dumps it.
    versions: tuple[str, str]

    @abstractmethod
    def seed(self) -> None:
        """Fill it."""

    @abstractmethod
    def change(self) -> None:
        """Change a little of it."""

    @abstractmethod
    def content(self) -> Content:
        """All that it holds, and all that a restore brings back."""

    @abstractmethod
    def rows(self) -> dict[str, int]:
        """Rows of some tables, by the names that an inventory has for them."""

    @abstractmethod
    def fresh_target(self) -> AbstractContextManager[Target]:
        """The emptiest place there is to restore into: a new server, not only a new database.

        Of a server from outside there is no second one. It loses the database then, and is the place itself.
        """


class SinkCase(ABC):
    """A place for a repository that is looked at from behind, past Penstock."""

    url: str
    environ: dict[str, str]
    settings: Mapping[str, Any] = MappingProxyType({})
    version: str

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Everything that is kept there, with what it takes in bytes; unfinished writes too."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """One object."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Put it there, whatever is there already."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Take it away."""

    def stored(self) -> int:
        """All bytes that are kept there."""
        return sum(self.sizes().values())

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that begin so, in the repository or in a domain of it."""
        return sorted(key for key in self.sizes() if in_domain(key).startswith(prefix))

    def packs(self) -> dict[str, int]:
        """The packs, and their sizes."""
        return {key: size for key, size in self.sizes().items() if in_domain(key).startswith("packs/")}

    def digests(self) -> dict[str, str]:
        """Every object, and what is in it."""
        return {key: hashlib.blake2b(self.read(key)).hexdigest() for key in self.sizes()}


class SqliteCase(SourceCase):
    """A database file, with a write-ahead log that nobody has brought in yet."""

    name = "shop"
    versions = ("SQLite", "its library")

    def __init__(self, bench: Bench) -> None:
        import sqlite3

        self._folder = bench.folder
        self.path = bench.folder / "shop's database.db"
        self.url = f"sqlite://{quote(str(self.path))}"
        self.environ = {}
        self.versions = (f"SQLite {sqlite3.sqlite_version}", "-")

    def seed(self) -> None:
        databases.make_sqlite(self.path)

    def change(self) -> None:
        databases.change_sqlite(self.path)

    def content(self) -> Content:
        return databases.content_of_sqlite(self.path)

    def rows(self) -> dict[str, int]:
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(self.path)) as db:
            return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("orders", "log")}

    @contextmanager
    def fresh_target(self) -> Iterator[Target]:
        path = self._folder / "fresh" / "restored.db"
        path.parent.mkdir()

        def content() -> Content:
            assert list(path.parent.iterdir()) == [path]
            return databases.content_of_sqlite(path)

        yield Target(f"sqlite://{quote(str(path))}", {}, content)
        shutil.rmtree(path.parent)


class PostgresCase(SourceCase):
    """A database with a bit of everything, and pgbench's tables, on a server that asks for a password."""

    name = "shop"
    database = "shop of 'näme'"
    scale = 1

    def __init__(self, bench: Bench, major: int) -> None:
        self._servers = bench.servers
        self.server = bench.servers.get(major, "scram")
        if self.server.bin is None:
            pytest.skip(f"no client programs for PostgreSQL {major} to compare with")
        self.url = url_of(self.server, self.database)
        self.environ = {"PGPASSWORD": self.server.password}
        self.versions = (versions.engine(self.server), versions.client(self.server))
        self._roles = self._all_roles()

    def seed(self) -> None:
        databases.prepare_database(self.server, self.database)
        self.server.fill_nasty(self.database)
        self.server.execute("CREATE SCHEMA bench", self.database)
        databases.pgbench(self.server, self.database, self.scale, "bench")

    def change(self) -> None:
        self.server.execute(
            """
            UPDATE bench.pgbench_accounts SET abalance = aid WHERE aid % 1000 = 7;
            UPDATE shop.everything SET txt = 'changed' WHERE note = 'low';
            INSERT INTO pgbench_history SELECT 1, i, i, now(), 'new' FROM generate_series(1, 500) AS i;
            DELETE FROM shop.orders WHERE id % 500 = 0;
            ALTER TABLE shop.staff ADD COLUMN "since; --" date DEFAULT '2024-02-29';
            CREATE TABLE shop."new tåble" AS SELECT i FROM generate_series(1, 100) AS i;
            SELECT lo_put(424244, 100, 'changed');
            REFRESH MATERIALIZED VIEW shop.balances;
            """,
            self.database,
        )

    def content(self) -> Content:
        return databases.content_of(self.server, self.database, roles=True)

    def rows(self) -> dict[str, int]:
        tables = ("bench.pgbench_accounts", "bench.pgbench_tellers", "public.pgbench_history", "shop.staff")
        return databases.rows_of(self.server, self.database, *tables)

    @contextmanager
    def fresh_target(self) -> Iterator[Target]:
        if self.server.pid is None:
            self.close()
            yield self._target(self.server)
        else:
            with self._servers.fresh(self.server.major, "scram") as server:
                yield self._target(server)

    def _target(self, server: PostgresServer) -> Target:
        return Target(
            url_of(server, self.database),
            {"PGPASSWORD": server.password},
            lambda: databases.content_of(server, self.database, roles=True),
        )

    def close(self) -> None:
        """Leave the server as it was."""
        self.server.drop(self.database)
        with self.server.connect() as connection:
            for role in self._all_roles() - self._roles:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    def _all_roles(self) -> set[str]:
        return {role for (role,) in self.server.query("SELECT rolname FROM pg_roles")}


class FilesystemCase(SinkCase):
    """A folder."""

    version = "filesystem"

    def __init__(self, bench: Bench) -> None:
        self.environ = {}
        self.root = bench.folder / "repository of all"
        self.url = f"file://{quote(str(self.root))}"

    def sizes(self) -> dict[str, int]:
        found = {}
        for path in self.root.rglob("*"):
            try:
                if path.is_file():
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_size
            except FileNotFoundError:  # somebody is writing
                continue
        return found

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(data)

    def delete(self, key: str) -> None:
        (self.root / key).unlink()


@contextmanager
def new_server(major: int) -> Iterator[PostgresServer]:
    """A server that has nothing but itself, and lives as long as the block."""
    servers = PostgresServers()
    try:
        with servers.fresh(major, "scram") as server:
            yield server
    finally:
        servers.close()


def url_of(server: PostgresServer, database: str, **query: object) -> str:
    """The URL of a database, with the server's own client programs."""
    words = "&".join(
        f"{name}={quote(str(value), safe='')}" for name, value in {"client_path": server.bin, **query}.items()
    )
    return f"postgres://{server.user}@{server.host}:{server.port}/{quote(database, safe='')}?{words}"
