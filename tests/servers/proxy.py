"""A TCP proxy that does to a connection what networks do: delay, trickle, cut, reset, swallow, refuse.

    with FaultyProxy("127.0.0.1", 9000) as proxy:
        proxy.faults = Faults(cut_download_after=100_000, times=1)
        ...connect to 127.0.0.1:proxy.port

Faults are those of each connection that is opened, or goes on, while they are set. It knows nothing of what it carries.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

_BLOCK = 16 * 1024
_TICK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to bytes on their way. Counts are of one connection, from when it is opened."""

    #: Seconds that every block waits, in both directions.
    latency: float = 0.0
    #: Bytes a second, in each direction; None for as many as there are.
    rate: int | None = None
    #: The connection is closed after that many bytes to the server, or to the client.
    cut_upload_after: int | None = None
    cut_download_after: int | None = None
    #: A cut is a reset (RST) instead of an orderly end.
    reset: bool = False
    #: Nothing is passed on any more, and nothing is closed.
    hang: bool = False
    #: One bit of that byte to the server is turned over.
    damage_upload_at: int | None = None
    #: How many connections are cut or damaged, None for all.
    times: int | None = None


class FaultyProxy:
    """Listens on a free port of `listen` and passes everything to `host:port`, but for `faults`."""

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1") -> None:
        self.faults = Faults()
        #: How many connections were opened, and how many of them cut or damaged.
        self.opened = 0
        self.struck = 0
        self._target = (host, port)
        self._address = listen
        self._ended = threading.Event()
        self._gone = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._acceptor = self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._join()
        self._listener.close()

    def heal(self) -> None:
        """No faults from now on."""
        self.faults = Faults()

    def vanish(self) -> None:
        """As if the server had ended: open connections are closed, and new ones refused."""
        self._gone.set()
        self._acceptor.join()
        self._listener.close()
        self._join()

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self._gone.clear()
        self._listener = self._listen(self.port)
        self._acceptor = self._start(self._accept)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((self._address, port))
        listener.settimeout(_TICK_SECONDS)
        return listener

    def _over(self) -> bool:
        return self._ended.is_set() or self._gone.is_set()

    def _accept(self) -> None:
        while not self._over():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                self.opened += 1
                self._start(partial(self._carry, client))

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name="faulty-proxy", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()
        return thread

    def _join(self) -> None:
        with self._lock:
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(10)

    def _carry(self, client: socket.socket) -> None:
        """Both directions of one connection, in one thread, so that a cut cuts both."""
        with client, contextlib.suppress(OSError), socket.create_connection(self._target, timeout=60) as server:
            client.settimeout(60)
            other = {client: server, server: client}
            passed = {client: 0, server: 0}
            while not self._over():
                readable, _, _ = select.select(list(other), [], [], _TICK_SECONDS)
                for end in readable if not self.faults.hang else ():
                    if not self._pass(end, other[end], passed, upload=end is client):
                        return
                if self.faults.hang:
                    time.sleep(_TICK_SECONDS)

    def _pass(
        self, origin: socket.socket, target: socket.socket, passed: dict[socket.socket, int], *, upload: bool
    ) -> bool:
        """Pass one block on; False when the connection has come to its end."""
        faults = self.faults
        limit = faults.cut_upload_after if upload else faults.cut_download_after
        block = origin.recv(_BLOCK)
        if not block:
            return False
        time.sleep(faults.latency + (len(block) / faults.rate if faults.rate else 0))
        if limit is not None and passed[origin] + len(block) > limit and self._may_strike(faults):
            target.sendall(block[: max(0, limit - passed[origin])])
            if faults.reset:
                for end in passed:  # to close at once, with what is unsent thrown away, is to reset
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        damage = None if faults.damage_upload_at is None else faults.damage_upload_at - passed[origin]
        if upload and damage is not None and 0 <= damage < len(block) and self._may_strike(faults):
            block = b"%b%c%b" % (block[:damage], block[damage] ^ 1, block[damage + 1 :])
        target.sendall(block)
        passed[origin] += len(block)
        return True

    def _may_strike(self, faults: Faults) -> bool:
        """Whether a block may be struck that met these faults; they may have been set anew while it waited."""
        with self._lock:
            # Not by what the thread saw a moment ago: another may have struck since.
            left = self.faults.times
            if replace(faults, times=left) != self.faults or (left is not None and left <= 0):
                return False
            if left is not None:
                self.faults = replace(self.faults, times=left - 1)
            self.struck += 1
            return True
