"""Requests to the JSON API of Cloud Storage, again where that helps, with a deadline over every call.

The API is spoken directly, not through google-cloud-storage: that one sends anything above 8 MiB in several requests
(a resumable upload), copies the object twice on its way up, and knows no deadline over a call. Its credentials are used
(google-auth), and its checksum (google-crc32c). See https://cloud.google.com/storage/docs/json_api/v1.
"""

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from urllib3.util import Timeout

from penstock.api import Deadline, PenstockError, SinkUnreachable, drain, retry_after, retrying
from penstock_gcs.credentials import Authority
from penstock_gcs.pools import Pools
from penstock_gcs.refusals import Refused, translated
from penstock_gcs.settings import GcsSettings

__all__ = ["Answer", "Call", "Connection", "object_path", "objects_path"]

T = TypeVar("T")

_HOST = "https://storage.googleapis.com"
_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: what came, with the header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; raises `ValueError` for anything else."""
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004 - as the documentation says, and json does
        return found


class Connection:
    """Makes calls for all threads."""

    def __init__(self, settings: GcsSettings) -> None:
        self.settings = settings
        self._pools = Pools(settings)
        self._authority = Authority(settings, self._pools)

    def call(self, key: str, operation: "Callable[[Call], T]") -> T:
        """What `operation` gives, with errors translated; it may be called several times, with a `Call` each."""
        deadline = Deadline(self.settings.deadline)

        def attempt() -> T:
            with translated(key, self.settings):
                return operation(Call(key, self.settings, self._pools, self._authority, deadline))

        return retrying(attempt, deadline=deadline, asked=_asked)

    def close(self) -> None:
        """Close all connections to the service."""
        self._pools.close()


class Call:
    """One attempt of one call: one request or a few."""

    def __init__(self, key: str, settings: GcsSettings, pools: Pools, authority: Authority, deadline: Deadline) -> None:
        self.key = key
        self.deadline = deadline
        self._settings = settings
        self._pools = pools
        self._authority = authority

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | bytes | None = None,
    ) -> Answer:
        """Send a request, and once more with a new token where the service wants one.

        Raises `Refused` for an answer that is no success, and urllib3's errors.
        """
        url = f"{self._settings.endpoint or _HOST}{path}?{urlencode(self._common_query() | dict(query or {}))}"
        for anew in (False, True):
            asked = {"Accept-Encoding": "identity", "User-Agent": "penstock", **(headers or {})}
            asked |= self._authority.headers(self.key, method, url, self.deadline, anew=anew)
            try:
                return self._send(method, url, asked, body() if callable(body) else body)
            except Refused as refused:
                if refused.status != 401 or anew or self._settings.sends_no_credentials:
                    raise
        raise AssertionError("the second attempt returns or raises")

    def _common_query(self) -> dict[str, str]:
        return {} if self._settings.project is None else {"userProject": self._settings.project}

    def _send(self, method: str, url: str, headers: dict[str, str], body: Iterable[bytes] | bytes | None) -> Answer:
        try:
            response = self._pools.request(
                method, url, body=body, headers=headers, preload_content=False, decode_content=False,
                timeout=Timeout(
                    connect=self.deadline.limit(self._settings.connect_timeout),
                    read=self.deadline.limit(self._settings.read_timeout),
                ),
            )  # fmt: skip
        finally:
            if isinstance(body, Generator):
                body.close()  # it may hold the caller's buffer
        try:
            content = self._drain(response)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        told = {name.lower(): value for name, value in response.headers.items()}
        if not 200 <= response.status < 300:
            raise Refused(method, response.status, content, retry_after(told.get("retry-after")))
        return Answer(response.status, told, content)

    def _drain(self, response: urllib3.BaseHTTPResponse) -> bytes:
        def bound(seconds: float) -> None:
            if (sock := getattr(response.connection, "sock", None)) is not None:
                sock.settimeout(seconds)

        try:
            return drain(
                lambda: response.read(_BLOCK),
                bound=bound,
                timeout=self._settings.read_timeout,
                deadline=self.deadline,
            )
        except TimeoutError as error:
            raise SinkUnreachable(self.key, str(error)) from error


def object_path(bucket: str, name: str) -> str:
    """The path of an object's own requests."""
    return f"{objects_path(bucket)}/{quote(name, safe='')}"


def objects_path(bucket: str) -> str:
    """The path of the bucket's list of objects."""
    return f"/storage/v1/b/{quote(bucket, safe='')}/o"


def _asked(error: PenstockError) -> float | None:
    """The wait that the service asked for."""
    return error.__cause__.wait if isinstance(error.__cause__, Refused) else None
