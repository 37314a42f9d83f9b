"""Private MariaDB and MySQL servers for the tests, each started on first use.

MariaDB is looked for on PATH and in the usual folders, MySQL below `.servers/mysql/` (see `tests/install-servers`).
`PENSTOCK_TEST_MARIADB_URL` and `PENSTOCK_TEST_MYSQL_URL` name servers from outside instead, with their administrator
and password; the client programs must still be here. A server that is not there is a skip that says so; a missing
MariaDB is a failure when `PENSTOCK_TEST_REQUIRE` names `mariadb`. MySQL stays a skip: where it comes from, it may be
missing on any day.

The servers listen on 127.0.0.1 and on a socket in a temporary folder, and end with the test session, however that ends.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pymysql
import pytest
from tests.servers.postgres import free_port, missing
from tests.servers.templates import templates

Vendor = Literal["mariadb", "mysql"]
VENDORS: tuple[Vendor, ...] = ("mariadb", "mysql")
#: Each names a server from outside.
URL_VARIABLES = {vendor: f"PENSTOCK_TEST_{vendor.upper()}_URL" for vendor in VENDORS}
#: The password of the administrator; with what option files, shells and latin-1 would stumble over.
PASSWORD = "s3cret \"of\" the 'root' #röle\\ 日"
_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 240.0
_PROGRAMS = {"mariadb": ("mariadbd", "mariadb-dump", "mariadb"), "mysql": ("mysqld", "mysqldump", "mysql")}


@dataclass(frozen=True)
class MySQLServer:
    """A server that runs, with the folder of its vendor's client programs.

    `socket` and `pid` are None for one from outside.
    """

    vendor: Vendor
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    bin: Path
    socket: Path | None = None
    pid: int | None = None

    def connect(self, database: str | None = None, **parameters: Any) -> "pymysql.Connection[Any]":
        """An autocommit connection of the administrator, unless `parameters` say otherwise."""
        chosen: dict[str, Any] = {
            "user": self.user, "password": self.password, "charset": "utf8mb4", "connect_timeout": 10,
            "max_allowed_packet": 1 << 30, "autocommit": True,
        }  # fmt: skip
        chosen |= parameters
        if isinstance(chosen["password"], str):
            chosen["password"] = chosen["password"].encode()
        return pymysql.connect(host=self.host, port=self.port, database=database, **chosen)

    def execute(self, statement: str, database: str | None = None, parameters: Any = None) -> None:
        """Run one statement as the administrator."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of one query."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def run_script(self, script: bytes, database: str) -> None:
        """Let the vendor's own client run a script, in which DELIMITER is known."""
        self._client(_PROGRAMS[self.vendor][2], "--binary-mode", "--comments", "--max-allowed-packet=1G", database,
                     given=script)  # fmt: skip

    def as_text(self, database: str) -> bytes:
        """Everything in a database, as the vendor's own client dumps it, without comments: to compare by."""
        options = [
            "--skip-comments",
            "--hex-blob",
            "--routines",
            "--events",
            "--single-transaction",
            "--no-tablespaces",
        ]
        if self.vendor == "mysql":
            options += ["--set-gtid-purged=OFF"]
        return self._client(_PROGRAMS[self.vendor][1], *options, "--max-allowed-packet=1G", database)

    @contextmanager
    def database(self, name: str, clauses: str = "") -> Iterator[str]:
        """A new empty database for the length of the block; `clauses` end its CREATE DATABASE."""
        self.drop(name)
        self.execute(f"CREATE DATABASE {quoted(name)} {clauses}")
        try:
            yield name
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Drop a database if it is there."""
        self.execute(f"DROP DATABASE IF EXISTS {quoted(name)}")

    @contextmanager
    def account(self, name: str, *grants: str, password: str = "p") -> Iterator[str]:
        """A user for the length of the block; each grant is what stands between GRANT and TO."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("DROP USER IF EXISTS %s@'%%'", (name,))
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (name, password))
            for grant in grants:
                cursor.execute(f"GRANT {grant.replace('%', '%%')} TO %s@'%%'", (name,))
        try:
            yield name
        finally:
            self.execute("DROP USER IF EXISTS %s@'%%'", None, (name,))

    def _client(self, program: str, *arguments: str, given: bytes | None = None) -> bytes:
        done = subprocess.run(
            [
                self.bin / program, "--no-defaults", "--protocol=tcp", f"--host={self.host}", f"--port={self.port}",
                f"--user={self.user}", "--default-character-set=utf8mb4", *arguments,
            ],
            input=given, capture_output=True, env={"MYSQL_PWD": self.password, "PATH": os.environ["PATH"]},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout


class MySQLServers:
    """Starts servers on demand and keeps them for the session: `get("mariadb")`, `get("mysql", "--skip-ssl")`."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, ...], MySQLServer] = {}
        self._processes: list[_Process] = []
        self._copies: dict[Path, Path] = {}
        atexit.register(self.close)

    def get(self, vendor: Vendor, *options: str) -> MySQLServer:
        """The server of that vendor, with further options of its own; skips or fails the test when there is none."""
        key = (vendor, *options)
        if key not in self._running:
            self._running[key] = (None if options else self._outside(vendor)) or self._start(vendor, options)
        return self._running[key]

    @contextmanager
    def fresh(self, vendor: Vendor) -> Iterator[MySQLServer]:
        """A server that has nothing but itself, and lives as long as the block; skips or fails when there is none."""
        server, process = self._started(vendor, ())
        try:
            yield server
        finally:
            process.kill()

    def close(self) -> None:
        """Stop all of them and remove what they wrote."""
        while self._processes:
            self._processes.pop().kill()
        while self._copies:
            shutil.rmtree(self._copies.popitem()[1], ignore_errors=True)
        self._running.clear()

    def _outside(self, vendor: Vendor) -> MySQLServer | None:
        url = os.environ.get(URL_VARIABLES[vendor], "")
        if not url:
            return None
        parts = urlsplit(url)
        return MySQLServer(
            vendor, parts.hostname or "127.0.0.1", parts.port or 3306, unquote(parts.username or "root"),
            unquote(parts.password or ""), find_clients(vendor),
        )  # fmt: skip

    def _start(self, vendor: Vendor, options: tuple[str, ...]) -> MySQLServer:
        server, process = self._started(vendor, options)
        self._processes.append(process)
        return server

    def _started(self, vendor: Vendor, options: tuple[str, ...]) -> "tuple[MySQLServer, _Process]":
        clients = find_clients(vendor)
        program = find_server(vendor)
        if program is None:
            _missing(vendor)
            raise AssertionError
        # What the server's user may not reach, as below /root, is copied to where it may.
        if not _reachable(program) and vendor == "mysql":
            tree = program.resolve().parents[1]
            if tree not in self._copies:
                self._copies[tree] = Path(tempfile.mkdtemp(prefix="mysql-bin-"))
                self._copies[tree].chmod(0o755)
                shutil.copytree(tree, self._copies[tree] / "tree", symlinks=True)
            program = self._copies[tree] / "tree" / "bin" / "mysqld"
        process = _Process(vendor, program, options)
        try:
            process.start()
        except BaseException:
            process.kill()
            raise
        socket = process.folder / "s.sock"
        server = MySQLServer(vendor, "127.0.0.1", process.port, "root", PASSWORD, clients, socket, process.pid)
        return server, process


class _Process:
    """One server process and its folder."""

    def __init__(self, vendor: Vendor, program: Path, options: tuple[str, ...]) -> None:
        self.vendor = vendor
        self.program = program
        self.port = 0
        self._options = options
        # Short, because the path of a Unix socket may have no more than 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{vendor}-", dir="/tmp" if Path("/tmp").is_dir() else None))
        self.folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Make the data folder and start the server; tries another port when somebody was faster."""
        first = self.folder / "init.sql"
        text = PASSWORD.replace("\\", "\\\\").replace("'", "''")
        first.write_text(
            "SET NAMES utf8mb4;\n"
            f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{text}';\n"
            "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n"
            f"ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{text}';\n"
            "GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n",
            encoding="utf-8",
        )
        first.chmod(0o644)
        templates.fill(self.folder / "data", self._make_data, self.vendor, self.program)
        for _ in range(3):
            if self._run([f"--init-file={first}"]):
                return
        raise self._failure("start")

    def _make_data(self) -> None:
        data = self.folder / "data"
        if self.vendor == "mariadb":
            make = [
                "mariadb-install-db", "--no-defaults", "--skip-name-resolve", "--force", f"--datadir={data}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
            ]  # fmt: skip
        else:
            make = [str(self.program), *_mysql_places(self.program), f"--datadir={data}", "--initialize-insecure"]
        with (self.folder / "log").open("ab") as log:
            made = subprocess.run(
                [*_as_server_user(), *make], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                timeout=_START_SECONDS, env=_server_environment(self.folder),
            )  # fmt: skip
        if made.returncode:
            raise self._failure("make its data folder")

    def _failure(self, doing: str) -> RuntimeError:
        tail = (self.folder / "log").read_text(errors="replace")[-2000:]
        return RuntimeError(f"the {self.vendor} server did not {doing}:\n{tail}")

    def _run(self, options: list[str]) -> bool:
        self.port = free_port()
        places = _mysql_places(self.program) if self.vendor == "mysql" else ["--no-defaults"]
        with (self.folder / "log").open("ab") as log:
            # In the foreground and as our child: the kernel stops it when the test session is killed.
            self._child = subprocess.Popen(
                [
                    *_as_server_user("--pdeathsig=KILL"), str(self.program), *places,
                    f"--datadir={self.folder / 'data'}", f"--socket={self.folder / 's.sock'}",
                    f"--pid-file={self.folder / 'pid'}", f"--port={self.port}", "--bind-address=127.0.0.1",
                    *_SETTINGS, *_SETTINGS_OF[self.vendor], *options, *self._options,
                ],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=_server_environment(self.folder),
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._child.poll() is None:
            with suppress(pymysql.Error, OSError):
                pymysql.connect(
                    host="127.0.0.1", port=self.port, user="root", password=PASSWORD.encode(), connect_timeout=5
                ).close()
                return True
            time.sleep(0.1)
        self._end()
        return False

    def kill(self) -> None:
        """End the server at once, for nobody will read its data again, and remove its folder."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()


_SETTINGS = (
    "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--skip-log-bin",
    "--max-allowed-packet=64M", "--max-connections=60", "--log-bin-trust-function-creators=1", "--local-infile=0",
)  # fmt: skip
_SETTINGS_OF: dict[str, tuple[str, ...]] = {
    "mariadb": ("--innodb-log-file-size=64M", "--skip-innodb-doublewrite", "--innodb-flush-method=nosync"),
    "mysql": ("--mysqlx=0", "--innodb-redo-log-capacity=128M", "--innodb-doublewrite=OFF", "--secure-file-priv=NULL"),
}


def _mysql_places(program: Path) -> list[str]:
    base = program.resolve().parents[1] / "fs" / "usr"
    return [
        "--no-defaults",
        f"--basedir={base}",
        f"--plugin-dir={base}/lib/mysql/plugin",
        f"--lc-messages-dir={base}/share/mysql",
    ]


@pytest.fixture(scope="session")
def mysql_servers() -> Iterator[MySQLServers]:
    """All servers, each started when a test first asks for it."""
    servers = MySQLServers()
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="session", params=VENDORS)
def mysql(request: pytest.FixtureRequest, mysql_servers: MySQLServers) -> MySQLServer:
    """A server, once for either vendor."""
    return mysql_servers.get(request.param)


@pytest.fixture(scope="session")
def mariadb(mysql_servers: MySQLServers) -> MySQLServer:
    """A MariaDB server."""
    return mysql_servers.get("mariadb")


@pytest.fixture(scope="session")
def oracle_mysql(mysql_servers: MySQLServers) -> MySQLServer:
    """A MySQL server that is not MariaDB."""
    return mysql_servers.get("mysql")


def find_clients(vendor: Vendor) -> Path:
    """The folder with the vendor's own client programs; skips or fails the test when there is none."""
    _, dump, client = _PROGRAMS[vendor]
    for folder in _folders(vendor):
        if os.access(folder / dump, os.X_OK) and os.access(folder / client, os.X_OK):
            told = subprocess.run([folder / dump, "--no-defaults", "--version"], capture_output=True, text=True).stdout
            if told and ("MariaDB" in told) == (vendor == "mariadb"):
                return folder
    _missing(vendor)
    raise AssertionError


def find_server(vendor: Vendor) -> Path | None:
    """The vendor's server program, or None."""
    name = _PROGRAMS[vendor][0]
    return next((folder / name for folder in _folders(vendor) if os.access(folder / name, os.X_OK)), None)


def quoted(name: str) -> str:
    """A name as an identifier."""
    return "`{}`".format(name.replace("`", "``"))


def _folders(vendor: Vendor) -> list[Path]:
    if vendor == "mysql":
        return [_ROOT / ".servers" / "mysql" / "bin"]
    return [*(Path(folder) for folder in os.get_exec_path()), Path("/usr/sbin"), Path("/usr/libexec")]


def _missing(vendor: Vendor) -> None:
    if vendor == "mysql":
        pytest.skip("MySQL is not installed: run tests/install-servers")
    missing("mariadb", "MariaDB is not installed: run tests/install-servers")


def _as_server_user(*options: str) -> list[str]:
    if os.geteuid() == 0:
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *options]
    return ["setpriv", *options] if options and shutil.which("setpriv") else []


def _reachable(program: Path) -> bool:
    return (
        subprocess.run([*_as_server_user(), str(program), "--no-defaults", "--version"], capture_output=True).returncode
        == 0
    )


def _server_environment(folder: Path) -> dict[str, str]:
    # What the developer's shell says about MySQL must not reach these servers.
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MYSQL", "MARIADB", "LC_", "LANG"))
    }
    return kept | {"LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "TMPDIR": str(folder), "TZ": "UTC"}
