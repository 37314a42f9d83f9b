"""As much of Redis's protocol as is needed here.

RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Self

from penstock.api import SourceDenied, SourceError, SourceUnreachable
from penstock_redis.settings import RedisSettings

__all__ = ["Connection", "encoded", "read_request"]

_DENIED = ("NOAUTH", "WRONGPASS", "NOPERM")


class Connection:
    """One connection to a server, logged in. Errors are `SourceError`s; none of them repeats a command."""

    def __init__(self, settings: RedisSettings) -> None:
        """Raises `SourceUnreachable`, `SourceDenied`, and what resolving the password raises."""
        self.location = settings.location
        password = settings.password.resolve() if settings.password else None
        with self._translated():
            self._socket = socket.create_connection((settings.host, settings.port), settings.connect_timeout)
            self._stream = self._socket.makefile("rb")
        try:
            if password is not None:
                self.command("AUTH", *([settings.user] if settings.user else []), password.reveal())
        except BaseException:
            self.close()
            raise

    @property
    def own_address(self) -> str:
        """This host, as the server sees it if nothing translates addresses between them."""
        return str(self._socket.getsockname()[0])

    @property
    def peer_address(self) -> str:
        """The server's address."""
        return str(self._socket.getpeername()[0])

    def command(self, *words: str) -> object:
        """The answer to one command: bytes, an integer, a list or None."""
        with self._translated():
            self._socket.sendall(encoded(*words))
            return self._answer(words[0])

    def info(self) -> dict[str, str]:
        """What INFO tells, without its headings."""
        told = self.command("INFO", "everything")
        lines = told.decode(errors="replace").splitlines() if isinstance(told, bytes) else []
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def setting(self, name: str) -> str:
        """One setting of the server, "" where it has none of that name."""
        told = self.command("CONFIG", "GET", name)
        return told[1].decode() if isinstance(told, list) and len(told) == 2 else ""

    def close(self) -> None:
        """Let go."""
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, asked: str) -> object:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            said = rest.decode(errors="replace")
            raise (SourceDenied if said.startswith(_DENIED) else SourceError)(f"{self.location}: {asked}: {said}")
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._answer(asked) for _ in range(int(rest))]
        return rest

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceUnreachable(f"{self.location}: {error.strerror or error}") from error


def encoded(*words: str) -> bytes:
    """A command as it is sent."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def read_request(stream: BinaryIO) -> list[bytes]:
    """A command as a server reads it; an empty list at the end of the connection."""
    line = stream.readline()
    if not line.startswith(b"*"):
        return []
    words = []
    for _ in range(int(line[1:])):
        length = int(stream.readline()[1:])
        words.append(stream.read(length + 2)[:-2])
    return words
