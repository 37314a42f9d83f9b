"""Private PostgreSQL servers for the tests: one of every major that is installed, started on first use.

Looked for below `.servers/postgresql/` (see `tests/install-servers`), in the distribution's own folders and on PATH.
`PENSTOCK_TEST_POSTGRES_<major>_URL` names a server from outside instead, with its superuser and password. A major that
is not there is a skip that says so, unless `PENSTOCK_TEST_REQUIRE` names `postgres` or `postgres-<major>`: then it is
a failure, so that nobody takes a green run without servers for a green run.

The servers listen on 127.0.0.1 only, live in a temporary folder, and end with the test session, however
that ends.
"""

import atexit
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from psycopg import sql
from tests.servers.certificate import write_certificate
from tests.servers.templates import templates

MAJORS = (14, 15, 16, 17, 18)
#: Each names a server from outside.
URL_VARIABLES = {major: f"PENSTOCK_TEST_POSTGRES_{major}_URL" for major in MAJORS}
#: The password of the superuser of every server that asks for one.
PASSWORD = "s3cret of the postgres röle"
_ROOT = Path(__file__).resolve().parents[2]
#: A database with everything that is hard to dump; needs UTF8 and a superuser.
NASTY = _ROOT / "tests" / "data" / "postgres-nasty.sql"
_START_SECONDS = 240.0


@dataclass(frozen=True)
class PostgresServer:
    """A server that runs. `password` is empty where none is asked for (`trust`), `pid` None for one from outside.

    `bin` has client programs that can dump it, of its own major where they are here; None where none are.
    """

    major: int
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    bin: Path | None = None
    pid: int | None = None
    #: With TLS: `server.crt`, to trust, and `client.crt` and `client.key` of the role "penstock tests".
    certificates: Path | None = None

    def connect(self, database: str = "postgres", **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection of the superuser, unless `parameters` say otherwise."""
        chosen: dict[str, Any] = {
            "user": self.user,
            "password": self.password or None,
            "connect_timeout": 10,
            "autocommit": True,
        }
        return psycopg.connect(host=self.host, port=self.port, dbname=database, **(chosen | parameters))

    def execute(self, statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser, all in one message: several of them are one transaction."""
        with self.connect(database) as connection:
            connection.execute(statements.encode())

    def query(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one query."""
        with self.connect(database) as connection:
            return connection.execute(statement.encode()).fetchall()

    def url(self, database: str = "postgres", user: str | None = None) -> str:
        """A URL without a password."""
        return f"postgres://{user or self.user}@{self.host}:{self.port}/{database}"

    @contextmanager
    def database(self, name: str, clauses: str = "") -> Iterator[str]:
        """A new empty database for the length of the block; `clauses` end its CREATE DATABASE."""
        self.drop(name)
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + sql.SQL(clauses))
        try:
            yield name
        finally:
            self.drop(name)

    def fill_nasty(self, database: str) -> None:
        """Put a bit of everything into an empty database, as the superuser."""
        self.execute(NASTY.read_text(encoding="utf-8"), database)

    def as_text(self, database: str) -> str:
        """All of a database as SQL, its own properties included: the same text for the same content."""
        if self.bin is None:
            pytest.skip(f"no client programs of PostgreSQL {self.major} to compare with")
        quoted = database.replace("\\", "\\\\").replace("'", "\\'")
        command = [str(self.bin / "pg_dump"), "--create", "--restrict-key=same", f"--dbname=dbname='{quoted}'"]
        command += [f"--host={self.host}", f"--port={self.port}", f"--username={self.user}"]
        environment = _server_environment() | {"PGPASSWORD": self.password}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=True)
        # How psql is told to connect depends on how odd the name is, and on nothing else.
        text = re.sub(r"^\\(connect|encoding) .*\n", "", done.stdout, flags=re.MULTILINE)
        return text.replace(sql.Identifier(database).as_string(), "DATABASE").replace(database, "DATABASE")

    def drop(self, name: str) -> None:
        """Drop a database if it is there, and whoever is connected to it."""
        subscriptions = "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = %s"
        with self.connect() as connection:
            for (subscription,) in connection.execute(subscriptions, [name]).fetchall():
                with self.connect(name) as inside:  # a database with a subscription is not dropped
                    inside.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(subscription)))
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class PostgresServers:
    """Starts servers on demand and keeps them for the session: `get(17)`, `get(17, auth="scram")`."""

    def __init__(self) -> None:
        self._running: dict[tuple[int, str], PostgresServer] = {}
        self._processes: list[_Process] = []
        self._copies: dict[Path, Path] = {}
        atexit.register(self.close)

    def get(self, major: int, auth: str = "trust") -> PostgresServer:
        """The server of that major and `auth` ("trust" or "scram"); skips or fails the test when there is none."""
        if (major, auth) not in self._running:
            self._running[major, auth] = self._outside(major, auth) or self._start(major, auth)
        return self._running[major, auth]

    def newest(self, auth: str = "trust") -> PostgresServer:
        """The newest that there is."""
        majors = [major for major in MAJORS if _outside_url(major) or find_binaries(major)]
        return self.get(majors[-1] if majors else MAJORS[-1], auth)

    def tls(self) -> PostgresServer:
        """A server of the newest major that takes passwords over TLS alone, and one role with a certificate."""
        if (0, "tls") not in self._running:
            self._running[0, "tls"] = self.private("tls")
        return self._running[0, "tls"]

    def private(self, auth: str = "trust", settings: tuple[str, ...] = ()) -> PostgresServer:
        """A server of the newest major that nobody else uses, as a new cluster is; `settings` are `name=value`."""
        majors = [major for major in MAJORS if find_binaries(major)]
        return self._start(majors[-1] if majors else MAJORS[-1], auth, settings)

    def standby_of(self, primary: PostgresServer) -> PostgresServer:
        """A hot standby of a private server that trusts everyone, with all that the primary holds right now."""
        if primary.bin is None or primary.pid is None:
            pytest.skip("a standby is made of a private server only")
        process = _Process(primary.bin, primary.major, "trust", primary)
        self._processes.append(process)
        process.start()
        return replace(primary, port=process.port, pid=process.pid)

    @contextmanager
    def fresh(self, major: int, auth: str = "trust") -> Iterator[PostgresServer]:
        """A server that has nothing but itself, and lives as long as the block; skips or fails when there is none."""
        server, process = self._started(major, auth)
        try:
            yield server
        finally:
            process.stop()

    def close(self) -> None:
        """Stop all of them and remove what they wrote."""
        while self._processes:
            self._processes.pop().stop()
        while self._copies:
            shutil.rmtree(self._copies.popitem()[1], ignore_errors=True)
        self._running.clear()

    def _outside(self, major: int, auth: str) -> PostgresServer | None:
        url = _outside_url(major)
        if not url:
            return None
        parts = urlsplit(url)
        password = unquote(parts.password or "")
        if auth == "scram" and not password:
            pytest.skip(f"the PostgreSQL {major} server from outside asks for no password")
        return PostgresServer(
            major, parts.hostname or "127.0.0.1", parts.port or 5432, parts.username or "postgres", password,
            find_clients(major),
        )  # fmt: skip

    def _start(self, major: int, auth: str, settings: tuple[str, ...] = ()) -> PostgresServer:
        server, process = self._started(major, auth, settings)
        self._processes.append(process)
        return server

    def _started(self, major: int, auth: str, settings: tuple[str, ...] = ()) -> "tuple[PostgresServer, _Process]":
        binaries = find_binaries(major)
        if binaries is None:
            missing(f"postgres-{major}", f"PostgreSQL {major} is not installed: run tests/install-servers")
        # Binaries that the server's user may not reach, as below /root, are copied to where it may.
        server_binaries = binaries
        if not _reachable(binaries / "postgres"):
            if binaries not in self._copies:
                self._copies[binaries] = Path(tempfile.mkdtemp(prefix=f"pg{major}-bin-"))
                self._copies[binaries].chmod(0o755)
                shutil.copytree(binaries.parent, self._copies[binaries] / "tree", symlinks=True)
            server_binaries = self._copies[binaries] / "tree" / "bin"
        process = _Process(server_binaries, major, auth, settings=settings)
        try:
            process.start()
        except BaseException:
            process.stop()
            raise
        password = "" if auth == "trust" else PASSWORD
        certificates = process.certificates if auth == "tls" else None
        server = PostgresServer(
            major, "127.0.0.1", process.port, "postgres", password, binaries, process.pid, certificates
        )
        return server, process


class _Process:
    """One server process and its folder."""

    def __init__(
        self,
        binaries: Path,
        major: int,
        auth: str,
        primary: PostgresServer | None = None,
        settings: tuple[str, ...] = (),
    ) -> None:
        self.primary = primary
        self.settings = settings
        self.binaries = binaries
        self.auth = auth
        self.port = 0
        # Short, because the path of a Unix socket may have no more than 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix=f"pg{major}-", dir="/tmp" if Path("/tmp").is_dir() else None))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        self.certificates = self.folder / "certificates"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Make the cluster and start it; tries another port when somebody was faster."""
        if self.primary:
            self._make_data(self._copy_primary())
        else:
            make = partial(self._make_data, self._make_cluster())
            templates.fill(self.folder / "data", make, self.binaries, self.auth)
        if self.auth == "tls":
            self._set_up_tls()
        for _ in range(3):
            if self._run():
                return
        log = (self.folder / "log").read_text(errors="replace")
        raise RuntimeError(f"PostgreSQL did not start:\n{log[-2000:]}")

    def _make_data(self, command: list[str]) -> None:
        subprocess.run(
            [*_as_server_user(), *command],
            check=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_START_SECONDS,
            env=_server_environment(),
        )

    def _make_cluster(self) -> list[str]:
        password = self.folder / "password"
        password.write_text(PASSWORD + "\n", encoding="utf-8")
        password.chmod(0o644)
        return [
            str(self.binaries / "initdb"), "--pgdata", str(self.folder / "data"), "--username=postgres",
            f"--pwfile={password}", "--auth", "trust" if self.auth == "trust" else "scram-sha-256",
            "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
        ]  # fmt: skip

    def _set_up_tls(self) -> None:
        self.certificates.mkdir()
        for name in ("server", "client"):
            write_certificate(self.certificates / f"{name}.crt", self.certificates / f"{name}.key")
            (self.certificates / f"{name}.key").chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(self.certificates / "server.key", "nobody")
        (self.folder / "data" / "pg_hba.conf").write_text(_TLS_ACCESS, encoding="utf-8")

    def _copy_primary(self) -> list[str]:
        assert self.primary is not None
        return [
            str(self.binaries / "pg_basebackup"), "--pgdata", str(self.folder / "data"), "--write-recovery-conf",
            "--no-sync", "--checkpoint=fast", "--host", self.primary.host, "--port", str(self.primary.port),
            "--username", self.primary.user,
        ]  # fmt: skip

    def _run(self) -> bool:
        self.port = free_port()
        settings = [*_SERVER_SETTINGS, *self.settings]
        if self.auth == "tls":
            settings += ["ssl=on", *(f"ssl_{key}_file={self.certificates}/{name}" for key, name in _TLS_FILES)]
        with (self.folder / "log").open("ab") as log:
            # In the foreground and as our child: the kernel stops it when the test session is killed.
            self._child = subprocess.Popen(
                [
                    *_as_server_user("--pdeathsig=INT"), str(self.binaries / "postgres"),
                    "-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder),
                    *(part for setting in settings for part in ("-c", setting)),
                ],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=_server_environment(),
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._child.poll() is None:
            with suppress(OSError, IndexError):
                if (self.folder / "data" / "postmaster.pid").read_text().splitlines()[7].strip() in (
                    "ready",
                    "standby",
                ):
                    return True
            time.sleep(0.05)
        self._end()
        return False

    def stop(self) -> None:
        """Stop the server, whatever its state, and remove its folder."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            with suppress(subprocess.TimeoutExpired):
                child.send_signal(number)
                child.wait(15)
                return


_SERVER_SETTINGS = (
    "listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=32MB",
    "max_connections=50", "max_prepared_transactions=5", "wal_level=logical", "autovacuum=off", "timezone=UTC",
)  # fmt: skip


_TLS_FILES = (("cert", "server.crt"), ("key", "server.key"), ("ca", "client.crt"))
_TLS_ACCESS = """
hostssl all "penstock tests" 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[PostgresServers]:
    """All servers, each started when a test first asks for it."""
    servers = PostgresServers()
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="session", params=[pytest.param(major, id=f"pg{major}") for major in MAJORS])
def postgres(request: pytest.FixtureRequest, postgres_servers: PostgresServers) -> PostgresServer:
    """A server that trusts everyone, once for every major."""
    return postgres_servers.get(request.param)


@pytest.fixture(scope="session")
def newest_postgres(postgres_servers: PostgresServers) -> PostgresServer:
    """The newest server, for tests that need no more than one."""
    return postgres_servers.newest()


def missing(what: str, reason: str) -> NoReturn:
    """Skip the test, or fail it when `PENSTOCK_TEST_REQUIRE` (a list with commas) names `what` or its first word."""
    required = {name.strip() for name in os.environ.get("PENSTOCK_TEST_REQUIRE", "").split(",")}
    if required & {what, what.split("-", maxsplit=1)[0]}:
        pytest.fail(f"{reason} (PENSTOCK_TEST_REQUIRE asks for it)")
    pytest.skip(reason)


def find_binaries(major: int) -> Path | None:
    """The folder with the server and client programs of a major, or None."""
    return next((folder for folder in _folders(major) if _major_of(folder / "postgres") == major), None)


def _folders(major: int) -> list[Path]:
    folders = [_ROOT / ".servers" / "postgresql" / str(major) / "bin", Path(f"/usr/lib/postgresql/{major}/bin")]
    folders.append(Path(f"/usr/pgsql-{major}/bin"))
    folders.extend(Path(folder) for folder in os.get_exec_path())
    return folders


def find_clients(major: int) -> Path | None:
    """The folder with the client programs of a major, or else of the oldest later one, which can dump it, too; or None.

    For servers from outside: programs of a server need not be there.
    """
    folders = [folder for later in MAJORS if later >= major for folder in _folders(later)]
    found = {_major_of(folder / "pg_dump"): folder for folder in reversed(folders)}
    return next((found[later] for later in MAJORS if later >= major and later in found), None)


_ports: list[int] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on right now, and that no other process of these tests is given.

    A lock on a file of the port's name keeps it for this process, until it ends: between here and the moment when a
    server listens, another worker would be given the same one.
    """
    folder = Path(tempfile.gettempdir()) / f"penstock-test-ports-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _ports.append(descriptor)
            return port
        os.close(descriptor)


def _major_of(program: Path) -> int | None:
    if not os.access(program, os.X_OK):
        return None
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=120).stdout
        found = re.search(r"\(PostgreSQL\) (\d+)", told)
        return int(found[1]) if found else None
    return None


def _outside_url(major: int) -> str:
    return os.environ.get(URL_VARIABLES[major], "")


def _as_server_user(*options: str) -> list[str]:
    """What runs a server as somebody else than root, which it refuses."""
    if os.geteuid() == 0:
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *options]
    return ["setpriv", *options] if options and shutil.which("setpriv") else []


def _reachable(program: Path) -> bool:
    return subprocess.run([*_as_server_user(), str(program), "--version"], capture_output=True).returncode == 0


def _server_environment() -> dict[str, str]:
    # What the developer's shell says about PostgreSQL must not reach these servers.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
