"""Secrets are seen by nobody: not in argument lists, not in children that need none, not in what is printed or kept."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.cases import FilesystemCase, url_of
from tests.integration.conftest import Noisy
from tests.integration.running import PASSPHRASE, SECRETS, Host, with_passphrase
from tests.processes import Process, descendants, parent_of
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.unmeasured, pytest.mark.cold]

_MARKS = [secret.encode() for secret in SECRETS]

#: A plugin of a stranger who puts secrets into everything that an error can carry.
CARELESS = '''
from contextlib import contextmanager

from penstock.api import PluginSettings, SecretRef, Source, hookimpl


class Settings(PluginSettings):
    password: SecretRef


class Careless(Source):
    """Careless."""

    name = "careless"
    Settings = Settings

    def inspect(self): ...
    def plan_restore(self, streams, target): ...
    def restore(self, plan): ...

    @contextmanager
    def dump(self):
        password = self.settings.password.resolve().reveal()
        try:
            raise ValueError(password)
        except ValueError as error:
            error.add_note(password)
            raise RuntimeError("cannot log in with " + password, password) from error
        yield


@hookimpl
def penstock_register_source():
    return [Careless]
'''


class Lookout:
    """Looks at all processes, again and again, and notes what it should not have seen."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._own: set[int] = set()
        self.seen: set[str] = set()
        self.children: set[str] = set()
        self.looks = 0

    @contextmanager
    def over(self, *commands: int) -> Iterator[None]:
        """Look for the length of the block; `commands` are the runs themselves, which may have what they were given."""
        self._own |= set(commands)
        over = threading.Event()

        def look() -> None:
            while not over.is_set():
                self._look()
                self.looks += 1

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look(self) -> None:
        shown = self._host.processes()
        # Whatever else runs on this machine, other tests among it, may show what it likes.
        watched = set(shown) | self._own | {process.pid for process in descendants(*self._own)}
        for pid in watched:
            if any(mark in Process.of(pid).arguments for mark in _MARKS):
                self.seen.add(f"arguments of {pid}")
        for pid, line in shown.items():
            process = Process.of(pid)
            # Between fork and exec a child is still a copy of its parent; only then is its environment its own.
            if pid in self._own or process.arguments == Process.of(parent_of(pid) or 0).arguments:
                continue
            self.children.add(line.split()[0].rpartition("/")[2])
            if PASSPHRASE.encode() in process.environment or b"PENSTOCK_PASSPHRASE" in process.environment:
                self.seen.add(f"environment of {line}")
        if watched and self.looks % 10 == 0:
            pids = ",".join(map(str, sorted(watched)))
            table = subprocess.run(["ps", "-o", "args", "-p", pids], capture_output=True).stdout
            if any(mark in table for mark in _MARKS):
                self.seen.add("ps")


def _watched(host: Host, lookout: Lookout, *arguments: str) -> None:
    run = host.start(*arguments, environ=with_passphrase())
    with lookout.over(run.process.pid):
        done = run.end()
    host.judge(arguments, done, 0)


def _kept_by(folder: Path, spared: set[Path]) -> list[Path]:
    """Files below `folder` that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file() and path not in spared]
    assert files
    return [path for path in files if any(mark in path.read_bytes() for mark in _MARKS)]


@pytest.mark.server
def test_secrets_are_seen_by_nobody_during_and_after_a_backup_and_a_restore(
    noisy: Noisy, repository: FilesystemCase, host: Host, tmp_path: Path, passphrase_file: Path
) -> None:
    del host.environ["PGPASSWORD"]
    host.key.unlink()  # so that the passphrase is what opens the repository
    password = host.folder / "password"
    password.write_text(noisy.server.password + "\n", encoding="utf-8")
    told = host.folder / "told.txt"
    place = (
        f'type = "postgres"\nhost = "{noisy.server.host}"\nport = {noisy.server.port}\nuser = "{noisy.server.user}"\n'
    )
    place += f'client_path = "{noisy.server.bin}"\n'
    (host.folder / "penstock.toml").write_text(
        f'[repositories.main]\nurl = "{repository.url}"\n'
        f'[backups.shop]\n{place}database = "{noisy.name}"\npassword = {{ file = "password" }}\n'
        f'[backups.back]\n{place}database = "back"\n'
        f'password = {{ command = ["sh", "-c", "env > {told}; sleep 0.3; cat {password}"] }}\n',
        encoding="utf-8",
    )
    lookout = Lookout(host)
    noisy.server.drop("back")
    _watched(host, lookout, "backup", "shop", "--repo", "main")
    _watched(host, lookout, "backup", "shop", "--repo", "main", "--json")
    _watched(host, lookout, "restore", "latest", "--to-backup", "back", "--repo", "main")
    _watched(host, lookout, "check", "--read-data", "--repo", "main")
    noisy.server.drop("back")
    assert {"pg_dump", "pg_restore"} <= lookout.children
    assert lookout.seen == set()
    assert "PENSTOCK_PASSPHRASE" not in told.read_text(encoding="utf-8")

    assert _kept_by(host.folder, {password}) == []  # stdout, stderr, JSON, the cache, the settings
    assert _kept_by(repository.root, set()) == []
    assert _kept_by(tmp_path, {password, passphrase_file}) == []


@pytest.mark.parametrize("json", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize("debug", ["", "1"], ids=["quiet", "debug"])
def test_an_internal_error_tells_where_it_happened_and_no_secret(
    debug: str, json: bool, repository: FilesystemCase, host: Host, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    metadata = site / "careless-1.dist-info"
    metadata.mkdir(parents=True)
    (site / "careless.py").write_text(CARELESS, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: careless\nVersion: 1\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[penstock.plugins]\ncareless = careless\n", encoding="utf-8")
    (host.folder / "penstock.toml").write_text(
        f'[repositories.main]\nurl = "{repository.url}"\n'
        '[backups.shop]\ntype = "careless"\npassword = { env = "SHOP_PASSWORD" }\n',
        encoding="utf-8",
    )
    environ = {"PYTHONPATH": str(site), "SHOP_PASSWORD": SECRETS[1], "PENSTOCK_DEBUG": debug} | with_passphrase()
    if json:
        error = host.json("backup", "shop", "--repo", "main", code=1, environ=environ)["error"]
        assert error["type"] == "RuntimeError"
        text = "\n".join([error["message"], error["hint"], *error["details"]])
    else:
        text = host("backup", "shop", "--repo", "main", code=1, environ=environ).stderr
    assert "unexpected RuntimeError in careless.py" in text
    assert ("in dump" in text) == bool(debug)
    assert ("PENSTOCK_DEBUG=1" in text) != bool(debug)
    assert _kept_by(host.folder, set()) == []
    assert repository.keys("snapshots/") == []


@pytest.mark.server
def test_a_password_in_a_url_is_refused_and_not_repeated(
    server: PostgresServer, repository: FilesystemCase, host: Host
) -> None:
    url = url_of(server, "postgres").replace("@", f":{server.password}@")
    for arguments in (("backup", url), ("backup", url, "sqlite:x.db"), ("restore", "latest", "--to", url)):
        code = 50 if len(arguments) == 3 and arguments[0] == "backup" else 2
        host(*arguments, code=code)
        host.json(*arguments, code=code)
