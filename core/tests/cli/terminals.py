"""Runs the command as somebody at a terminal does."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable

from core.tests.cli.running import Penstock

# Gives the child a terminal of its own: getpass asks there.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'penstock', *sys.argv[1:]])"
)


def on_terminal(
    penstock: Penstock, *arguments: str, answers: list[str | Callable[[str], str]], **environ: str
) -> tuple[int, str]:
    """Run it on a pseudo-terminal; each answer, or what it makes of what is seen, is typed at the next question."""
    controller, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *arguments],
        cwd=penstock.folder,
        env={**penstock.environ, "TERM": "xterm", **environ},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = ""
    limit = time.monotonic() + 300
    try:
        while time.monotonic() < limit:
            if not select.select([controller], [], [], 1)[0]:
                continue
            try:
                block = os.read(controller, 4096)
            except OSError:  # EIO: the child has closed its end
                break
            if not block:
                break
            seen += block.decode(errors="replace")
            if answers and seen.endswith(": "):
                answer = answers.pop(0)
                os.write(controller, ((answer if isinstance(answer, str) else answer(seen)) + "\n").encode())
        return child.wait(timeout=300), seen
    finally:
        child.kill()
        child.wait()
        os.close(controller)
