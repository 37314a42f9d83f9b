"""Databases that nobody here has made, and some that nobody should: backed up, restored, and the same as before.

Each is compared as its engine tells it: all of pg_dump's and mysqldump's output, MongoDB's documents and SQLite's files
byte for byte.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from plugins.sources.mongodb.tests import nasty
from tests.integration import databases, samples, ugly
from tests.integration.cases import url_of
from tests.integration.running import Host, private_passphrase, with_passphrase
from tests.servers.mongodb import MongoServer, find_tools
from tests.servers.mysql import VENDORS, MySQLServer
from tests.servers.postgres import PostgresServer, PostgresServers


@dataclass(frozen=True)
class Desk:
    """A host, and a repository in a folder, for all of them."""

    host: Host
    config: Path
    repository: str

    def back_up(self, url: str) -> str:
        """The snapshot that it makes."""
        (made,) = self.host.json("backup", *self._named(url), "--name", "sample")["backups"]
        return str(made["snapshot"])

    def restore(self, snapshot: str, url: str, *more: str) -> None:
        """Restore it there."""
        place = ("--to-backup", "it") if self._has_secret(url) else ("--to", url)
        self.host("restore", snapshot, *place, *more, environ=with_passphrase())

    def _named(self, url: str) -> tuple[str, ...]:
        return ("it",) if self._has_secret(url) else (url,)

    def _has_secret(self, url: str) -> bool:
        """Whether a password goes with it, which no URL holds: then the settings name it."""
        if not url.startswith(("mariadb:", "mysql:")):
            return False
        settings = f'[repositories.main]\nurl = "{self.repository}"\n'
        settings += f'[backups.it]\nurl = "{url}"\npassword = {{ env = "SAMPLE_PASSWORD" }}\n'
        self.config.write_text(settings, encoding="utf-8")
        return True


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("samples")
    config = folder / "penstock.toml"
    config.touch()
    private_passphrase(folder / "passphrase")
    repository = f"file://{folder}/repository"
    environ = {"PENSTOCK_REPOSITORY": repository, "PENSTOCK_CONFIG": str(config)}
    host = Host(folder / "host", environ, measured=False)
    host("init", "--passphrase-file", str(folder / "passphrase"))
    return Desk(host, config, repository)


def _published(package: str, *parts: str) -> Callable[[Path], None]:
    def copy(path: Path) -> None:
        shutil.copyfile(samples.sample(package, *parts), path)

    return copy


SQLITE: dict[str, Callable[[Path], None]] = {
    "proj": _published("pyogrio", "proj.db"),
    "elements": _published("mendeleev", "elements.db"),
    "geopackage": _published("pyogrio", "fixtures", "curve.gpkg"),
    "odd": ugly.odd_sqlite,
    "huge": ugly.huge_sqlite,
    "many": ugly.many_in_sqlite,
    "nothing": ugly.nothing_in_sqlite,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ("huge", "many") else []) for name in SQLITE]
)
def test_a_sqlite_file_comes_back_byte_for_byte(name: str, desk: Desk, tmp_path: Path) -> None:
    path, back = tmp_path / "sample.db", tmp_path / "back.db"
    SQLITE[name](path)
    before = path.read_bytes()
    snapshot = desk.back_up(f"sqlite://{quote(str(path))}")
    desk.restore(snapshot, f"sqlite://{quote(str(back))}")
    assert path.read_bytes() == before
    assert back.read_bytes() == before
    assert _sql_of(back) == _sql_of(path)
    assert sorted(tmp_path.iterdir()) == [back, path]


def _sql_of(path: Path) -> str:
    """Every definition and every row; sqlite3's own iterdump stumbles over odd names."""
    digest = hashlib.blake2b()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.text_factory = lambda data: data.decode(errors="surrogateescape")
        for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_schema").fetchall():
            digest.update(repr((kind, name, sql)).encode())
            if kind == "table":
                for row in db.execute('SELECT * FROM "{}"'.format(name.replace('"', '""'))):
                    digest.update(repr(row).encode())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server of its own: some samples make roles."""
    servers = PostgresServers()
    try:
        server = servers.newest()
        if server.bin is None:
            pytest.skip("no client programs of that server")
        yield server
    finally:
        servers.close()


POSTGRES: dict[str, Callable[[PostgresServer, str], None]] = {
    "zabbix": samples.zabbix_in_postgres,
    "regression": samples.regression,
    "odd": ugly.odd_postgres,
    "huge": ugly.huge_postgres,
    "many": ugly.many_in_postgres,
    "nothing": lambda server, database: None,
}


@pytest.mark.server
@pytest.mark.parametrize("name", POSTGRES)
def test_a_postgres_database_comes_back_as_pg_dump_tells_it(name: str, desk: Desk, postgres: PostgresServer) -> None:
    with postgres.database("sample") as database:
        POSTGRES[name](postgres, database)
        before = databases.content_of(postgres, database, named=False)
        snapshot = desk.back_up(url_of(postgres, database))
        with postgres.database("back"):
            desk.restore(snapshot, url_of(postgres, "back"))
            assert databases.content_of(postgres, "back", named=False) == before


MYSQL: dict[str, Callable[[MySQLServer, str], None]] = {
    "zabbix": samples.zabbix_in_mysql,
    "world": samples.world_and_orders,
    "odd": ugly.odd_mysql,
    "huge": ugly.huge_mysql,
    "many": ugly.many_in_mysql,
    "nothing": lambda server, database: None,
}


#: MySQL takes half a minute to make the tables of Zabbix, which tell nothing that MariaDB's do not.
_VENDORS_SAMPLES = [(vendor, name) for vendor in VENDORS for name in MYSQL if (vendor, name) != ("mysql", "zabbix")]


@pytest.mark.server
@pytest.mark.parametrize(("mysql", "name"), _VENDORS_SAMPLES, indirect=["mysql"])
def test_a_mysql_database_comes_back_as_its_own_dump_tells_it(name: str, desk: Desk, mysql: MySQLServer) -> None:
    desk.host.environ["SAMPLE_PASSWORD"] = mysql.password
    words = {"client_path": str(mysql.bin), "accounts": "no"}
    url = f"{mysql.vendor}://{mysql.user}@{mysql.host}:{mysql.port}/sample?{urlencode(words)}"
    with mysql.database("sample", "CHARACTER SET utf8mb4") as database:
        MYSQL[name](mysql, database)
        before = mysql.as_text(database)
        snapshot = desk.back_up(url)
        mysql.drop(database)
        desk.restore(snapshot, url)
        assert mysql.as_text(database) == before


MONGODB: dict[str, Callable[[MongoServer], None]] = {
    "corpus": samples.bson_corpus,
    "countries": samples.countries,
    "odd": ugly.odd_mongodb,
}


@pytest.mark.server
@pytest.mark.parametrize("name", MONGODB)
def test_mongodb_documents_come_back_byte_for_byte(name: str, desk: Desk, mongo: MongoServer) -> None:
    MONGODB[name](mongo)
    before = _contents(mongo)
    assert before
    words = {"replicaSet": mongo.replica_set or "", "client_path": str(find_tools())}
    url = f"mongodb://{mongo.host}:{mongo.port}/?{urlencode(words)}"
    snapshot = desk.back_up(url)
    mongo.wipe()
    assert _contents(mongo) == {}
    desk.restore(snapshot, url, *(["-o", "replay=no"] if name == "odd" else []))
    assert _contents(mongo) == before


def _contents(server: MongoServer) -> dict[str, object]:
    with server.connected() as client:
        names = [name for name in client.list_database_names() if name not in ("admin", "config", "local")]
        return {name: nasty.contents(client, name) for name in names}
