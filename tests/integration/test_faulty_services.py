"""An object store that fails, throttles, hangs or cuts connections is survived, or reported within the deadline.

The command reaches the store through two proxies: one that does to connections what networks do, and one that answers
in the store's place. What is transient must not be noticed; what stays must end the run in good order, and cost nothing
but the time until the next one.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from tests.integration.running import Done, Host, Running, private_passphrase, with_passphrase
from tests.servers.azure import AzureServer
from tests.servers.gcs import GcsServer
from tests.servers.proxy import Faults, FaultyProxy
from tests.servers.s3 import S3Server
from tests.servers.tampering import Act, TamperingProxy, flip
from tests.soak import long

pytestmark = [pytest.mark.server, pytest.mark.slow]

MIB = 2**20
#: MiB in a database: a pack and a bit of another; and more than the buffers of a backup take.
_BLOBS, _LARGE = 20, 80
_PREFIX = "night/shop"
#: Seconds: long enough for what is survived, and short enough to wait for what is not, once a pack has landed or not.
_DEADLINES = {"patient": 60, "hasty": 12, "hastier": 6}
#: Far more than a run takes that gives up when it should; one that does not would wait for ever (seconds).
_FOR_EVER = 300.0


@dataclass(frozen=True)
class Store:
    """A service, and how a settings file names a new place in it; `put` is the method of its uploads."""

    endpoint: str
    put: str
    #: The URL of the place, when the service is reached at that endpoint.
    url: Callable[[str], str]
    environ: dict[str, str] = field(default_factory=dict)
    settings: str = ""


def _s3(server: S3Server) -> Store:
    bucket = server.new_bucket()
    environ = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    return Store(server.endpoint, "PUT", lambda endpoint: f"s3://{bucket}/{_PREFIX}?endpoint={endpoint}", environ)


def _gcs(server: GcsServer) -> Store:
    bucket = server.new_bucket()
    return Store(server.endpoint, "POST", lambda endpoint: f"gs://{bucket}/{_PREFIX}?endpoint={endpoint}")


def _azure(server: AzureServer) -> Store:
    container = server.new_container()
    return Store(
        server.endpoint, "PUT",
        lambda endpoint: f"azure://{server.account}/{container}/{_PREFIX}?endpoint={endpoint}",
        {"AZURE_KEY": server.key}, 'account_key = { env = "AZURE_KEY" }',
    )  # fmt: skip


@dataclass
class Site:
    """A host with two snapshots of a database in a store, and what stands between them."""

    store: Store
    tcp: FaultyProxy
    http: TamperingProxy
    host: Host
    folder: Path
    snapshots: list[str] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "shop.db"

    @property
    def target(self) -> Path:
        return self.folder / "back" / "shop.db"

    def start(self, verb: str, *more: str, repository: str) -> Running:
        if verb == "restore":
            more = ("latest:shop", "--to", f"sqlite://{quote(str(self.target))}", *more)
        elif verb == "backup":
            more = (f"sqlite://{quote(str(self.database))}", *more)
        return self.host.start(verb, *more, "--repo", repository, environ=with_passphrase() if verb != "backup" else {})

    def end(self, run: Running, code: int) -> Done:
        """Wait for its end; it leaves no child, no file and no secret behind."""
        run.process.wait(_FOR_EVER)
        done = run.end()
        self.host.judge((), done, code)
        return done

    def run(self, verb: str, *more: str, repository: str = "patient", code: int = 0) -> Done:
        return self.end(self.start(verb, *more, repository=repository), code)

    def listed(self) -> list[str]:
        """All snapshots of the repository."""
        found = self.host.json("snapshots", "--repo", "patient")["snapshots"]
        return [one["id"] for one in found]

    def back_up(self) -> int:
        """A backup that succeeds; the bytes that it stored."""
        at = ("--repo", "patient")
        (made,) = self.host.json("backup", f"sqlite://{quote(str(self.database))}", *at)["backups"]
        self.snapshots.append(made["snapshot"])
        return int(made["stored"])

    def peak_of_backup(self, path: Path) -> int:
        """The most memory that a backup of that database has taken, as far as somebody looked; in bytes."""
        url = f"sqlite://{quote(str(path))}"
        self.host.warm = False  # a process that is forked has its parent's memory, too
        run = self.host.start("backup", url, "--json", "--memory", "64MiB", "--repo", "patient")
        self.host.warm = True
        status, peak = Path(f"/proc/{run.process.pid}/status"), 0

        def look() -> bool:
            nonlocal peak
            with suppress(FileNotFoundError, ProcessLookupError):  # it may end at any moment
                found = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
                peak = int(found[0].split()[1]) * 1024 if found else peak  # a zombie has none
            return False

        assert not run.wait_until(look)
        (made,) = json.loads(self.end(run, 0).stdout)["backups"]
        self.snapshots.append(made["snapshot"])
        return peak

    def change(self) -> None:
        """New content for all of the database, of the same size."""
        with closing(sqlite3.connect(self.database)) as db, db:
            db.execute("UPDATE noise SET data = randomblob(?)", [MIB])

    def comes_back(self) -> bool:
        """Whether what was restored is the database, byte for byte; it is gone afterwards."""
        same = self.target.read_bytes() == self.database.read_bytes()
        self.target.unlink()
        return same

    @contextmanager
    def faults(self, *script: Act, **tcp: Any) -> Iterator[None]:
        """These for the length of the block."""
        self.http.script = list(script)
        self.tcp.faults = Faults(**tcp)
        try:
            yield
        finally:
            self.http.script = []
            self.tcp.heal()


@pytest.fixture(scope="module", params=["s3", "gcs", "azure"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A repository in a store, with one snapshot of a database that takes two packs."""
    makers: dict[str, Callable[[Any], Store]] = {"s3": _s3, "gcs": _gcs, "azure": _azure}
    store = makers[request.param](request.getfixturevalue(request.param))
    folder = tmp_path_factory.mktemp(request.param)
    with TamperingProxy(store.endpoint) as http:
        parts = urlsplit(http.endpoint)
        with FaultyProxy(str(parts.hostname), int(str(parts.port))) as tcp:
            config = folder / "penstock.toml"
            url = store.url(parts._replace(netloc=f"127.0.0.1:{tcp.port}").geturl())
            text = ""
            for repository, deadline in _DEADLINES.items():
                # The other timeouts are longer: it is the deadline that counts.
                limits = urlencode({"deadline": deadline, "connect_timeout": 50, "read_timeout": 100})
                text += f'[repositories.{repository}]\nurl = "{url}&{limits}"\n{store.settings}\n'
            config.write_text(text, encoding="utf-8")
            environ = {"PENSTOCK_CONFIG": str(config), "AWS_EC2_METADATA_DISABLED": "true"}
            host = Host(folder / "host", environ, measured=False)
            host.environ |= store.environ
            (folder / "back").mkdir()
            private_passphrase(folder / "passphrase")
            made = Site(store, tcp, http, host, folder)
            _make_noise(made.database, _BLOBS)
            host("init", "patient", "--passphrase-file", str(folder / "passphrase"))
            made.back_up()
            yield made


def _busy(method: str, name: str) -> list[Act]:
    """What a store answers that has too much to do."""
    return [
        Act(method, status=503, headers={"Retry-After": "1"}, name=name),
        Act(method, status=429, name=name),
        Act(method, status=500, name=name),
    ]


def test_a_store_that_is_busy_and_cuts_connections_is_not_noticed(site: Site) -> None:
    put = site.store.put
    site.change()
    struck = site.tcp.struck
    # A lost answer leaves the object there, and nobody knows.
    lost = [Act(put, lose=True, name=name) for name in ("/packs/", "/index/", "/snapshots/")]
    with site.faults(*_busy(put, "/packs/"), *lost, cut_upload_after=5 * MIB, times=3, reset=True):
        site.back_up()
        assert site.http.script == []
    assert site.tcp.struck == struck + 3

    short = [Act("GET", truncate=1000, name=name) for name in ("/snapshots/", "/packs/")]
    with site.faults(*_busy("GET", "/packs/"), *short, cut_download_after=MIB, times=3, rate=50 * MIB):
        site.run("restore")
        assert site.http.script == []
    assert site.tcp.struck == struck + 6
    assert site.comes_back()


def test_a_store_that_ends_half_way_is_reported_and_the_rerun_uses_what_had_landed(site: Site) -> None:
    put = site.store.put
    site.change()
    asked = site.http.asked(put, "/packs/")
    # The first pack lands, and the second is under way when the service ends.
    with site.faults(Act(put, name="/packs/"), Act(put, hang=True, name="/packs/", stay=True)):
        run = site.start("backup", repository="hasty")
        assert run.wait_until(lambda: site.http.asked(put, "/packs/") >= asked + 2)
        site.tcp.vanish()
        try:
            done = site.end(run, 31)
        finally:
            site.tcp.come_back()
    _is_told_well(site, done, "hasty", "packs/", "snapshots/")
    # Of two packs one is large and one small, and either may be the first.
    assert site.back_up() < (_BLOBS - 3) * MIB, "the pack that had landed was stored again"
    assert site.listed() == site.snapshots


def test_a_store_that_hangs_half_way_through_a_restore_is_reported_and_the_target_is_untouched(site: Site) -> None:
    with closing(sqlite3.connect(site.target)) as db, db:
        db.execute("CREATE TABLE precious (data)")
    before = site.target.read_bytes()
    read = [Act("GET", name="/packs/") for _ in range(3)]
    with site.faults(*read, Act("GET", hang=True, name="/packs/", stay=True)):
        done = site.run("restore", "--clean", repository="hastier", code=31)
    _is_told_well(site, done, "hastier", "packs/")
    assert site.target.read_bytes() == before
    assert [path.name for path in site.target.parent.iterdir()] == ["shop.db"]
    site.run("restore", "--clean")
    assert site.comes_back()


def test_a_store_that_never_says_a_byte_is_reported(site: Site) -> None:
    with site.faults(hang=True):
        runs = [site.start(verb, repository="hastier") for verb in ("backup", "restore")]
        for run in runs:
            run.process.wait(_FOR_EVER)
    for run in runs:
        _is_told_well(site, site.end(run, 31), "hastier", "penstock.json")
    assert list(site.target.parent.iterdir()) == []


def test_bytes_that_were_changed_on_their_way_are_refused(site: Site) -> None:
    # Of a range the service tells no checksum, of what is read whole perhaps: such as a head, or a very small pack.
    with site.faults(Act("GET", change_answer=flip, name="/packs/", stay=True)):
        done = site.run("restore", code=13)
    assert "packs/" in done.stderr
    assert list(site.target.parent.iterdir()) == []
    for name in ("/packs/", "/index/", "/snapshots/"):
        with site.faults(Act("GET", change_answer=flip, name=name, stay=True)):
            done = site.run("check", "--read-data", code=16)
        assert name[1:] in done.stderr


# What waits is the core's, whatever the store; what the other SDKs copy of it is for long runs.
@pytest.mark.parametrize(
    "site", ["s3", *(pytest.param(name, marks=long(20)) for name in ("gcs", "azure"))], indirect=True
)
def test_a_slow_line_costs_no_memory(site: Site) -> None:
    # Of the same size, since with more packs than one all buffers are in use on a quick line, too.
    quick, slow = site.folder / "quick.db", site.folder / "slow.db"
    for path in (quick, slow):
        _make_noise(path, _LARGE)
    usual = site.peak_of_backup(quick)
    with site.faults(rate=_LARGE // 2 * MIB):
        peak = site.peak_of_backup(slow)
    # One more pack may be on its way, with an SDK's copy of it, and no more of all that waits.
    assert peak < usual + 2 * 18 * MIB


def _make_noise(path: Path, size: int) -> None:
    """A database of so many MiB that do not compress."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE TABLE noise (data BLOB)")
        db.executemany("INSERT INTO noise VALUES (randomblob(?))", ((MIB,) for _ in range(size)))


def _is_told_well(site: Site, done: Done, deadline: str, *keys: str) -> None:
    """The error names the object and the place, says why it was given up, and is one line."""
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("penstock: error: ")]
    assert any(key in error for key in keys)
    assert f"127.0.0.1:{site.tcp.port}" in error
    assert f"with a deadline of {_DEADLINES[deadline]} seconds" in done.stderr
