import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.api import ClientMissing, ClientTooOld
from penstock_postgres import client as clients
from penstock_postgres.client import Client, client_for_dump, client_for_restore, find_clients


def install(folder: Path, version: str, *programs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs or ("pg_dump", "pg_restore"):
        path = folder / program
        path.write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n", encoding="utf-8")
        path.chmod(0o755)
    return folder


def some(*versions: str) -> list[Client]:
    return [Client(Path(f"/clients/{version}"), version, clients.major_of(version)) for version in versions]


@pytest.mark.parametrize(
    ("server", "installed", "chosen"),
    [
        ("15.4", ["14.22", "15.2", "16.1"], "15.2"),
        ("15.4 (Debian 15.4-1)", ["18.6", "16.1", "17.2"], "16.1"),
        ("17.1", ["17.2", "17.9", "18.1"], "17.9"),
        ("18beta1", ["18.6"], "18.6"),
    ],
)
def test_a_dump_uses_the_major_of_the_server_or_the_next_newer(server: str, installed: list[str], chosen: str) -> None:
    assert client_for_dump(server, some(*installed)).version == chosen


def test_a_client_older_than_the_server_is_refused_with_both_versions_and_what_to_install() -> None:
    with pytest.raises(ClientTooOld, match=r"17\.9.*16\.13") as caught:
        client_for_dump("17.9", some("15.2", "16.13"))
    assert "postgresql-client-17" in (caught.value.hint or "")


def test_a_restore_uses_the_targets_major_when_that_is_new_enough_for_the_dump() -> None:
    installed = some("15.2", "16.13", "17.9", "18.6")
    assert client_for_restore("15.2", "17.1", installed).version == "17.9"
    assert client_for_restore("16.1", "15.2", installed).version == "16.13"
    assert client_for_restore("15.2", "19.1", installed).version == "15.2"
    with pytest.raises(ClientTooOld, match=r"18\.6.*17\.9"):
        client_for_restore("18.6", "18.6", some("17.9"))


def test_clients_are_found_on_path_and_in_the_usual_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = install(tmp_path / "bin", "16.1")
    install(tmp_path / "lib" / "17" / "bin", "17.2")
    install(tmp_path / "lib" / "18" / "bin", "18.6", "pg_restore")
    monkeypatch.setattr(clients, "_FOLDERS", (f"{tmp_path}/lib/*/bin",))
    monkeypatch.setenv("PATH", f"{on_path}:{tmp_path}/nowhere:/bin")
    assert [found.version for found in find_clients("pg_dump") if tmp_path in found.folder.parents] == ["16.1", "17.2"]


def test_client_path_is_the_only_folder_looked_at(tmp_path: Path) -> None:
    folder = install(tmp_path / "own", "16.1")
    assert [found.folder for found in find_clients("pg_dump", folder)] == [folder]
    with pytest.raises(ClientMissing, match="client_path"):
        find_clients("pg_dump", tmp_path)


def test_debians_wrapper_is_not_taken_for_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "share", "15.2", "pg_wrapper")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pg_dump").symlink_to(tmp_path / "share" / "pg_wrapper")
    monkeypatch.setattr(clients, "_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ClientMissing, match="no pg_dump was found"):
        find_clients("pg_dump")


def test_a_program_that_does_not_run_is_told_of_and_passed_over(tmp_path: Path) -> None:
    folder = install(tmp_path, "16.1")
    (folder / "pg_dump").write_text("#!/bin/sh\necho 'library missing' >&2\nexit 127\n", encoding="utf-8")
    with pytest.raises(ClientMissing) as caught:
        find_clients("pg_dump", folder)
    assert "127" in str(caught.value.details)


@pytest.mark.slow
def test_loading_the_plugin_loads_no_driver() -> None:
    program = (
        "import sys; from penstock_postgres.plugin import penstock_register_source as r; (s,) = r();"
        "s(s.Settings()); print('psycopg' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert told.stdout.strip() == "False"
