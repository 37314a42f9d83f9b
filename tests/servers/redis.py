"""Private Redis servers for the tests, each started on first use.

A server that is not there is a skip that says so, unless `PENSTOCK_TEST_REQUIRE` names `redis`. They listen on
127.0.0.1 only, live in a temporary folder, keep nothing on disk, and end with the test session, however that ends.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pytest

#: The password of every server.
PASSWORD = "s3cret of the rödis"
_START_SECONDS = 240.0


@dataclass(frozen=True)
class RedisServer:
    """A server that runs."""

    port: int
    password: str = field(repr=False)
    host: str = "127.0.0.1"

    def run(self, *words: str | bytes, database: int = 0) -> Any:
        """The answer to one command; an error is raised."""
        (answer,) = self.pipe([words], database=database)
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    def pipe(self, commands: Sequence[Sequence[str | bytes]], database: int = 0) -> list[Any]:
        """The answers to many commands that are sent at once; errors among them as `RuntimeError`."""
        everything = [("AUTH", self.password), ("SELECT", str(database)), *commands]
        with socket.create_connection((self.host, self.port), 30) as link, link.makefile("rb") as stream:
            sending = threading.Thread(target=link.sendall, args=(b"".join(map(_encoded, everything)),))
            sending.start()
            answers = [_answer(stream) for _ in everything]
            sending.join()
        return answers[2:]


class RedisServers:
    """Starts servers on demand and keeps them for the session: `get()`, `get("target")`."""

    def __init__(self) -> None:
        self._running: dict[str, RedisServer] = {}
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []
        atexit.register(self.close)

    def get(self, name: str = "") -> RedisServer:
        """The server of that name; skips or fails the test when Redis is not installed."""
        if name not in self._running:
            self._running[name] = self._start()
        return self._running[name]

    def close(self) -> None:
        """Stop all of them and remove what they wrote."""
        while self._processes:
            process, folder = self._processes.pop()
            process.send_signal(signal.SIGKILL)
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
        self._running.clear()

    def _start(self) -> RedisServer:
        program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        if program is None or shutil.which("redis-cli") is None:
            _missing("Redis is not installed: run tests/install-servers")
        folder = Path(tempfile.mkdtemp(prefix="redis-"))
        (folder / "redis-server").symlink_to(program)  # what it is called is what it does
        for _ in range(3):
            port = _free_port()
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    [*_ending_with_us(), str(folder / "redis-server"), "-"],
                    cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self._processes.append((process, folder))
            assert process.stdin is not None
            with process.stdin as configuration:
                configuration.write(_CONFIGURATION.format(port=port, password=PASSWORD).encode())
            server = RedisServer(port, PASSWORD)
            deadline = time.monotonic() + _START_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                with suppress(OSError):
                    if server.run("PING") == b"PONG":
                        return server
                time.sleep(0.05)
        raise RuntimeError(f"Redis did not start:\n{(folder / 'log').read_text(errors='replace')[-2000:]}")


# By a file, not by the command line, where everybody could read the password. No waiting for further replicas.
_CONFIGURATION = """\
port {port}
bind 127.0.0.1
requirepass "{password}"
save ""
databases 4
repl-diskless-sync-delay 0
"""


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[RedisServers]:
    """All servers, each started when a test first asks for it."""
    servers = RedisServers()
    try:
        yield servers
    finally:
        servers.close()


def _answer(stream: BinaryIO) -> Any:
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    match kind:
        case b"+":
            return rest
        case b"-":
            return RuntimeError(rest.decode(errors="replace"))
        case b":":
            return int(rest)
        case b"$":
            return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
        case b"*":
            return None if rest == b"-1" else [_answer(stream) for _ in range(int(rest))]
    raise ConnectionError("the server closed the connection")


def _encoded(words: Sequence[str | bytes]) -> bytes:
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _ending_with_us() -> list[str]:
    return ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []


def _missing(reason: str) -> NoReturn:
    if "redis" in {name.strip() for name in os.environ.get("PENSTOCK_TEST_REQUIRE", "").split(",")}:
        pytest.fail(f"{reason} (PENSTOCK_TEST_REQUIRE asks for it)")
    pytest.skip(reason)
