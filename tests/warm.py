"""Runs of the command that need not import everything first, which takes longer than what most tests let it do.

Each is a process of its own, with the environment, streams, folder and session that it would have otherwise; only it is
forked from one that has the modules already, and gives new passphrases the least cost. What a start itself does,
imports or shows to others (`/proc` has the arguments and the environment of the process that was forked), and how much
memory a run takes, is for tests that start the installed command.
"""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

__all__ = ["WarmRun", "can_start", "run", "start"]

_ROOT = Path(__file__).parents[1]
#: What an interpreter or a library looks at when it starts, by how the names of the variables begin.
_LOOKED_AT = ("COVERAGE_", "LD_", "LANG", "LC_", "MALLOC_", "OPENSSL_", "PYTHON", "SSL_")
_LOCALE = "C.UTF-8"


class WarmRun:
    """One run; what it is asked and told is as with `subprocess.Popen`. Safe to use from several threads."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, minus the number of the signal that ended it, or None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("penstock", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
        with self._lock:
            if self.returncode is None:
                os.kill(self.pid, number)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            with self._lock:
                if self.returncode is None:
                    self.returncode = int(self._status.recv(32))
                    self._status.close()
        return self.returncode


def can_start(environment: Mapping[str, str]) -> bool:
    """Whether a run with that environment is the same when it is forked."""
    special = {name: value for name, value in environment.items() if name.startswith(_LOOKED_AT)}
    return sys.platform == "linux" and special == {"LC_ALL": _LOCALE}


def start(
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> WarmRun:
    """Run the command with these arguments, as the leader of a session of its own."""
    request = {"arguments": list(arguments), "folder": str(folder.absolute()), "environment": dict(environment)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, Path(os.devnull).open("rb") as nothing:
        source = nothing if isinstance(stdin, int) else stdin
        descriptors = [source.fileno(), stdout.fileno(), stderr.fileno(), theirs.fileno()]
        socket.send_fds(_program(), [json.dumps(request).encode()], descriptors)
    pid = ours.recv(32)
    assert pid, "the process that is forked has ended: its stderr is this one"
    return WarmRun(int(pid), ours)


def run(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], stdin: str = "", timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, as `subprocess.run` does. Raises `subprocess.TimeoutExpired`."""
    with TemporaryFile() as given, TemporaryFile() as stdout, TemporaryFile() as stderr:
        given.write(stdin.encode())
        given.seek(0)
        started = start(arguments, folder=folder, environment=environment, stdin=given, stdout=stdout, stderr=stderr)
        code = started.wait(timeout)
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(["penstock", *arguments], code, *texts)


@cache
def _program() -> socket.socket:
    """The other end of the process that is forked; it ends with this one, or when the tests do."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_program", str(theirs.fileno())],
            cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": _LOCALE},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait(60)

    atexit.register(end)
    return ours
