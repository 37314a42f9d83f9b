from pathlib import Path

import pytest

from penstock.api import ClientMissing, ClientTooOld
from penstock_mysql import client as clients
from penstock_mysql.client import Client, client_for_dump, client_for_restore, find_clients
from penstock_mysql.dialect import client_version, server_version


@pytest.mark.parametrize(
    ("text", "vendor", "numbers", "shown"),
    [
        ("10.11.19-MariaDB-0+deb12u1", "mariadb", (10, 11, 19), "MariaDB 10.11.19"),
        ("5.5.5-10.6.16-MariaDB-log", "mariadb", (10, 6, 16), "MariaDB 10.6.16"),
        ("9.7.4-2", "mysql", (9, 7, 4), "MySQL 9.7.4-2"),
        ("8.0.36-28", "mysql", (8, 0, 36), "MySQL 8.0.36-28"),
        ("8.0.mysql_aurora.3.05.2", "mysql", (8, 0), "MySQL 8.0.mysql_aurora.3.05.2"),
        ("5.7.44-log", "mysql", (5, 7, 44), "MySQL 5.7.44"),
        ("MariaDB 10.11.19-MariaDB", "mariadb", (10, 11, 19), "MariaDB 10.11.19"),
    ],
)
def test_a_servers_version_says_which_make_it_is(text: str, vendor: str, numbers: tuple[int, ...], shown: str) -> None:
    found = server_version(text)
    assert (found.vendor, found.numbers, str(found)) == (vendor, numbers, shown)
    assert server_version(str(found)).numbers == numbers


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)", "MariaDB 10.11.19"),
        ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)", "MariaDB 11.4.2"),
        ("mysqldump  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", "MySQL 9.7.4"),
        ("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)", "MySQL 5.7.44"),
        ("mysql  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL), Release 28)", "MySQL 8.0.36"),
        ("GNU bash, version 5.2", "None"),
    ],
)
def test_a_clients_version_says_which_make_it_is(text: str, shown: str) -> None:
    assert str(client_version(text)) == shown


def some(*versions: str) -> list[Client]:
    return [Client(Path(f"/clients/{version}"), server_version(version)) for version in versions]


@pytest.mark.parametrize(
    ("server", "installed", "chosen"),
    [
        ("8.0.36", ["9.1.0", "8.4.2", "8.0.30"], "8.0.30"),
        ("8.0.36", ["9.1.0", "10.11.2-MariaDB"], "9.1.0"),
        ("8.4.1", ["8.0.30"], "8.0.30"),
        ("11.4.2-MariaDB", ["9.1.0", "11.2.1-MariaDB"], "11.2.1-MariaDB"),
        ("10.5.1-MariaDB", ["11.4.1-MariaDB", "10.11.2-MariaDB"], "10.11.2-MariaDB"),
    ],
)
def test_a_dump_uses_the_servers_own_make_as_near_as_there_is(server: str, installed: list[str], chosen: str) -> None:
    assert client_for_dump(server_version(server), some(*installed)).path == Path(f"/clients/{chosen}")


@pytest.mark.parametrize(("server", "installed"), [("8.0.36", "10.11.2-MariaDB"), ("10.11.2-MariaDB", "9.1.0")])
def test_the_other_makes_client_is_never_used(server: str, installed: str) -> None:
    for choose in (client_for_dump, client_for_restore):
        with pytest.raises(ClientMissing, match="of the other make") as caught:
            choose(server_version(server), some(installed))
        assert "Install" in (caught.value.hint or "")


def test_an_older_major_is_refused_unless_it_is_allowed() -> None:
    server = server_version("9.1.0")
    with pytest.raises(ClientTooOld, match=r"9\.1\.0.*8\.4\.2") as caught:
        client_for_dump(server, some("8.0.30", "8.4.2"))
    assert "older_client" in (caught.value.hint or "")
    assert str(client_for_dump(server, some("8.0.30", "8.4.2"), older=True).version) == "MySQL 8.4.2"


def install(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return folder


def test_clients_are_found_on_path_and_in_the_usual_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "bin", "mariadb-dump", "mariadb-dump from 11.4.2-MariaDB, client 10.19")
    (tmp_path / "bin" / "mysqldump").symlink_to("mariadb-dump")
    install(tmp_path / "other", "mysqldump", "mysqldump  Ver 8.4.2 for Linux")
    install(tmp_path / "broken", "mysqldump", "nothing of the kind")
    monkeypatch.setattr(clients, "_FOLDERS", (f"{tmp_path}/o*",))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{tmp_path}/nowhere:{tmp_path}/broken:/bin")
    found = [str(one.version) for one in find_clients("dump") if tmp_path in one.path.parents]
    assert found == ["MariaDB 11.4.2", "MySQL 8.4.2"]
    assert [str(one.version) for one in find_clients("dump", tmp_path / "other")] == ["MySQL 8.4.2"]
    with pytest.raises(ClientMissing, match="which client_path names"):
        find_clients("restore", tmp_path / "other")
