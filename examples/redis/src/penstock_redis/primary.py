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

from penstock.api import RestoreFailed
from penstock_redis.resp import Connection, read_request

__all__ = ["replicate"]

_MAGIC = b"REDIS"
_HANDSHAKE_SECONDS = 60.0
_POLL_SECONDS = 0.02


def replicate(
    server: Connection, name: str, blocks: Iterable[memoryview], *, address: str | None, timeout: float
) -> None:
    """Give the file to the server, and return when it has loaded it. Raises `RestoreFailed`.

    Whatever fails, `blocks` included, before the file is complete leaves the server's data as it was.
    """
    host = address or server.own_address
    family = socket.AF_INET6 if ":" in server.own_address else socket.AF_INET
    # On all addresses only where it is not known which of them is meant.
    with socket.create_server(("" if address else host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with _replica_of(server, host, port) as token, _accepted(listener, server.peer_address, token) as link:
            try:
                _send(link, blocks)
            except OSError as error:
                raise RestoreFailed(f"{server.location} stopped taking {name}: {error.strerror or error}") from error
            _wait_until_loaded(server, link, name, timeout)
    if server.setting("save"):
        server.command("SAVE")  # what is reported as restored is on the disk


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
def _accepted(listener: socket.socket, peer: str, token: str) -> Iterator[socket.socket]:
    """The server's connection, which has asked for a full synchronisation. Strangers are turned away."""
    deadline = time.monotonic() + _HANDSHAKE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            link, (address, *_) = listener.accept()
        except TimeoutError:
            break
        with link:
            link.settimeout(_HANDSHAKE_SECONDS)
            with suppress(OSError, ValueError):
                if address == peer and _shakes_hands(link, token):
                    yield link
                    return
    raise RestoreFailed(
        f"the server did not connect to this host within {_HANDSHAKE_SECONDS:g} seconds",
        hint="it must be able to reach this host: name an address that it can, with the option address=…",
    )


def _shakes_hands(link: socket.socket, token: str) -> bool:
    """Answer as a primary does, until PSYNC; whether that came from somebody who knows the token."""
    known = False
    with link.makefile("rb") as stream:
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


def _send(link: socket.socket, blocks: Iterable[memoryview]) -> None:
    mark = secrets.token_hex(20).encode()
    link.settimeout(None)
    link.sendall(b"+FULLRESYNC %b 0\r\n$EOF:%b\r\n" % (secrets.token_hex(20).encode(), mark))
    for block in _beginning_as_a_file_does(blocks):
        link.sendall(block)
    link.sendall(mark)


def _beginning_as_a_file_does(blocks: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
    """The blocks, unless they are no RDB file: a server ends itself when it cannot read what its primary sent."""
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
        raise RestoreFailed("the stream is no RDB file")


def _wait_until_loaded(server: Connection, link: socket.socket, name: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while server.info().get("master_link_status") != "up":
        # It says how far it is, every second. What it says does not matter, that it goes away does.
        ready, _, _ = select.select([link], [], [], _POLL_SECONDS)
        if (ready and not link.recv(65_536)) or time.monotonic() > deadline:
            raise RestoreFailed(f"{server.location} did not load {name}", hint="its log says why")
