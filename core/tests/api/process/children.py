"""Programs that behave as children do, and ways to look at processes."""

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from penstock.api import ChildOutput

NAME = "dump of shop"
#: How a program waits that handles a signal: one that comes just before `signal.pause()` is not seen until the next.
FOR_EVER = "while True: time.sleep(0.05)"
# The child announces a process of its own group, or one that fled from it, and then goes on or ends.
FORK = "import os, sys, time\npid = os.fork()\nif not pid:\n    {role}\n    time.sleep(600)\n    os._exit(0)\n"
IN_GROUP = FORK.format(role="pass")
FLED = FORK.format(role="os.setsid()")
STUBBORN = """\
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(600)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def read_all(stream: ChildOutput, size: int = 64 * 1024) -> bytes:
    buffer = bytearray(size)
    parts = bytearray()
    while count := stream.readinto(memoryview(buffer)):
        parts += buffer[:count]
    return bytes(parts)


def is_there(pid: int) -> bool:
    """Whether a process is there at all: a zombie is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Whether a process is there and not dead: who adopts it may be slow to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def descriptors() -> int:
    """How many this process has, and will have when what other tests have left behind is collected."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread of another test that ends now
            found.update((task / "children").read_text().split())
    return found
