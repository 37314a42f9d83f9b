"""Private MongoDB servers for the tests: replica sets of one, and standalone ones, started on first use.

Looked for below `.servers/mongodb/` (see `tests/install-servers`) and on PATH. `PENSTOCK_TEST_MONGODB_URL` names a
replica set from outside instead, with its root user and password, if it asks for them. What is not there is a skip
that says so, unless `PENSTOCK_TEST_REQUIRE` names `mongodb` or `mongodb-<version>`: then it is a failure.

The servers listen on 127.0.0.1 only, live in a temporary folder, and end with the test session, however that ends.
"""

import atexit
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pymongo
import pytest
from pymongo.errors import PyMongoError
from tests.servers.certificate import write_certificate
from tests.servers.postgres import free_port, missing

VERSIONS = ("4.4", "5.0", "6.0")
#: Names a replica set from outside.
URL_VARIABLE = "PENSTOCK_TEST_MONGODB_URL"
#: The password of `root` where the server asks for one. Each of its odd characters has a meaning in a URL or in YAML.
PASSWORD = "s3cret: of/the@mongo 'röle'\"\\%41"
_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 240.0
_REPLICA_SET = "rs0"

Client = pymongo.MongoClient[dict[str, Any]]


@dataclass(frozen=True)
class MongoServer:
    """A server that runs. `password` is empty where none is asked for, `ca` None where there is no TLS."""

    version: str
    host: str
    port: int
    password: str = field(default="", repr=False)
    user: str = "root"
    replica_set: str | None = None
    ca: Path | None = None
    pid: int | None = None

    def client(self, **options: Any) -> Client:
        """A connection of root, unless `options` say otherwise."""
        chosen: dict[str, Any] = {"serverSelectionTimeoutMS": 10_000, "directConnection": True}
        if self.password:
            chosen |= {"username": self.user, "password": self.password, "authSource": "admin"}
        if self.ca:
            chosen |= {"tls": True, "tlsCAFile": str(self.ca)}
        return pymongo.MongoClient(self.host, self.port, **(chosen | options))

    @contextmanager
    def connected(self, **options: Any) -> Iterator[Client]:
        """The same for the length of a block."""
        client = self.client(**options)
        try:
            yield client
        finally:
            client.close()

    def wipe(self) -> None:
        """Drop every database but the system's own, and every user and role but root."""
        with self.connected() as client:
            for name in client.list_database_names():
                if name not in ("admin", "config", "local"):
                    client.drop_database(name)
            for user in client["admin"]["system.users"].find({"user": {"$ne": self.user}}):
                client[user["db"]].command("dropUser", user["user"])
            for role in client["admin"]["system.roles"].find():
                client[role["db"]].command("dropRole", role["role"])
            for name in client["admin"].list_collection_names(filter={"name": {"$not": re.compile("^system")}}):
                client["admin"].drop_collection(name)


class MongoServers:
    """Starts servers on demand and keeps them for the session: `get("6.0")`, `get("6.0", auth=True)`."""

    def __init__(self) -> None:
        self._running: dict[tuple[object, ...], MongoServer] = {}
        self._processes: list[_Process] = []
        atexit.register(self.close)

    def get(
        self,
        version: str = VERSIONS[-1],
        *,
        replica_set: bool = True,
        auth: bool = False,
        tls: bool = False,
        name: str = "",
    ) -> MongoServer:
        """The server of that kind; `name` tells several of one kind apart. Skips or fails the test if there is none."""
        key = (version, replica_set, auth, tls, name)
        if key not in self._running:
            plain = version == VERSIONS[-1] and replica_set and not (auth or tls or name)
            outside = self.outside() if plain else None
            self._running[key] = outside or self._start(version, replica_set, auth, tls)
        return self._running[key]

    def outside(self) -> MongoServer | None:
        """The replica set from outside, which stands for the newest version; None where none is named."""
        if ("outside",) not in self._running and (found := _outside()):
            self._running["outside",] = found
        return self._running.get(("outside",))

    @contextmanager
    def fresh(self, version: str, *, auth: bool = False) -> Iterator[MongoServer]:
        """A replica set that has nothing but itself, and lives as long as the block; skips or fails if there is none.

        With `auth` it has `root`.
        """
        server, process = self._started(version, True, auth, False)
        try:
            yield server
        finally:
            process.kill()

    def close(self) -> None:
        """Stop all of them and remove what they wrote."""
        while self._processes:
            self._processes.pop().kill()
        self._running.clear()

    def _start(self, version: str, replica_set: bool, auth: bool, tls: bool) -> MongoServer:
        server, process = self._started(version, replica_set, auth, tls)
        self._processes.append(process)
        return server

    def _started(self, version: str, replica_set: bool, auth: bool, tls: bool) -> "tuple[MongoServer, _Process]":
        program = find_mongod(version)
        if program is None:
            missing(f"mongodb-{version}", f"MongoDB {version} is not installed: run tests/install-servers")
        find_tools()
        process = _Process(program, replica_set, auth, tls)
        try:
            process.start()
            server = MongoServer(
                version, "127.0.0.1", process.port, replica_set=_REPLICA_SET if replica_set else None,
                ca=process.folder / "ca.pem" if tls else None, pid=process.pid,
            )  # fmt: skip
            with server.connected() as client:
                if replica_set:
                    members = [{"_id": 0, "host": f"127.0.0.1:{process.port}"}]
                    client.admin.command("replSetInitiate", {"_id": _REPLICA_SET, "members": members})
                    _wait(lambda: bool(client.admin.command("hello").get("isWritablePrimary")))
                if auth:
                    client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        except BaseException:
            process.kill()
            raise
        return replace(server, password=PASSWORD if auth else ""), process


class _Process:
    """One server process and its folder."""

    def __init__(self, program: Path, replica_set: bool, auth: bool, tls: bool) -> None:
        self.program = program
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix="mongo-", dir="/tmp" if Path("/tmp").is_dir() else None))
        self._child: subprocess.Popen[bytes] | None = None
        self._options = ["--replSet", _REPLICA_SET] if replica_set else []
        if auth:
            self._write("key", "a2V5IG9mIHRoZSB0ZXN0cw\n" * 4)
            self._options += ["--auth", *(["--keyFile", str(self.folder / "key")] if replica_set else [])]
        if tls:
            write_certificate(self.folder / "ca.pem", self.folder / "ca.key")
            self._write("server.pem", (self.folder / "ca.pem").read_text() + (self.folder / "ca.key").read_text())
            self._options += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(self.folder / "server.pem")]
            self._options += ["--tlsCAFile", str(self.folder / "ca.pem"), "--tlsAllowConnectionsWithoutCertificates"]

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start it; tries another port when somebody was faster."""
        for _ in range(3):
            if self._run():
                return
        log = (self.folder / "log").read_text(errors="replace")
        raise RuntimeError(f"MongoDB did not start:\n{log[-2000:]}")

    def _run(self) -> bool:
        self.port = free_port()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        (self.folder / "data").mkdir()
        libraries = str(_ROOT / ".servers" / "mongodb" / "openssl")
        setpriv = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
        with (self.folder / "log").open("ab") as log:
            # In the foreground and as our child: the kernel stops it when the test session is killed.
            self._child = subprocess.Popen(
                [
                    *setpriv, str(self.program), "--dbpath", str(self.folder / "data"), "--bind_ip", "127.0.0.1",
                    "--port", str(self.port), "--unixSocketPrefix", str(self.folder), "--wiredTigerCacheSizeGB", "0.25",
                    "--oplogSize", "200", *self._options,
                ],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "LD_LIBRARY_PATH": libraries},
            )  # fmt: skip
        child = self._child
        ready = b"Waiting for connections"
        _wait(lambda: child.poll() is not None or ready in (self.folder / "log").read_bytes())
        if child.poll() is None:
            return True
        self._child = None
        return False

    def kill(self) -> None:
        """End the server at once, for nobody will read its data again, and remove its folder.

        A member that is asked to end looks for another one that takes its place.
        """
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")
        (self.folder / name).chmod(0o600)


@pytest.fixture(scope="session")
def mongo_servers() -> Iterator[MongoServers]:
    """All servers, each started when a test first asks for it."""
    servers = MongoServers()
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(params=VERSIONS)
def every_mongo(request: pytest.FixtureRequest, mongo_servers: MongoServers) -> Iterator[MongoServer]:
    """A replica set of one, once for every version; empty before and after."""
    server = mongo_servers.get(request.param)
    server.wipe()
    yield server
    server.wipe()


@pytest.fixture
def mongo(mongo_servers: MongoServers) -> Iterator[MongoServer]:
    """A replica set of one, of the newest version; empty before and after."""
    server = mongo_servers.get()
    server.wipe()
    yield server
    server.wipe()


def find_mongod(version: str) -> Path | None:
    """The server program of a version, or None."""
    program = _ROOT / ".servers" / "mongodb" / version / "mongod"
    if os.access(program, os.X_OK):
        return program
    found = shutil.which("mongod")
    if found:
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=120).stdout
            return Path(found) if f"db version v{version}." in told else None
    return None


def find_tools() -> Path:
    """The folder of mongodump and mongorestore; skips or fails the test when there is none."""
    folders = [_ROOT / ".servers" / "mongodb" / "tools", *(Path(folder) for folder in os.get_exec_path())]
    for folder in folders:
        if os.access(folder / "mongodump", os.X_OK) and os.access(folder / "mongorestore", os.X_OK):
            return folder
    return missing("mongodb-tools", "the MongoDB Database Tools are not installed: run tests/install-servers")


def _outside() -> MongoServer | None:
    url = os.environ.get(URL_VARIABLE, "")
    if not url:
        return None
    parts = urlsplit(url)
    user, password = unquote(parts.username or "root"), unquote(parts.password or "")
    server = MongoServer("", parts.hostname or "127.0.0.1", parts.port or 27017, password, user, _REPLICA_SET)
    find_tools()
    with server.connected() as client:
        told = client.admin.command("hello")
        version = ".".join(client.server_info()["version"].split(".")[:2])
    return MongoServer(**(vars(server) | {"version": version, "replica_set": told.get("setName")}))


def _wait(ready: Any) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, PyMongoError):
            if ready():
                return
        time.sleep(0.05)
    raise RuntimeError(f"MongoDB was not ready within {_START_SECONDS:g} seconds")
