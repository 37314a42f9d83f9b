"""The SDK's transport, with the deadline of a call over all that it does, and errors that tell no signature."""

import io
import threading
from contextlib import closing
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Self

import requests
from azure.core.exceptions import AzureError, ServiceRequestTimeoutError
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter

from penstock.api import Deadline, drain

if TYPE_CHECKING:
    from penstock_azure.settings import AzureSettings

__all__ = ["DeadlineTransport"]

#: Small, so that the deadline is looked at often enough on a slow line.
_BLOCK = 64 * 1024


class DeadlineTransport(RequestsTransport):  # type: ignore[misc]  # the SDK loads it lazily, without a type
    """Sends requests for all threads; each thread sets `running.deadline` before it calls the SDK.

    The session is shared, which is safe for what is done with it here: its cookies are off, its adapters are never
    changed, and the pool of connections below it is made for threads.
    """

    def __init__(self, settings: "AzureSettings") -> None:
        session = requests.Session()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.running = threading.local()
        adapter = _Adapter(self.running, settings.max_connections, settings.read_timeout)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        verify = True if settings.tls_ca is None else str(settings.tls_ca)
        super().__init__(session=session, session_owner=False, connection_verify=verify)
        self._settings = settings
        self._requests = session

    def send(self, request: Any, **options: Any) -> Any:
        """Send one request, within what is left of the deadline; raises `AzureError` without the address."""
        deadline: Deadline = self.running.deadline
        if deadline.expired:
            raise ServiceRequestTimeoutError("the deadline has passed")
        options["connection_timeout"] = deadline.limit(self._settings.connect_timeout)
        options["read_timeout"] = deadline.limit(self._settings.read_timeout)
        body = request.data
        if isinstance(body, bytes) and len(body) > _BLOCK:
            # In one piece it would have to be gone within the connection's timeout.
            request.data = _Blocks(body, deadline)
        try:
            return super().send(request, **options)
        except AzureError as error:
            # The text of the original holds the URL, and so any signature in it.
            raise type(error)(innermost(error)) from None
        finally:
            request.data = body

    def close(self) -> None:
        """Close all connections."""
        self._requests.close()
        super().close()

    def __enter__(self) -> Self:
        self.open()
        return self


class _Adapter(HTTPAdapter):
    """Reads the body of every answer at once, within the deadline."""

    def __init__(self, running: threading.local, connections: int, read_timeout: float) -> None:
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=0)
        self._read_timeout = read_timeout
        self._running = running

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        with closing(response):  # whatever the SDK makes of it, the connection is free again
            body = _whole(response, self._running.deadline, self._read_timeout)
        # The SDK joins the pieces, and takes a single one without a copy.
        vars(response)["_content"] = body
        vars(response)["iter_content"] = lambda *_, **__: iter([body] if body else [])
        return response


def _whole(response: requests.Response, deadline: Deadline, read_timeout: float) -> bytes:
    blocks = response.iter_content(_BLOCK)

    def bound(seconds: float) -> None:
        if (sock := getattr(response.raw.connection, "sock", None)) is not None:
            sock.settimeout(seconds)

    return drain(lambda: next(blocks, b""), bound=bound, timeout=read_timeout, deadline=deadline)


class _Blocks(io.RawIOBase):
    """A body that is sent block by block."""

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__()
        self._view = memoryview(data)
        self._at = 0
        self._deadline = deadline

    def __len__(self) -> int:
        return len(self._view)

    def read(self, size: int | None = -1, /) -> bytes:
        if self._deadline.expired:
            raise TimeoutError("the deadline has passed")
        end = len(self._view) if size is None or size < 0 else self._at + max(size, _BLOCK)
        block = bytes(self._view[self._at : end])
        self._at += len(block)
        return block

    def tell(self) -> int:
        return self._at


def innermost(error: BaseException) -> str:
    """What went wrong at the bottom: "Connection refused", rather than the address that was asked for."""
    inner: BaseException = error
    for _ in range(10):
        below = getattr(inner, "inner_exception", None) or getattr(inner, "reason", None)
        if not isinstance(below, BaseException):
            below = next((part for part in inner.args if isinstance(part, BaseException)), None)
        if below is None:
            break
        inner = below
    if isinstance(inner, (requests.exceptions.RequestException, AzureError)):
        return type(inner).__name__
    return " ".join(str(inner).split())[:300] or type(inner).__name__
