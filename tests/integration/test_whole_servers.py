"""Servers of many databases come back as plain tools bring them back, whoever restores them, and across majors."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests import soak
from tests.integration import databases, generated, samples
from tests.servers.postgres import MAJORS, PostgresServer, PostgresServers, find_binaries
from tests.servers.streams import Dump, dump_all, restore_all

from penstock.api import RestoreTarget
from penstock.testing.hearing import Heard
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.source import PostgresSource

pytestmark = [pytest.mark.server, *soak.long(90)]

NAMES = [f"whole_{number:03}" for number in range(soak.times(100))]
#: Samples of other people's, in the place of the first made-up ones.
ZABBIX, REGRESSION = "whole_001", "whole_002"


@pytest.fixture
def servers() -> Iterator[PostgresServers]:
    servers = PostgresServers()
    try:
        yield servers
    finally:
        servers.close()


def majors() -> list[int]:
    """Those whose programs are here."""
    return [major for major in MAJORS if find_binaries(major)]


def source_of(server: PostgresServer, database: str | None = None, **settings: Any) -> PostgresSource:
    chosen: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user, "database": database}
    return PostgresSource(PostgresSettings.model_validate({**chosen, "client_path": server.bin, **settings}))


def filled(servers: PostgresServers, major: int) -> PostgresServer:
    """A server with all of the databases."""
    server = servers.get(major)
    for role in generated.ROLES:
        server.execute(f'CREATE ROLE "{role}" LOGIN')
    for number, name in enumerate(NAMES):
        server.execute(f"CREATE DATABASE {name}")
        if name == ZABBIX:
            samples.zabbix_in_postgres(server, name)
        elif name == REGRESSION and major == majors()[-1]:  # whose tests they are
            samples.regression(server, name)
        else:
            server.execute(generated.database(number).replace(":name", name), name)
    return server


def place(server: PostgresServer, user: str | None = None) -> list[str]:
    return [f"--host={server.host}", f"--port={server.port}", f"--username={user or server.user}"]


def run(*command: object) -> None:
    """A plain tool, whose errors are not the end: what comes back is what counts."""
    subprocess.run([str(word) for word in command], env={"PATH": "/usr/bin:/bin"}, capture_output=True)


def plainly(programs: Path, archives: Path, target: PostgresServer, *options: str, user: str | None = None) -> None:
    """What pg_restore brings back, into databases that are there."""
    for name in NAMES:
        run(programs / "pg_restore", *place(target, user), *options, f"--dbname={name}", archives / name)


def contents(server: PostgresServer) -> dict[str, databases.Content]:
    return {name: databases.content_of(server, name, named=False) for name in NAMES}


def different(ours: Mapping[str, databases.Content], plain: Mapping[str, databases.Content]) -> dict[str, list[str]]:
    """By database, the parts that are not the same."""
    found = {}
    for name in NAMES:
        keys = ours[name].keys() | plain[name].keys()
        if odd := sorted(key for key in keys if ours[name].get(key) != plain[name].get(key)):
            found[name] = odd
    return found


def archived(server: PostgresServer, programs: Path, folder: Path) -> None:
    for name in NAMES:
        run(programs / "pg_dump", *place(server), "--format=custom", f"--file={folder / name}", name)


def restored(source: PostgresSource, dump: Dump, **options: str) -> Heard:
    source.report = said = Heard()
    restore_all(source, dump, RestoreTarget(options=options))
    return said


def test_as_a_superuser_and_as_an_owner_without_rights(servers: PostgresServers, tmp_path: Path) -> None:
    newest = majors()[-1]
    server = filled(servers, newest)
    assert server.bin is not None
    archived(server, server.bin, tmp_path)
    dump = dump_all(source_of(server, databases="whole_*"))

    with servers.fresh(newest) as ours, servers.fresh(newest) as plain:
        said = restored(source_of(ours), dump)
        run(server.bin / "pg_dumpall", *place(server), "--globals-only", f"--file={tmp_path / 'roles'}")
        run(server.bin / "psql", *place(plain), "--quiet", f"--file={tmp_path / 'roles'}", "postgres")
        for name in NAMES:
            plain.execute(f"CREATE DATABASE {name}")
        plainly(server.bin, tmp_path, plain)
        assert different(contents(ours), contents(plain)) == {}
        # What is broken, in each fifth, is named; nothing else is lost.
        assert {one.database for one in said.lost} == set(NAMES[::5])

    def managed(target: PostgresServer) -> None:
        for role in generated.ROLES:
            target.execute(f'CREATE ROLE "{role}" LOGIN')
        for name in NAMES:
            target.execute(f"CREATE DATABASE {name} OWNER app")
            for extension in generated.EXTENSIONS:
                target.execute(f"CREATE EXTENSION {extension}", name)

    with servers.fresh(newest) as ours, servers.fresh(newest) as plain:
        for target in (ours, plain):
            managed(target)
        archives = {name: one for name, one in dump.items() if name != "accounts.sql"}
        said = restored(source_of(ours, user="app"), archives, owners="no")
        plainly(server.bin, tmp_path, plain, "--no-owner", user="app")
        assert different(contents(ours), contents(plain)) == {}
        assert said.lost


@pytest.mark.parametrize("direction", ["up", "down"])
def test_across_majors(servers: PostgresServers, tmp_path: Path, direction: str) -> None:
    every = majors()
    if len(every) < 2:
        pytest.skip("there is one major of PostgreSQL alone")
    before, after = (every[0], every[-1]) if direction == "up" else (every[-1], every[0])
    server = filled(servers, before)
    assert server.bin is not None
    archived(server, server.bin, tmp_path)
    dump = dump_all(source_of(server, databases="whole_*"))
    options = {"older_server": "yes"} if direction == "down" else {}
    with servers.fresh(after) as ours, servers.fresh(after) as plain:
        newer = server if direction == "down" else ours
        assert newer.bin is not None
        said = restored(source_of(ours, client_path=newer.bin), dump, **options)
        run(server.bin / "pg_dumpall", *place(server), "--globals-only", f"--file={tmp_path / 'roles'}")
        run(newer.bin / "psql", *place(plain), "--quiet", f"--file={tmp_path / 'roles'}", "postgres")
        for name in NAMES:
            plain.execute(f"CREATE DATABASE {name}")
        plainly(newer.bin, tmp_path, plain)
        assert different(contents(ours), contents(plain)) == {}
        assert {one.database for one in said.lost} >= set(NAMES[::5])
