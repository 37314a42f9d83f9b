from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.servers.postgres import PASSWORD, PostgresServer, PostgresServers, free_port

from penstock.testing.source_conformance import (
    BadObject,
    ChildProgram,
    Differences,
    NotApplicable,
    SourceConformance,
    SourceLab,
    Target,
    dump_all,
)
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.source import PostgresSource

pytestmark = pytest.mark.server

_SEED = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id serial PRIMARY KEY, what text NOT NULL, raw bytea, tags text[]);
INSERT INTO shop.orders (what, raw, tags)
    SELECT 'ördér ' || i, decode(repeat(md5(i::text), 3), 'hex'), ARRAY['a' || i, NULL]
    FROM generate_series(1, 1500) AS i;
CREATE INDEX ON shop.orders (what);
CREATE VIEW dear AS SELECT * FROM shop.orders WHERE id > 1000;
SELECT lo_from_bytea(0, 'a large object');
"""

#: An index on a function that finds another by the search path alone, and a mapping for a role.
_BAD = """
CREATE FUNCTION inner_one(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION outer_one(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN public.inner_one($1); END';
CREATE INDEX no_good ON shop.orders (outer_one(id));
CREATE OR REPLACE FUNCTION outer_one(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN inner_one($1); END';
"""
_MAPPED = "hunter2 of the mapping"
_MAPPING = f"""
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER far FOREIGN DATA WRAPPER nothing;
CREATE ROLE conformance_mapped;
CREATE USER MAPPING FOR conformance_mapped SERVER far OPTIONS (password '{_MAPPED}');
"""


class PostgresLab(SourceLab):
    secrets = (PASSWORD,)
    change_command = NotApplicable("a change is made by the server, which is another process anyway")
    differences = Differences(512, "the archive's time of creation, and the random key in the roles' SQL")

    def __init__(
        self, server: PostgresServer, folder: Path, cleaning: ExitStack, layout: Literal["archive", "tables"]
    ) -> None:
        self.server = server
        self._layout = layout
        self.targets = self.changes = 0
        self._cleaning = cleaning
        self._password = folder / "password"
        self._password.write_text(server.password, encoding="utf-8")
        self.database = cleaning.enter_context(server.database("conformance"))
        server.execute(_SEED, self.database)
        self._source = self._make(self.database)

    @property
    def source(self) -> PostgresSource:
        return self._source

    @property
    def program(self) -> ChildProgram | NotApplicable:
        if self._layout == "tables":
            return NotApplicable("rows come over a connection: test_copy_stream.py has what becomes of it")
        assert self.server.bin is not None
        return ChildProgram(
            self.server.bin / "pg_dump",
            unmarked=NotApplicable("pg_dump's archive has no end of its own: its exit status alone tells"),
        )

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> PostgresSource:
        folder = program.parent if program else self.server.bin
        timeout = stall_timeout or 60
        return self._make(self.database, client_path=folder, stall_timeout=timeout)

    def unreachable(self) -> PostgresSource:
        return self._make(self.database, port=free_port())

    def silent(self, host: str, port: int) -> PostgresSource:
        return self._make(self.database, host=host, port=port, connect_timeout=1)

    def content(self) -> object:
        return self.server.as_text(self.database)

    def rows(self) -> dict[str, int]:
        ((count,),) = self.server.query("SELECT count(*) FROM shop.orders", self.database)
        return {"shop.orders": int(count)}

    def change(self) -> None:
        # Not by the sequence: its steps are in no transaction, and so in no snapshot.
        self.changes += 1
        self.server.execute(f"INSERT INTO shop.orders (id, what) VALUES ({9000 + self.changes}, 'late')", self.database)

    def bad_objects(self) -> list[BadObject]:
        server, found = self.server, []
        for script, name, undo, secrets in (
            (_BAD, "no_good", "DROP INDEX shop.no_good", ()),
            (
                _MAPPING,
                "conformance_mapped",
                "DROP USER MAPPING FOR conformance_mapped SERVER far; DROP ROLE conformance_mapped",
                (_MAPPED,),
            ),
        ):
            with server.database("conformance bad") as database:
                server.execute(_SEED + script, database)
                dump = dump_all(self._make(database, accounts="no"))
                server.execute(undo, database)
                found.append(BadObject(dump, name, server.as_text(database), secrets=secrets))
        return found

    def target(self) -> Target:
        self.targets += 1
        name = f"conformance target {self.targets}"
        self.server.drop(name)
        self._cleaning.callback(self.server.drop, name)
        return Target(self._make(name), lambda: self._content_of(name))

    def _make(self, database: str, **more: Any) -> PostgresSource:
        server = self.server
        chosen = {"host": server.host, "port": server.port, "user": server.user, "database": database}
        chosen |= {"layout": self._layout, "client_path": server.bin, "password": {"file": self._password}}
        return PostgresSource(PostgresSettings.model_validate(chosen | more))

    def _content_of(self, name: str) -> str | None:
        there = self.server.query(f"SELECT 1 FROM pg_database WHERE datname = '{name}'")
        return self.server.as_text(name) if there else None


@pytest.fixture(scope="module", params=["archive", "tables"])
def seeded(
    request: pytest.FixtureRequest, postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SourceLab]:
    with ExitStack() as cleaning:
        server = postgres_servers.newest(auth="scram")
        yield PostgresLab(server, tmp_path_factory.mktemp("lab"), cleaning, request.param)


class TestPostgresSource(SourceConformance):
    @pytest.fixture
    def lab(self, seeded: SourceLab) -> SourceLab:
        return seeded
