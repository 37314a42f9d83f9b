"""Requests over pooled connections, each bounded by a deadline. Needs urllib3, which the plugin depends on."""

import json
import logging
import os
import socket
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions as net
from urllib3.connection import HTTPConnection
from urllib3.util import Timeout

from penstock.api.errors import SinkError, SinkUnreachable
from penstock.api.object_store.clock import ServiceClock
from penstock.api.object_store.refusals import Refused, Service, one_line
from penstock.api.retry import Deadline, drain, retry_after

__all__ = ["Answer", "Buffer", "Http", "Pools", "refused_by"]

Buffer = bytes | bytearray | memoryview

#: Small, so that the deadline is looked at often enough on a slow line.
_BLOCK = 64 * 1024
#: Where virtual machines ask for their own tokens: on the machine's own link, behind no proxy.
_METADATA_SERVERS = {"metadata.google.internal", "169.254.169.254"}
_KEEPALIVE = (*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status, with the header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it is one of the 2xx."""
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; raises `ValueError` for anything else."""
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004 - as the documentation says, and json does
        return found


class Http:
    """Makes requests for all threads: no redirects, no retries, no wait past the deadline of the call."""

    def __init__(
        self, service: Service, *, ca: Path | None, connect_timeout: float, read_timeout: float, connections: int
    ) -> None:
        _keep_secrets_out_of_logs()
        self.pools = Pools(ca=ca, connections=connections)
        #: What time it is at the service, by its last answer.
        self.clock = ServiceClock()
        self._service = service
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout

    def send(
        self,
        key: str,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        headers: Mapping[str, str] | None = None,
        body: tuple[Buffer, ...] = (),
    ) -> Answer:
        """One request and its whole answer; `body` is sent one part after the other, block by block.

        Raises `SinkError` with `key` when no whole answer comes. `body` is not held when it returns or raises.
        """
        blocks = _blocks(body, deadline)
        asked = {"Accept-Encoding": "identity", "User-Agent": "penstock", **(headers or {})}
        if "content-length" not in asked and (body or method in {"POST", "PUT", "PATCH"}):
            asked["Content-Length"] = str(sum(memoryview(part).nbytes for part in body))
        try:
            response = self.pools.request(
                method, url, body=blocks if body else None, headers=asked, preload_content=False, decode_content=False,
                timeout=Timeout(
                    connect=deadline.limit(self._connect_timeout), read=deadline.limit(self._read_timeout)
                ),
            )  # fmt: skip
            content = self._drained(response, deadline)
        except net.HTTPError as error:
            raise self._failed(key, error) from error
        except TimeoutError as error:  # of `drain` and `_blocks`: the deadline
            raise SinkUnreachable(key, str(error)) from error
        except OSError as error:
            raise self._service.broke(key, _innermost(error)) from error
        except (ValueError, HTTPException):  # its text may quote a header or an address, with credentials in it
            raise SinkError(key, "the request cannot be sent: its address or a header is not valid") from None
        finally:
            blocks.close()  # it may hold the caller's buffer
        told = {name.lower(): value for name, value in response.headers.items()}
        self.clock.hear(told.get("date"))
        return Answer(response.status, told, content)

    def close(self) -> None:
        """Close every connection that no request uses; the others close when their request ends."""
        self.pools.close()

    def _drained(self, response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
        def bound(seconds: float) -> None:
            if (sock := getattr(response.connection, "sock", None)) is not None:
                sock.settimeout(seconds)

        try:
            content = drain(lambda: response.read(_BLOCK), bound=bound, timeout=self._read_timeout, deadline=deadline)
        except BaseException:  # a connection with an answer half read, after an interrupt too, is of no use to anybody
            response.close()
            raise
        response.release_conn()
        return content

    def _failed(self, key: str, error: net.HTTPError) -> SinkError:
        service, said = self._service, str(error)
        match error:
            case net.SSLError() if "CERTIFICATE_VERIFY_FAILED" in said:
                return service.untrusted(key)
            case net.SSLError() if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER_FAILURE" in said:
                return service.without_tls(key)
            case net.ProxyError():
                hint = "Check https_proxy, http_proxy and no_proxy."
                return SinkUnreachable(key, "the proxy of this host's environment cannot be used", hint=hint)
            case net.NewConnectionError():
                return service.unconnected(key, _innermost(error))
            case net.ConnectTimeoutError():
                return service.slow_to_connect(key)
            case net.ReadTimeoutError():
                return service.silent(key)
            case _:
                return service.broke(key, _innermost(error))


def refused_by(action: str, answer: Answer, *, code: str = "", said: str = "") -> Refused:
    """The refusal that an answer is."""
    wait = retry_after(answer.headers.get("retry-after"))
    return Refused(action, answer.status, code=code, said=one_line(said), wait=wait)


class Pools:
    """urllib3's pools, straight or through the proxy that the environment names. Safe to use from several threads."""

    def __init__(self, *, ca: Path | None, connections: int) -> None:
        trusted = ca or os.environ.get("REQUESTS_CA_BUNDLE")
        self._options: dict[str, Any] = {
            "maxsize": connections,
            "block": False,
            "ca_cert_dir" if trusted and Path(trusted).is_dir() else "ca_certs": str(trusted) if trusted else None,
            "socket_options": _KEEPALIVE,
        }
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    def request(
        self, method: str, url: str, *, body: Any = None, headers: Any = None, **more: Any
    ) -> urllib3.BaseHTTPResponse:
        """One request; raises urllib3's errors."""
        more.setdefault("retries", False)
        more.setdefault("redirect", False)
        return self._pool(_proxy_for(url)).urlopen(method, url, body=body, headers=headers, **more)

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.clear()

    def _pool(self, proxy: str) -> urllib3.PoolManager:
        with self._lock:
            pool = self._pools.get(proxy)
            if pool is None:
                pool = urllib3.PoolManager(**self._options) if not proxy else _through(proxy, self._options)
                self._pools[proxy] = pool
            return pool


def _blocks(parts: tuple[Buffer, ...], deadline: Deadline) -> Generator[bytes, None, None]:
    for part in parts:
        with memoryview(part) as whole, whole.cast("B") as view:
            for start in range(0, len(view), _BLOCK):
                if deadline.expired:
                    raise TimeoutError("the deadline has passed")
                yield bytes(view[start : start + _BLOCK])


def _through(proxy: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    parts = urlsplit(proxy)
    headers = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=pair)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=headers, **options)


def _proxy_for(url: str) -> str:
    """The proxy of the usual variables (https_proxy, no_proxy, ...), or ""."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _METADATA_SERVERS or proxy_bypass(host):
        return ""
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _innermost(error: BaseException) -> str:
    """What went wrong at the bottom: "Connection refused", rather than the address that was asked for."""
    inner = error
    while True:
        below: object = inner.__cause__ or next((part for part in inner.args if isinstance(part, BaseException)), None)
        if not isinstance(below, BaseException) or below is inner:
            break
        inner = below
    said = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return one_line(said) or type(inner).__name__


def _keep_secrets_out_of_logs() -> None:
    # At DEBUG it logs whole addresses, signatures included. Whoever wants that all the same sets its level.
    log = logging.getLogger("urllib3.connectionpool")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
