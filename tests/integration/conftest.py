import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration import databases
from tests.integration.cases import Bench, FilesystemCase, SinkCase, SourceCase, url_of
from tests.integration.databases import Content
from tests.integration.matrix import SINKS, SOURCES
from tests.integration.running import PASSPHRASE, Host, private_passphrase
from tests.servers import versions
from tests.servers.postgres import PostgresServer, PostgresServers

#: Nearly two packs of new data.
_NOISE_ROWS = 170_000
#: Bytes that another dump of it stores at most: pg_dump writes the time into its header. That takes two chunks of the
#: largest kind, and is a pack of its own where all else is known.
A_HEADER = 144 * 1024
#: How much larger than the one before a class of sizes is that packs are padded to.
A_CLASS = 512 * 1024


@pytest.fixture
def bench(tmp_path: Path, postgres_servers: PostgresServers) -> Bench:
    return Bench(tmp_path, postgres_servers)


@pytest.fixture
def source(request: pytest.FixtureRequest, bench: Bench, ran: Callable[..., None]) -> Iterator[SourceCase]:
    """The source that a cell of the matrix names, filled."""
    with SOURCES[request.param](bench, request.getfixturevalue) as case:
        ran(SOURCE=case.versions[0], CLIENT=case.versions[1])
        case.seed()
        yield case


@pytest.fixture
def sink(request: pytest.FixtureRequest, bench: Bench, ran: Callable[..., None]) -> Iterator[SinkCase]:
    """The sink that a cell of the matrix names, with nothing in it."""
    with SINKS[request.param](bench, request.getfixturevalue) as case:
        ran(SINK=case.version)
        yield case


@pytest.fixture
def new_host(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Host]:
    """Makes hosts that know nothing."""
    measured, warm = (request.node.get_closest_marker(name) is None for name in ("unmeasured", "cold"))
    return lambda name: Host(tmp_path / "hosts" / name, measured=measured, warm=warm)


@pytest.fixture
def host(new_host: Callable[[str], Host]) -> Host:
    """The host that makes backups."""
    return new_host("database-host")


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase of the owner"
    path.touch(0o600)
    path.write_text(PASSPHRASE + "\nnot this line\n", encoding="utf-8")
    return path


@pytest.fixture
def repository(bench: Bench, host: Host, passphrase_file: Path, ran: Callable[..., None]) -> FilesystemCase:
    """A new repository in a folder, of which `host` has a writer key, and which `host` takes when none is named."""
    sink = FilesystemCase(bench)
    ran(SINK=sink.version)
    host.environ["PENSTOCK_REPOSITORY"] = sink.url
    host("init", "--passphrase-file", str(passphrase_file))
    return sink


@pytest.fixture
def server(postgres_servers: PostgresServers, host: Host, ran: Callable[..., None]) -> PostgresServer:
    """The newest PostgreSQL, which asks for a password; `host` has it."""
    server = postgres_servers.newest("scram")
    if server.bin is None:
        pytest.skip("no client programs of that server")
    host.environ["PGPASSWORD"] = server.password
    ran(SOURCE=versions.engine(server), CLIENT=versions.client(server))
    return server


@dataclass(frozen=True)
class Noisy:
    """A database that fills a few packs; `packs` is what they have in bytes after an undisturbed backup.

    `empty` has the repository of that backup as it was before, in `repository`, and the host's keys, in `config`.
    """

    server: PostgresServer
    name: str
    content: Content
    packs: int
    host: Host
    empty: Path

    @property
    def url(self) -> str:
        return url_of(self.server, self.name)


@pytest.fixture(scope="session")
def noisy_and_backed_up(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Noisy]:
    server = postgres_servers.newest("scram")
    folder = tmp_path_factory.mktemp("noisy")
    repository = FilesystemCase(Bench(folder, postgres_servers))
    environ = {"PENSTOCK_REPOSITORY": repository.url, "PGPASSWORD": server.password}
    host = Host(folder / "host", environ, measured=False)
    private_passphrase(folder / "passphrase")
    host("init", "--passphrase-file", str(folder / "passphrase"))
    empty = folder / "empty"
    shutil.copytree(repository.root, empty / "repository")
    shutil.copytree(host.folder / "config", empty / "config")
    with server.database("noisy") as name:
        server.execute(databases.NOISE.format(rows=_NOISE_ROWS), name)
        host("backup", url_of(server, name))
        packs = sum(repository.packs().values())
        yield Noisy(server, name, databases.content_of(server, name, named=False), packs, host, empty)


@pytest.fixture
def noisy(noisy_and_backed_up: Noisy, server: PostgresServer) -> Noisy:
    """A database that fills a few packs, on the newest server; tests leave it as it is."""
    return noisy_and_backed_up


@pytest.fixture
def alike(noisy: Noisy, bench: Bench, host: Host, ran: Callable[..., None]) -> FilesystemCase:
    """A repository without a snapshot that has the keys of the one that `noisy` was backed up into; `host` takes it.

    So the same rows are cut into the same chunks, and what both store is compared without an allowance for chance.
    """
    sink = FilesystemCase(bench)
    ran(SINK=sink.version)
    host.environ["PENSTOCK_REPOSITORY"] = sink.url
    shutil.copytree(noisy.empty / "repository", sink.root)
    shutil.copytree(noisy.empty / "config", host.folder / "config")
    return sink


@pytest.fixture
def noisy_backup(noisy: Noisy) -> Host:
    """A host with a repository that has a snapshot of it."""
    return noisy.host
