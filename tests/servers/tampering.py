"""An HTTP proxy before a real server that answers, loses, holds back, cuts and changes what tests tell it to.

    with TamperingProxy(server.endpoint) as proxy:
        proxy.script = [Act("PUT", status=503), Act("PUT", lose=True)]
        ...use proxy.endpoint

Each act is for the first request of its method, and used up by it, unless it is to stay.
"""

import http.client
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

_OF_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding"}
_NAME = re.compile(rb'"name": "([^"]*)"')


@dataclass
class Act:
    """What happens to one request."""

    method: str
    #: Answered with this, and not passed on.
    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    #: Passed on, but the connection is closed in place of the answer.
    lose: bool = False
    #: Neither passed on nor answered, and the connection stays open until the proxy ends.
    hang: bool = False
    #: Only so many bytes of the answer's body come, of all that its header promises; then the connection is closed.
    truncate: int | None = None
    change_request: Callable[[bytes], bytes] = bytes
    change_answer: Callable[[bytes], bytes] = bytes
    #: Only requests with this in their address.
    where: str = ""
    #: Only requests for an object with this in its name.
    name: str = ""
    stay: bool = False


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def name(self) -> str:
        """What the request is about: the path, or, of an upload to GCS, the name that its metadata give."""
        path = unquote(self.path.partition("?")[0])
        found = _NAME.search(self.body[:4096]) if path.startswith("/upload/") else None
        return found[1].decode() if found else path


class TamperingProxy:
    """Listens on a free port of 127.0.0.1 and passes requests on to `endpoint`, as `script` says."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self.script: list[Act] = []
        self.seen: list[Seen] = []
        self._target = (parts.hostname or "", parts.port or 80)
        self._lock = threading.Lock()
        self.ended = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = parts._replace(netloc=f"127.0.0.1:{self._server.server_port}").geturl()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def asked(self, method: str, name: str = "") -> int:
        """How many requests of a method came, for objects with `name` in their name."""
        with self._lock:
            return sum(one.method == method and name in one.name for one in self.seen)

    def act_for(self, seen: Seen) -> Act:
        """What the script says about the request, which is noted."""
        with self._lock:
            self.seen.append(seen)
            for act in self.script:
                if act.method == seen.method and act.where in seen.path and act.name in seen.name:
                    if not act.stay:
                        self.script.remove(act)
                    return act
        return Act(seen.method)

    def pass_on(self, seen: Seen, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """What the server answers to the request with this body."""
        connection = http.client.HTTPConnection(*self._target, timeout=60)
        try:
            headers = {name: value for name, value in seen.headers.items() if name.lower() not in _OF_CONNECTION}
            if seen.method in {"POST", "PUT", "PATCH"}:
                headers["Content-Length"] = str(len(body))
            connection.request(seen.method, seen.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: TamperingProxy

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # it broke off on its way here
            self.close_connection = True
            return
        seen = Seen(self.command, self.path, dict(self.headers.items()), body)
        act = self.proxy.act_for(seen)
        if act.hang:
            self.proxy.ended.wait()
            self.close_connection = True
            return
        if act.status is not None:
            self._answer(act.status, act.headers, act.body)
            return
        status, headers, answer = self.proxy.pass_on(seen, act.change_request(body))
        if act.lose:
            time.sleep(0.05)
            self.close_connection = True
            return
        self._answer(status, headers, act.change_answer(answer), act.truncate)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 - the base class asks for them

    def _answer(self, status: int, headers: dict[str, str], body: bytes, truncate: int | None = None) -> None:
        self.send_response_only(status)
        told = {name.lower() for name in headers}
        for name, value in headers.items():
            if name.lower() not in _OF_CONNECTION or (self.command == "HEAD" and name.lower() == "content-length"):
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(body)))
        elif "content-length" not in told:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:truncate])
        if truncate is not None:
            self.close_connection = True


def flip(data: bytes) -> bytes:
    """The same number of bytes, one bit in the middle of them changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
