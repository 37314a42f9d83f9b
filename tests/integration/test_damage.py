"""Damage to any object is found and named, and stops a restore that needs it before its target is touched."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration import databases
from tests.integration.cases import Bench, FilesystemCase, url_of
from tests.integration.running import Host, private_passphrase, with_passphrase
from tests.servers.postgres import PostgresServer, PostgresServers

pytestmark = pytest.mark.server

TARGET = "untouched"
KINDS = ("penstock.json", "grants/", "slots/", "sessions/", "packs/", "index/", "parts/", "snapshots/")


@dataclass(frozen=True)
class Kept:
    """A repository with two snapshots of two sessions, its host, and what was in the database at each."""

    repository: FilesystemCase
    host: Host
    server: PostgresServer
    folder: Path
    #: The content of the database by the key of the snapshot, the earlier one first.
    nights: Mapping[str, object]

    @property
    def target(self) -> str:
        return url_of(self.server, TARGET)


@pytest.fixture(scope="module")
def kept(postgres_servers: PostgresServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    server = postgres_servers.newest("scram")
    folder = tmp_path_factory.mktemp("kept")
    repository = FilesystemCase(Bench(folder, postgres_servers))
    environ = {"PENSTOCK_REPOSITORY": repository.url, "PGPASSWORD": server.password}
    host = Host(folder / "host", environ, measured=False)
    private_passphrase(folder / "passphrase")
    host("init", "--passphrase-file", str(folder / "passphrase"))
    host("key", "add-passphrase", "--new-passphrase-file", str(folder / "passphrase"), environ=with_passphrase())
    with server.database("kept") as name, server.database(TARGET):
        server.execute(databases.NOISE.format(rows=4000), name)
        nights = {}
        for _ in range(2):
            (made,) = host.json("backup", url_of(server, name))["backups"]
            (head,) = repository.keys(f"snapshots/{made['snapshot']}")
            nights[head] = databases.content_of(server, name, named=False)
            server.execute("UPDATE noise SET hex = md5(hex) WHERE id % 10 = 3", name)
        yield Kept(repository, host, server, folder, nights)


@pytest.fixture
def damaged(kept: Kept) -> Iterator[Kept]:
    """To be damaged; it is mended afterwards, and so is what the host remembers."""
    whole, memory = kept.folder / "whole", kept.folder / "memory"
    shutil.copytree(kept.repository.root, whole)
    shutil.copytree(kept.host.cache, memory)
    yield kept
    for copy, place in ((whole, kept.repository.root), (memory, kept.host.cache)):
        shutil.rmtree(place)
        copy.rename(place)


def _flip(repository: FilesystemCase, key: str, at: int) -> None:
    data = bytearray(repository.read(key))
    data[at] ^= 0x04
    repository.write(key, bytes(data))


def _damage(repository: FilesystemCase, kind: str, how: str) -> list[str]:
    """Damage one object of the kind; which ones are to be named, one of them at least."""
    keys = repository.keys(kind)
    key = keys[-1]
    data = repository.read(key)
    match how:
        case "flip":
            _flip(repository, key, len(data) // 2)
        case "flip-first":
            _flip(repository, key, 0)
        case "flip-last":
            _flip(repository, key, len(data) - 1)
        case "truncate":
            repository.write(key, data[: len(data) * 2 // 3])
        case "empty":
            repository.write(key, b"")
        case "lengthen":
            repository.write(key, data + b"\0")
        case "delete":
            repository.delete(key)
        case "swap":
            other = keys[0]
            repository.write(key, repository.read(other))
            repository.write(other, data)
            return [key, other]
    return [key]


def _cases() -> Iterator[object]:
    """Whatever can happen to a pack, and to other objects what differs for them: the engine's tests have all of it."""
    for kind in KINDS:
        for how in ("flip", "delete", "truncate", "swap", "flip-first", "flip-last", "empty", "lengthen"):
            if (kind, how) == ("penstock.json", "swap"):  # there is one only
                continue
            if how in ("flip", "delete", "truncate", "swap") or kind == "packs/":
                marks = () if how in ("flip", "delete") or kind == "packs/" else pytest.mark.slow
                yield pytest.param(kind, how, marks=marks, id=f"{kind.rstrip('/')}-{how}")


@pytest.mark.parametrize(("kind", "how"), list(_cases()))
def test_damage_is_named_and_stops_a_restore_that_needs_what_is_lost(kind: str, how: str, damaged: Kept) -> None:
    keys = _damage(damaged.repository, kind, how)
    host = damaged.host

    # The owner's check reads every byte.
    run = host.start("check", "--read-data", "--json", environ=with_passphrase())
    done = run.end()
    host.judge(("check",), done, done.code)
    if (kind, how) == ("slots/", "swap"):
        # Both slots are lost; what is wrong with a slot is not told to whoever types a passphrase.
        assert done.code == 22
    else:
        assert done.code in (13, 14, 16), done.text
        assert any(key in done.stdout for key in _named(damaged, kind, keys)), done.stdout
        # Only what must be read to open a repository at all may keep a check from starting.
        if kind not in ("penstock.json", "grants/"):
            assert done.code == 16

    # As does the check with the host's own key, which opens no segment.
    done = host.start("check", "--read-data").end()
    host.judge(("check",), done, done.code)
    if done.code == 21:
        assert kind == "grants/", "that of this host was the last of the log, or the last but one"
    else:
        assert done.code in (13, 14, 16), done.text
        assert any(key in done.text for key in _named(damaged, kind, keys)), done.text
    if kind == "slots/":
        assert done.code == 16

    done = host.start("restore", "latest", "--to", damaged.target, environ=with_passphrase()).end()
    host.judge(("restore",), done, done.code)
    if done.code == 0:
        # Restores need no index; one passphrase slot is enough, and so is a log without its end, if nothing needs that.
        content = restored(damaged)
        if kind == "snapshots/" and how != "swap":
            # The other snapshot is the latest that is left; what was passed over is named, and what this host misses.
            (left,) = damaged.nights.keys() - set(keys)
            is_later = left != next(iter(damaged.nights))
            assert content == damaged.nights[left]
            assert keys[0] in done.stderr or (how == "delete" and is_later), done.stderr
        else:
            assert kind in ("index/", "slots/", "grants/", "parts/"), done.text
            assert content == list(damaged.nights.values())[-1]
    else:
        assert kind != "index/"
        assert done.code == 22 if (kind, how) == ("slots/", "swap") else done.code in (13, 14, 15), done.text
        if (kind, how) == ("grants/", "swap") and _end_of_log(damaged.repository) == set(keys):
            # Nothing else proves that there was a grant of the writer: all that it signed is passed over.
            assert all(f"{head}: its signer was never granted" in done.stderr for head in damaged.nights), done.stderr
        elif kind != "slots/":
            assert any(key in done.stderr for key in _named(damaged, kind, keys)), done.stderr
        assert databases.tables_of(damaged.server, TARGET) == []


def _named(damaged: Kept, kind: str, keys: list[str]) -> list[str]:
    """What an error may name: of the owner's log, the entry that misses the one that is gone."""
    return [*keys, *damaged.repository.keys("grants/")] if kind == "grants/" else keys


def _end_of_log(repository: FilesystemCase) -> set[str]:
    """The entries of the owner's log that have the last two numbers, the grant of the writer among them."""
    numbers = {key: json.loads(repository.read(key).splitlines()[0])["number"] for key in repository.keys("grants/")}
    return set(sorted(numbers, key=numbers.__getitem__)[-2:])


def restored(kept: Kept) -> object:
    """What a restore has put into the target, which is empty again afterwards."""
    content = databases.content_of(kept.server, TARGET, named=False)
    kept.server.execute("DROP TABLE noise", TARGET)
    return content


def test_bytes_inside_segments_are_found_by_reading_them(damaged: Kept) -> None:
    key = damaged.repository.keys("packs/")[0]
    _flip(damaged.repository, key, 1000)
    assert damaged.host.json("check")["findings"] == [], "that is what --read-data is for"
    document = damaged.host.json("check", "--read-data", code=16)
    assert [finding["key"] for finding in document["findings"]] == [key]
    assert document["error"]["type"] == "CheckFailed"
    plain = damaged.host("check", "--read-data", code=16)
    assert key in plain.stdout
    assert "penstock: error: damaged or missing objects: 1" in plain.stderr


def test_the_undamaged_repository_is_whole_and_restores(kept: Kept) -> None:
    assert kept.host.json("check", "--read-data", environ=with_passphrase())["findings"] == []
    kept.host("restore", "latest", "--to", kept.target, environ=with_passphrase())
    assert restored(kept) == list(kept.nights.values())[-1]
