"""A process that has imported what the command imports, and is forked for each run of it.

    python -m tests.warm_program SOCKET

SOCKET is the number of a descriptor of type SOCK_SEQPACKET. A request is a JSON document with `arguments`, `folder` and
`environment`; with it come stdin, stdout, stderr and a socket for that run alone. The run's process id goes there, and
when it has ended, its exit code, or minus the number of the signal that ended it. The process stays a zombie until the
other side closes that socket, so that its number cannot become somebody else's before.

Two forks a run: the keeper, which waits for the command and needs nothing else from here, and the command itself.
"""

import gc
import importlib
import json
import os
import pkgutil
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["load", "main"]

_LONGEST_REQUEST = 1 << 20
_STREAMS = 3
#: With this locale, and where none is a terminal.
_AS_PYTHON_OPENS_THEM = (
    ("stdin", "r", -1, "surrogateescape"),
    ("stdout", "w", -1, "surrogateescape"),
    ("stderr", "w", 1, "backslashreplace"),
)


def main(number: int) -> int:
    """Serve requests until the other side ends; in the process of a run, the exit code of the command."""
    from penstock.cli import main as command

    load()
    requests = socket.socket(fileno=number)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the other side ends then, and so does this
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _LONGEST_REQUEST, _STREAMS + 1)
        if not data:
            return 0
        if os.fork() == 0:
            *streams, number = descriptors
            status = socket.socket(fileno=number)
            if _is_command(status):
                requests.close()  # now, or it would close later on what the command has opened under the same number
                _become(json.loads(data), streams, status)
                return command()
        for one in descriptors:
            os.close(one)


def load() -> None:
    """Import everything, and see that nothing is started by that: a thread would be missing in every run."""
    from penstock.cli.own_process import lighten

    lighten()
    from penstock.plugins import PluginHost

    for name in ("penstock", *sorted({one.distribution.replace("-", "_") for one in PluginHost().plugins()})):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not re.fullmatch(r"penstock\.testing(\..*)?|.*\.__main__", module.name):
                importlib.import_module(module.name)
    _make_passphrases_cheap()
    gc.collect()
    gc.freeze()
    assert len(list(Path("/proc/self/task").iterdir())) == 1


def _make_passphrases_cheap() -> None:
    """Let new slots have the least cost that a reader takes: thousands of runs open one, a third of a second each.

    A slot says its cost, so what opens them, here or in a command that is started, does all that it does otherwise.
    """
    from penstock.format.keys import PassphraseCost
    from penstock.repository import repository

    vars(repository)["PassphraseCost"] = partial(PassphraseCost, iterations=2, memory_kib=19 * 1024, lanes=1)


def _is_command(status: socket.socket) -> bool:
    """Fork once more, and true in the child. The parent, which is the keeper, ends here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        return True
    # All else would be kept open by the keeper, such as the command's end of a pipe.
    os.dup2(status.fileno(), 0)
    os.closerange(1, os.sysconf("SC_OPEN_MAX"))
    status = socket.socket(fileno=0)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    _tell(status, str(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status))
    try:
        status.recv(1)
    finally:
        os._exit(0)


def _tell(status: socket.socket, text: str) -> None:
    try:
        status.send(text.encode())
    except OSError:  # nobody asks any more
        os._exit(0)


def _become(request: dict[str, Any], streams: Sequence[int], status: socket.socket) -> None:
    """Make this process what the command finds when it is started."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _tell(status, str(os.getpid()))
    status.close()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(_STREAMS, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    tempfile.tempdir = None
    sys.argv = ["penstock", *request["arguments"]]
    for number, (name, mode, buffering, errors) in enumerate(_AS_PYTHON_OPENS_THEM):
        stream = open(number, mode, buffering, "utf-8", errors, closefd=False)  # noqa: SIM115 - for as long as it runs
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
