"""`jobs = 2`: the databases of a server are dumped by two processes, and what comes back is what was there."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integration import databases
from tests.integration.cases import FilesystemCase
from tests.integration.running import Host, Running, settings_of, with_passphrase
from tests.servers.mongodb import MongoServer, find_tools
from tests.servers.mysql import MySQLServer
from tests.servers.postgres import PostgresServer

#: Cold: what a run has imported is nothing that its workers could begin with.
pytestmark = [pytest.mark.server, pytest.mark.unmeasured, pytest.mark.cold]

NAMES = ["side one", "side two", "side three"]
#: MongoDB's have no spaces.
MONGO_NAMES = ["side_one", "side_two", "side_three"]
#: Rows of 256 bytes, so that no two databases share a unit, and all together are worth a second worker.
ROWS = 100_000
#: In MySQL's words.
HEX = f"CONCAT({', '.join(['SHA2(RAND(), 256)'] * 4)})"
#: So many processes are seen only while both are at work.
SLOWLY = ("--limit-upload", "16MiB")


@dataclass(frozen=True)
class Place:
    """What a settings file says of a source or a sink."""

    url: str
    settings: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


def workers(host: Host) -> set[int]:
    """The process ids of those that write streams for a run of this host."""
    return {pid for pid, line in host.processes().items() if "penstock.engine.dumping.lane_program" in line}


def back_up(host: Host, repository: FilesystemCase, source: Place, names: Sequence[str]) -> Running:
    """Begin it, as the settings say."""
    chosen = {} if "database" in source.settings else {"databases": list(names)}
    text = settings_of(Place(repository.url), server=Place(source.url, {**source.settings, **chosen, "jobs": 2}))
    (host.folder / "penstock.toml").write_text(text, encoding="utf-8")
    return host.start("backup", "server", "--json", *SLOWLY)


def comes_back(
    host: Host,
    repository: FilesystemCase,
    source: Place,
    content: Callable[[str], object],
    drop: Callable[[str], object],
    *,
    processes: int = 2,
    names: Sequence[str] = NAMES,
) -> None:
    """Back it up, lose it and restore it; as many workers as that are seen meanwhile."""
    before = {name: content(name) for name in names}
    run = back_up(host, repository, source, names)
    if processes:
        assert run.wait_until(lambda: len(workers(host)) == processes), run.stderr.read_text()
    done = run.end()
    host.judge(("backup",), done, 0)
    assert workers(host) == set()
    for name in names:
        drop(name)
    host("restore", "latest", "--to-backup", "server", environ=with_passphrase())
    assert {name: content(name) for name in names} == before
    assert host.json("check", "--read-data", environ=with_passphrase())["findings"] == []


def test_databases_of_postgresql(server: PostgresServer, host: Host, repository: FilesystemCase) -> None:
    for name in NAMES:
        server.drop(name)
        server.execute(f'CREATE DATABASE "{name}"')
        server.execute(databases.NOISE.format(rows=ROWS), name)
    source = Place(
        f"postgres://{server.user}@{server.host}:{server.port}", {"accounts": "no", "client_path": str(server.bin)}
    )
    comes_back(host, repository, source, server.as_text, server.drop)
    for name in NAMES:
        server.drop(name)


def test_tables_of_postgresql(server: PostgresServer, host: Host, repository: FilesystemCase) -> None:
    (name, *_) = NAMES
    server.drop(name)
    server.execute(f'CREATE DATABASE "{name}"')
    for number in range(3):
        server.execute(databases.NOISE.format(rows=ROWS).replace("noise", f"noise_{number}"), name)
    server.execute("CREATE TABLE few (id serial PRIMARY KEY, noise integer REFERENCES noise_1)", name)
    server.execute("INSERT INTO few (noise) SELECT generate_series(1, 100)", name)
    settings = {"accounts": "no", "client_path": str(server.bin), "layout": "tables", "database": name}
    source = Place(f"postgres://{server.user}@{server.host}:{server.port}", settings)
    comes_back(host, repository, source, server.as_text, server.drop, names=[name])
    server.drop(name)


@pytest.mark.parametrize("consistency", ["database", "server"])
def test_databases_of_mysql(mysql: MySQLServer, host: Host, repository: FilesystemCase, consistency: str) -> None:
    """With one view for all of them, threads of the process that began the dumps read them."""
    for name in NAMES:
        mysql.drop(name)
        mysql.execute(f"CREATE DATABASE `{name}`")
        mysql.execute("CREATE TABLE noise (id integer PRIMARY KEY AUTO_INCREMENT, hex text)", name)
        mysql.execute("INSERT INTO noise (hex) VALUES " + ", ".join(["('')"] * 1000), name)
        numbers = " CROSS JOIN ".join(f"(SELECT 1 FROM noise LIMIT 10) AS {one}" for one in "ab")
        mysql.execute(f"INSERT INTO noise (hex) SELECT {HEX} FROM noise CROSS JOIN {numbers}", name)
        mysql.execute("ANALYZE TABLE noise", name)  # how large it is, is known from the statistics
    host.environ["MYSQL_PASSWORD"] = mysql.password
    settings = {
        "accounts": "no",
        "consistency": consistency,
        "client_path": str(mysql.bin),
        "password": {"env": "MYSQL_PASSWORD"},
    }
    source = Place(f"mysql://{mysql.user}@{mysql.host}:{mysql.port}", settings)
    processes = 2 if consistency == "database" else 0
    comes_back(host, repository, source, mysql.as_text, mysql.drop, processes=processes)
    for name in NAMES:
        mysql.drop(name)


def test_databases_of_mongodb(mongo: MongoServer, host: Host, repository: FilesystemCase) -> None:
    chance = random.Random(1)
    with mongo.connected() as client:

        def content(name: str) -> list[Any]:
            return list(client[name].noise.find().sort("_id"))

        for name in MONGO_NAMES:
            client.drop_database(name)
            client[name].noise.insert_many({"_id": i, "raw": chance.randbytes(2500)} for i in range(ROWS // 10))
        source = Place(
            f"mongodb://{mongo.host}:{mongo.port}", {"accounts": "no", "oplog": "no", "client_path": str(find_tools())}
        )
        comes_back(host, repository, source, content, client.drop_database, names=MONGO_NAMES)
        for name in MONGO_NAMES:
            client.drop_database(name)
