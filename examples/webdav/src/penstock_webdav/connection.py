"""HTTP/1.1 requests to one server, over connections that are kept: from several threads at once."""

import base64
import http.client
import queue
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from penstock.api import Deadline, SinkDenied, SinkError, SinkFull, SinkUnreachable, drain
from penstock_webdav.settings import WebDavSettings

__all__ = ["Answer", "Connections", "refusal"]

_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Connections:
    """Connections to one server. Nothing is connected before the first request."""

    def __init__(self, settings: WebDavSettings) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        key: str,
        body: bytes | bytearray | memoryview = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer. Raises `SinkUnreachable`; a status is for the caller to judge."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._made()
        connection.timeout = deadline.limit(self._settings.timeout)
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        try:
            connection.request(method, path, body, {**self._login(), **(headers or {})})
            sock = connection.sock  # which the connection forgets when the answer is its last
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, self._body(response, sock, deadline))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SinkUnreachable(key, f"{self._settings.address}: {reason}") from error
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return answer

    def close(self) -> None:
        """Close all of them."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _body(self, response: http.client.HTTPResponse, sock: socket.socket, deadline: Deadline) -> bytes:
        def bound(seconds: float) -> None:
            if not response.isclosed():
                sock.settimeout(seconds)

        body = drain(lambda: response.read(_BLOCK), bound=bound, timeout=self._settings.timeout, deadline=deadline)
        if response.length:  # what is still to come
            raise http.client.IncompleteRead(body, response.length)
        return body

    def _made(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._settings.address)
        assert parts.hostname is not None
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port)
        ca_file = str(self._settings.ca_file) if self._settings.ca_file else None
        context = ssl.create_default_context(cafile=ca_file)
        return http.client.HTTPSConnection(parts.hostname, parts.port, context=context)

    def _login(self) -> dict[str, str]:
        if self._settings.password is None:
            return {}
        secret = self._settings.password.resolve()
        text = f"{self._settings.user or ''}:{secret.reveal()}"
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def refusal(key: str, answer: Answer, doing: str) -> SinkError:
    """The error that a status means; nothing of the body is repeated, which may be a page of any size."""
    reason = (
        f"cannot {doing}: the server answers {answer.status} {http.client.responses.get(answer.status, '')}".strip()
    )
    if answer.status in (401, 403):
        return SinkDenied(key, reason, hint="look at the user, the password, and what the user may do there")
    if answer.status in (413, 507):
        return SinkFull(key, reason)
    if answer.status in (408, 423, 425, 429) or answer.status >= 500:
        return SinkUnreachable(key, reason)
    return SinkError(key, reason)
