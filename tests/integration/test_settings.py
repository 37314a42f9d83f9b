"""Settings by name, without a settings file, and several backups in one command."""

import json
from pathlib import Path

import pytest
from tests.integration import databases
from tests.integration.cases import FilesystemCase
from tests.integration.running import Host, with_passphrase
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.unmeasured


def test_a_settings_file_names_everything(host: Host, tmp_path: Path, passphrase_file: Path) -> None:
    """Relative paths in it mean the same wherever the command is run."""
    databases.make_sqlite(tmp_path / "shop.db", 500)
    file = tmp_path / "settings" / "penstock.toml"
    file.parent.mkdir()
    file.write_text(
        f"""
        [repositories.main]
        type = "filesystem"
        path = "../backups"
        passphrase = {{ file = "{passphrase_file}" }}
        [backups.shop]
        type = "sqlite"
        path = "../shop.db"
        memory = "64MiB"
        [defaults]
        cache = "cache"
        compression = 5
        """,
        encoding="utf-8",
    )
    host("config", "check", cwd=file.parent)
    host("init", cwd=file.parent)
    host("backup", "shop", "--config", str(file))
    host("backup", "--all", environ={"PENSTOCK_CONFIG": str(file)})
    entries = host.json("snapshots", cwd=file.parent)["snapshots"]
    assert [one["backup"] for one in entries] == ["shop", "shop"]
    assert (file.parent / "cache").is_dir()
    assert not host.cache.exists()

    content = databases.content_of_sqlite(tmp_path / "shop.db")
    for name in ("shop.db", "shop.db-wal", "shop.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    host("restore", "latest:shop", "--to-backup", "shop", cwd=file.parent)
    assert databases.content_of_sqlite(tmp_path / "shop.db") == content


def test_without_a_settings_file_urls_are_enough(host: Host, tmp_path: Path) -> None:
    databases.make_sqlite(tmp_path / "my shop.db", 500)
    at = ("--repo", f"file://{tmp_path}/backups")
    host("init", at[1], environ=with_passphrase())
    host("backup", f"sqlite://{tmp_path}/my%20shop.db", *at)
    (entry,) = host.json("snapshots", *at)["snapshots"]
    assert entry["backup"] == "my-shop"
    host("restore", "latest:my-shop", "--to", f"sqlite://{tmp_path}/back.db", *at, environ=with_passphrase())
    assert databases.content_of_sqlite(tmp_path / "back.db") == databases.content_of_sqlite(tmp_path / "my shop.db")
    assert not list(tmp_path.rglob("penstock.toml"))


@pytest.mark.server
def test_one_backup_of_many_that_fails_is_a_failure_and_the_others_are_made(
    server: PostgresServer, repository: FilesystemCase, host: Host
) -> None:
    databases.make_sqlite(host.folder / "first.db", 200)
    with server.database("last") as name:
        server.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i", name)
        place = f'type = "postgres"\nhost = "{server.host}"\nport = {server.port}\nuser = "postgres"\n'
        place += f'client_path = "{server.bin}"\n'
        (host.folder / "penstock.toml").write_text(
            f'[repositories.main]\nurl = "{repository.url}"\n'
            '[backups.first]\ntype = "sqlite"\npath = "first.db"\n'
            f'[backups.broken]\n{place}database = "nonesuch"\n'
            f'[backups.last]\n{place}database = "last"\n',
            encoding="utf-8",
        )
        document = host.json("backup", "--all", code=50)
        made = {one["name"]: one["snapshot"] for one in document["backups"]}
        assert [name for name, snapshot in made.items() if snapshot] == ["first", "last"]
        (failed,) = [one["error"] for one in document["backups"] if one["error"]]
        assert failed["exit_code"] == 40
        assert "nonesuch" in failed["message"]
        plain = host("backup", "--all", code=50)
        assert "first: snapshot " in plain.stdout
        assert "last: snapshot " in plain.stdout
        for text in (json.dumps(document["error"]), plain.stderr):
            assert "1 of 3 backups failed" in text
            assert "nonesuch" in text
        assert [one["backup"] for one in host.json("snapshots")["snapshots"]] == ["first", "last"] * 2

        host("backup", "broken", code=40)
        host("backup", "first", "last")
        (host.folder / "first.db").unlink()
        host("backup", "first", "broken", code=50)  # none was made, each for a reason of its own
    assert host.json("check", "--read-data", environ=with_passphrase())["findings"] == []
