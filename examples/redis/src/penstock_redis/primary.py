"""The restore: for a moment this process is the primary that a server synchronises from.

So the server itself reads the RDB file: every type and expiry, functions, modules' data. It keeps its old data until it
has the whole file, with the mark that only a restore that went well sends. See "How Redis replication works"
(https://redis.io/docs/latest/operate/oss_and_stack/management/replication/).
"""

import secrets
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from penstock.api import NEVER, RestoreFailed, StopToken
from penstock_redis.resp import Connection, read_request

__all__ = ["Transfer", "transfer"]

_MAGIC = b"REDIS"
_HANDSHAKE_SECONDS = 60.0
_POLL_SECONDS = 0.02


class Transfer:
    """One RDB file on its way to a server, which loads it when it has seen the mark that `finish` sends."""

    def __init__(self, server: Connection, link: socket.socket, timeout: float, stop: StopToken) -> None:
        self._server = server
        self._link = link
        self._timeout = timeout
        self._stop = stop
        self._mark = secrets.token_hex(20).encode()

    def send(self, blocks: Iterable[memoryview]) -> None:
        """Send the file. Raises `RestoreFailed`."""
        with self._translated():
            self._link.settimeout(self._timeout)
            replication = secrets.token_hex(20).encode()
            self._link.sendall(b"+FULLRESYNC %b 0\r\n$EOF:%b\r\n" % (replication, self._mark))
        for block in _beginning_as_a_file_does(blocks):
            with self._translated():
                self._link.sendall(block)

    def finish(self) -> None:
        """Return when the server has loaded the file and, where it saves at all, saved it. Raises `RestoreFailed`."""
        with self._translated():
            self._link.sendall(self._mark)
        deadline = time.monotonic() + self._timeout
        while self._server.info().get("master_link_status") != "up":
            self._stop.check()
            # It says how far it is, every second. What it says does not matter, that it goes away does.
            ready, _, _ = select.select([self._link], [], [], _POLL_SECONDS)
            if (ready and not self._link.recv(65_536)) or time.monotonic() > deadline:
                raise RestoreFailed(f"{self._server.location} did not load the file", hint="See the server's log.")
        if self._server.setting("save"):
            self._server.command("SAVE")  # what is reported as restored is on the disk

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise RestoreFailed(f"{self._server.location} stopped taking the file: {reason}") from error


@contextmanager
def transfer(server: Connection, *, address: str | None, timeout: float, stop: StopToken = NEVER) -> Iterator[Transfer]:
    """Let the server synchronise from this process during the block; `timeout` is how long it may make no step.

    Leaving the block before `Transfer.finish` has returned leaves the server's data as it was. Raises `RestoreFailed`.
    """
    host = address or server.own_address
    family = socket.AF_INET6 if ":" in server.own_address else socket.AF_INET
    # On all addresses only where it is not known which of them is meant.
    with socket.create_server(("" if address else host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with (
            _replica_of(server, host, port) as token,
            _accepted(listener, server.peer_address, token, stop) as link,
        ):
            yield Transfer(server, link, timeout, stop)


@contextmanager
def _replica_of(server: Connection, host: str, port: int) -> Iterator[str]:
    """Make the server a replica of this process, which it has to show a token; afterwards it is what it was."""
    token = secrets.token_hex(24)
    before = {one: server.setting(one) for one in ("masterauth", "masteruser")}
    server.command("CONFIG", "SET", "masteruser", "", "masterauth", token)
    try:
        server.command("REPLICAOF", host, str(port))
        yield token
    finally:
        server.command("REPLICAOF", "NO", "ONE")
        server.command("CONFIG", "SET", *(word for pair in before.items() for word in pair))


@contextmanager
def _accepted(listener: socket.socket, peer: str, token: str, stop: StopToken) -> Iterator[socket.socket]:
    """The server's connection, which has asked for a full synchronisation. Strangers are turned away."""
    deadline = time.monotonic() + _HANDSHAKE_SECONDS
    while time.monotonic() < deadline:
        stop.check()
        listener.settimeout(_POLL_SECONDS)
        try:
            link, (address, *_) = listener.accept()
        except TimeoutError:
            continue
        with link:
            link.settimeout(_HANDSHAKE_SECONDS)
            if address == peer and _shakes_hands(link, token):
                yield link
                return
    raise RestoreFailed(
        f"the server did not connect to this host within {_HANDSHAKE_SECONDS:g} seconds",
        hint="Name an address of this host that the server can reach, with the option address=….",
    )


def _shakes_hands(link: socket.socket, token: str) -> bool:
    """Answer as a primary does, until PSYNC; whether that came from somebody who knows the token."""
    known = False
    with suppress(OSError, ValueError), link.makefile("rb") as stream:
        while words := read_request(stream):
            match words[0].upper():
                case b"PING":
                    link.sendall(b"+PONG\r\n")
                case b"AUTH":
                    known = secrets.compare_digest(words[-1], token.encode())
                    link.sendall(b"+OK\r\n" if known else b"-WRONGPASS\r\n")
                case b"REPLCONF":
                    link.sendall(b"+OK\r\n")
                case b"PSYNC" | b"SYNC":
                    return known
                case _:
                    return False
    return False


def _beginning_as_a_file_does(blocks: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
    """The blocks of an RDB file; others are refused, since a server that cannot read what its primary sent exits."""
    start = b""
    for block in blocks:
        if len(start) >= len(_MAGIC):
            yield block
            continue
        start += block
        if len(start) >= len(_MAGIC):
            if not start.startswith(_MAGIC):
                break
            yield start
    if not start.startswith(_MAGIC):
        raise RestoreFailed("the stream is not an RDB file")
