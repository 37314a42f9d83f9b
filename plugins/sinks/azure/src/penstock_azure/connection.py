"""The one client of a sink: made on first use, shared by all threads, with a deadline over every call."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient, ContainerClient

from penstock.api import Deadline, PenstockError, SettingsError, retry_after, retrying
from penstock_azure.credentials import make_client
from penstock_azure.refusals import translated
from penstock_azure.settings import AzureSettings
from penstock_azure.transport import DeadlineTransport

__all__ = ["Connection"]

T = TypeVar("T")

#: Above any object of a repository: each is sent, and fetched, in one request.
_ONE_REQUEST = 256 * 1024 * 1024


class Connection:
    """Makes calls, again where that helps. The SDK's own retries are off, since they know no total deadline."""

    def __init__(self, settings: AzureSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: BlobServiceClient | None = None
        self._transport: DeadlineTransport | None = None

    def call(self, key: str, operation: Callable[[ContainerClient], T]) -> T:
        """What `operation` gives, with the SDK's errors translated; it may be called several times."""
        deadline = Deadline(self._settings.deadline)

        def attempt() -> T:
            with translated(key, self._settings):
                client, transport = self._connected()
                transport.running.deadline = deadline
                return operation(client.get_container_client(self._settings.container))

        return retrying(attempt, deadline=deadline, asked=_asked)

    def close(self) -> None:
        """Close all connections to the service."""
        with self._lock:
            client, self._client = self._client, None
            transport, self._transport = self._transport, None
        if client is not None and transport is not None:
            client.close()
            transport.close()

    def _connected(self) -> tuple[BlobServiceClient, DeadlineTransport]:
        with self._lock:
            if self._client is None or self._transport is None:
                self._transport = self._make_transport()
                self._client = make_client(
                    self._settings,
                    transport=self._transport,
                    max_single_put_size=_ONE_REQUEST,
                    max_single_get_size=_ONE_REQUEST,
                    retry_total=0,
                    retry_connect=0,
                    retry_read=0,
                    retry_status=0,
                    user_agent="penstock",
                )
            return self._client, self._transport

    def _make_transport(self) -> DeadlineTransport:
        _keep_secrets_out_of_logs()
        if self._settings.tls_ca is not None and not self._settings.tls_ca.is_file():
            raise SettingsError(f"tls_ca: there is no file {self._settings.tls_ca}")
        return DeadlineTransport(self._settings)


def _asked(error: PenstockError) -> float | None:
    """The wait that the service asked for."""
    cause = error.__cause__
    if not isinstance(cause, HttpResponseError) or cause.response is None:
        return None
    headers: Mapping[str, str] = getattr(cause.response, "headers", {})
    return retry_after(headers.get("Retry-After"))


def _keep_secrets_out_of_logs() -> None:
    # At DEBUG it logs whole addresses, signatures included. Who wants that nevertheless sets its level.
    log = logging.getLogger("urllib3.connectionpool")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
