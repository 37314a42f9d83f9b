"""What is refused: each has its own exit code, says what is wrong and what to do next, and loses nothing."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration import databases
from tests.integration.cases import Bench, FilesystemCase, in_domain, url_of
from tests.integration.running import Host, private_passphrase, with_passphrase
from tests.servers.postgres import PostgresServer, PostgresServers, find_binaries, free_port

pytestmark = pytest.mark.server


@dataclass
class Place:
    """A repository with one good snapshot, and what stands around it. `empty` and `full` are databases."""

    folder: Path
    repository: FilesystemCase
    host: Host
    server: PostgresServer
    snapshot: str
    other_key: Path
    full: str = "full"

    def url(self, database: str = "full", **query: object) -> str:
        return url_of(self.server, database, **query)


@pytest.fixture(scope="module")
def place(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    server = postgres_servers.newest("scram")
    folder = tmp_path_factory.mktemp("refusals")
    repository = FilesystemCase(Bench(folder, postgres_servers))
    environ = {"PENSTOCK_REPOSITORY": repository.url, "PGPASSWORD": server.password}
    host = Host(folder / "host", environ)
    private_passphrase(folder / "passphrase")
    passphrase = ("--passphrase-file", str(folder / "passphrase"))
    host("init", *passphrase)
    other_key = folder / "other.key"
    host("init", f"file://{folder}/other", "--no-writer-key", "--owner-key", str(other_key), *passphrase)
    (folder / "penstock.toml").write_text(
        '[repositories.main]\nurl = "file:///nowhere"\n[backups.shop]\ntyp = "postgres"\n'
    )
    with server.database("full") as name:
        server.execute(databases.NOISE.format(rows=2000), name)
        (backup,) = host.json("backup", url_of(server, name))["backups"]
        yield Place(folder, repository, host, server, backup["snapshot"], other_key)


@dataclass(frozen=True)
class Refusal:
    """A command that must fail: with `code`, and words that its error must have."""

    code: int
    error: str
    words: tuple[str, ...]
    arguments: Callable[[Place], tuple[str, ...]]
    environ: dict[str, str] = field(default_factory=dict)


def _old_client(place: Place) -> tuple[str, ...]:
    return "backup", place.url(client_path=find_binaries(14) or pytest.skip("there is no old pg_dump here"))


def _empty_folder(place: Place) -> tuple[str, ...]:
    (place.folder / "no programs").mkdir(exist_ok=True)
    return "backup", place.url(client_path=place.folder / "no programs")


def _misspelt(place: Place) -> tuple[str, ...]:
    file = place.folder / "misspelt.toml"
    file.write_text(
        f'[repositories.main]\nurl = "{place.repository.url}"\n[backups.shop]\n'
        'type = "postgres"\nhost = "127.0.0.1"\ndatabse = "full"\n'
    )
    return "backup", "shop", "--repo", "main", "--config", str(file)


def _password_in_settings(place: Place) -> tuple[str, ...]:
    file = place.folder / "password.toml"
    file.write_text(
        f'[repositories.main]\nurl = "{place.repository.url}"\n[backups.shop]\n'
        f'type = "postgres"\nhost = "127.0.0.1"\npassword = "{place.server.password}"\n',
        encoding="utf-8",
    )
    return "backup", "shop", "--repo", "main", "--config", str(file)


REFUSALS = {
    "misspelt setting": Refusal(3, "SettingsError", ("misspelt.toml", "databse", "database"), _misspelt),
    "password in the settings": Refusal(3, "SettingsError", ("password.toml", "password"), _password_in_settings),
    "password in a URL": Refusal(
        2, "UsageError", ("password",), lambda place: ("backup", place.url().replace("@", f":{place.server.password}@"))
    ),
    "secret that is not there": Refusal(
        4,
        "SecretUnavailable",
        ("/nowhere/secret",),
        lambda place: ("check", "--passphrase-file", "/nowhere/secret", "--read-data"),
    ),
    "unknown scheme of a source": Refusal(5, "PluginNotFound", ("gopher",), lambda place: ("backup", "gopher://x/y")),
    "unknown scheme of a sink": Refusal(
        5, "PluginNotFound", ("gopher",), lambda place: ("snapshots", "--repo", "gopher://x/y")
    ),
    "no repository": Refusal(
        10,
        "RepositoryMissing",
        ("init", "nothing here"),
        lambda place: ("snapshots", "--repo", f"file://{place.folder}/nothing%20here"),
    ),
    "init twice": Refusal(
        11, "RepositoryExists", ("repository",), lambda place: ("init", place.repository.url), with_passphrase()
    ),
    "unknown snapshot": Refusal(
        15,
        "SnapshotNotFound",
        ("abcdef", "snapshots"),
        lambda place: ("restore", "abcdef", "--to", place.url("new")),
        with_passphrase(),
    ),
    "unknown stream": Refusal(
        15,
        "SnapshotNotFound",
        ("nothing.dump", "full.dump"),
        lambda place: ("cat", "latest", "nothing.dump"),
        with_passphrase(),
    ),
    "missing key file": Refusal(
        20, "KeyMissing", ("/nowhere/my.key",), lambda place: ("backup", place.url(), "--key", "/nowhere/my.key")
    ),
    "no key at all": Refusal(
        20, "KeyMissing", ("--passphrase-file",), lambda place: ("snapshots",), {"XDG_CONFIG_HOME": "/nowhere"}
    ),
    "key of another repository": Refusal(
        21, "WrongKey", ("another repository",), lambda place: ("snapshots", "--key", str(place.other_key))
    ),
    "wrong passphrase": Refusal(
        22,
        "WrongPassphrase",
        ("passphrase",),
        lambda place: ("restore", "latest", "--to", place.url("new")),
        with_passphrase("a wrong one"),
    ),
    "restore with the writer's key": Refusal(
        23, "RoleForbids", ("writer", "owner"), lambda place: ("restore", "latest", "--to", place.url("new"))
    ),
    "restore with --key of the writer": Refusal(
        23,
        "RoleForbids",
        ("writer", "owner"),
        lambda place: ("restore", "latest", "--to", place.url("new"), "--key", str(place.host.key)),
        with_passphrase(),
    ),
    "unreachable server": Refusal(
        41,
        "SourceUnreachable",
        ("127.0.0.1",),
        lambda place: ("backup", f"postgres://postgres@127.0.0.1:{free_port()}/full"),
    ),
    "unreachable target": Refusal(
        41,
        "SourceUnreachable",
        ("127.0.0.1",),
        lambda place: ("restore", "latest", "--to", f"postgres://postgres@127.0.0.1:{free_port()}/full"),
        with_passphrase(),
    ),
    "wrong password": Refusal(
        42,
        "SourceDenied",
        ("password", "postgres"),
        lambda place: ("backup", place.url()),
        {"PGPASSWORD": "a wrong one"},
    ),
    "wrong password of the target": Refusal(
        42,
        "SourceDenied",
        ("password", "postgres"),
        lambda place: ("restore", "latest", "--to", place.url("new")),
        with_passphrase() | {"PGPASSWORD": "a wrong one"},
    ),
    "unknown database": Refusal(40, "SourceError", ("nonesuch",), lambda place: ("backup", place.url("nonesuch"))),
    "no client programs": Refusal(43, "ClientMissing", ("pg_dump", "no programs"), _empty_folder),
    "old client programs": Refusal(44, "ClientTooOld", ("14.", "postgresql-client-"), _old_client),
    "target not empty": Refusal(
        47,
        "TargetNotEmpty",
        ("public.noise", "not empty"),
        lambda place: ("restore", "latest", "--to", place.url()),
        with_passphrase(),
    ),
    "target not to be made": Refusal(
        48,
        "TargetMissing",
        ("new", "create"),
        lambda place: ("restore", "latest", "--to", place.url("new"), "-o", "create=no"),
        with_passphrase(),
    ),
    "snapshot of another engine": Refusal(
        2,
        "UsageError",
        ("postgres", "sqlite"),
        lambda place: ("restore", "latest", "--to", "sqlite:x.db"),
        with_passphrase(),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_has_its_own_code_and_says_what_is_wrong_and_what_to_do(name: str, place: Place) -> None:
    refusal = REFUSALS[name]
    before = place.repository.digests()
    arguments = refusal.arguments(place)

    done = place.host(*arguments, code=refusal.code, environ=refusal.environ)
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("penstock: error: ")]
    hints = [line for line in done.stderr.splitlines() if line.startswith("hint: ")]
    assert len(hints) == 1, done.stderr
    assert done.stdout == ""

    if arguments[0] == "cat":  # its stdout is the stream, and nothing else
        assert all(word in done.stderr for word in refusal.words)
        return
    document = place.host.json(*refusal.arguments(place), code=refusal.code, environ=refusal.environ)
    told = document["error"]
    assert told["type"] == refusal.error
    text = "\n".join([told["message"], told["hint"], *told["details"]])
    for word in refusal.words:
        assert word in done.stderr
        assert word in text
    assert "\n" not in told["message"]
    if "127.0.0.1:" not in told["message"]:  # another free port each time
        assert error == f"penstock: error: {told['message']}"

    # Nothing was lost, and nothing came that is no use.
    after = place.repository.digests()
    assert before.items() <= after.items()
    assert {in_domain(key).partition("/")[0] for key in after.keys() - before.keys()} <= {"sessions", "leases"}
    assert databases.tables_of(place.server, "new") is None


def test_after_all_of_that_the_earlier_snapshot_still_restores(place: Place) -> None:
    with place.server.database("back"):
        place.host("restore", place.snapshot, "--to", place.url("back"), environ=with_passphrase())
        content = databases.content_of(place.server, "full", named=False)
        assert databases.content_of(place.server, "back", named=False) == content
    assert place.host.json("check", "--read-data", environ=with_passphrase())["findings"] == []


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system with little room."""
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_named_and_loses_nothing(place: Place, tmp_path: Path) -> None:
    with place.server.database("large") as name, _small_disk(tmp_path / "small disk", "12m") as folder:
        place.server.execute(databases.NOISE.format(rows=120_000), name)
        root = folder / "repository"
        shutil.copytree(place.repository.root, root)
        at = ("--repo", f"file://{str(root).replace(' ', '%20')}")
        before = databases.content_of(place.server, "full", named=False)
        plain = place.host("backup", place.url(name), *at, code=33).stderr
        assert "hint: " in plain
        # The packs of the first attempt may have left too little for a second to start at all.
        shutil.rmtree(root)
        shutil.copytree(place.repository.root, root)
        error = place.host.json("backup", place.url(name), *at, code=33)["error"]
        assert error["type"] == "SinkFull"
        for text in (plain, f"{error['message']}\n{error['hint']}"):
            assert "packs/" in text
            assert "space" in text
        environ = with_passphrase()
        assert [one["id"] for one in place.host.json("snapshots", *at)["snapshots"]] == [place.snapshot]
        cache = ("--cache-dir", str(tmp_path / "cache"))
        assert place.host.json("check", "--read-data", *at, *cache, environ=environ)["findings"] == []
        with place.server.database("back"):
            place.host("restore", "latest", "--to", place.url("back"), *at, *cache, environ=environ)
            assert databases.content_of(place.server, "back", named=False) == before
        # With room again it goes through.
        subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
        place.host("backup", place.url(name), *at)
        assert place.host.json("check", "--read-data", *at, *cache, environ=environ)["findings"] == []
