"""A service that holds objects in memory and answers as its script says: for what no real service does on demand."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

_NO_VERSIONS = b"<?xml version='1.0'?><VersioningConfiguration/>"


@dataclass
class Answer:
    """One answer in place of the true one."""

    status: int = 503
    code: str = "SlowDown"
    headers: dict[str, str] = field(default_factory=dict)
    #: The request is carried out all the same.
    after: bool = False
    #: The connection is closed without an answer.
    silent: bool = False
    #: Seconds before it.
    wait: float = 0.0
    words: str = "as the script says"


@dataclass
class Service:
    """What it holds, what it was asked, and what it will answer to requests of each method."""

    port: int = 0
    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    #: The session token of each request that had one.
    tokens: list[str] = field(default_factory=list)
    script: dict[str, list[Answer]] = field(default_factory=dict)
    conditions: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, method: str) -> int:
        return sum(one == method for one, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(data)

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_DELETE(self) -> None:
        self._answer(b"")

    def _answer(self, data: bytes) -> None:
        service, key = self.service, self.path
        with service.lock:
            service.requests.append((self.command, key))
            if token := self.headers.get("x-amz-security-token"):
                service.tokens.append(token)
            scripted = service.script.get(self.command, [])
            told = scripted.pop(0) if scripted else None
        if told is None:
            self._true(data)
            return
        if told.after:
            self._true(data, send=False)
        time.sleep(told.wait)
        if told.silent:
            self.close_connection = True
            return
        self._error(told.status, told.code, told.headers, told.words)

    def _true(self, data: bytes, *, send: bool = True) -> None:
        service, key = self.service, self.path
        status, body, headers = 200, b"", {"ETag": '"e"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        with service.lock:
            if key.endswith("?versioning"):
                service.objects.setdefault(key, (_NO_VERSIONS, {}))
            there = service.objects.get(key)
            if self.command == "PUT":
                if service.conditions and there and self.headers.get("If-None-Match") == "*":
                    status = 412
                else:
                    meta = {name: value for name, value in self.headers.items() if name.startswith("x-amz-meta-")}
                    service.objects[key] = (data, meta)
            elif self.command == "DELETE":
                service.objects.pop(key, None)
                status = 204
            elif there is None:
                status = 404
            else:
                body, meta = there
                headers |= meta
        if not send:
            return
        if status in {404, 412}:
            self._error(status, {404: "NoSuchKey", 412: "PreconditionFailed"}[status], {}, "")
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str, headers: dict[str, str], words: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


@contextmanager
def running() -> Iterator[Service]:
    service = Service()
    handler = type("Handler", (_Handler,), {"service": service})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        service.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with running() as service:
        yield service
