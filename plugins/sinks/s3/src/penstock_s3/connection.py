"""The one client of a sink: made on first use, shared by all threads, with a deadline over every call."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3.session
from botocore.config import Config

from penstock.api import Deadline, PenstockError, SettingsError, retry_after, retrying
from penstock_s3.refusals import translated
from penstock_s3.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Connection"]

T = TypeVar("T")

#: What services other than AWS are told when nothing else is: most take any region, and this one is their default.
_USUAL_REGION = "us-east-1"


class Connection:
    """Makes calls, again where that helps. The SDK's own retries are off, since they know no total deadline."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._running = threading.local()

    def call(self, key: str, operation: "Callable[[S3Client, Deadline], T]") -> T:
        """What `operation` gives, with the SDK's errors translated; it may be called several times."""
        deadline = Deadline(self._settings.deadline)

        def attempt() -> T:
            with translated(key, self._settings):
                client = self._connected()
                self._running.deadline = deadline
                return operation(client, deadline)

        return retrying(attempt, deadline=deadline, asked=_asked)

    def close(self) -> None:
        """Close all connections to the service."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> "S3Client":
        with self._lock:  # making a session is not safe in threads, using a client is
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> "S3Client":
        settings = self._settings
        _keep_secrets_out_of_logs()
        if settings.tls_ca is not None and not settings.tls_ca.is_file():
            raise SettingsError(f"tls_ca: there is no file {settings.tls_ca}")
        session = boto3.session.Session(profile_name=settings.profile)
        credentials: dict[str, Any] = {}
        if settings.access_key_id is not None and settings.secret_access_key is not None:
            credentials["aws_access_key_id"] = settings.access_key_id
            credentials["aws_secret_access_key"] = settings.secret_access_key.resolve().reveal()
        if settings.session_token is not None:
            credentials["aws_session_token"] = settings.session_token.resolve().reveal()
        try:
            client: S3Client = session.client(
                "s3",
                region_name=settings.region or session.region_name or (_USUAL_REGION if settings.endpoint else None),
                endpoint_url=settings.endpoint,
                verify=None if settings.tls_ca is None else str(settings.tls_ca),
                config=_config(settings),
                **credentials,
            )
        except ValueError as error:  # the SDK's own idea of a host name
            raise SettingsError(f"endpoint, or what the AWS settings of this host say: {error}") from error
        client.meta.events.register("before-send.s3", self._limit_wait)
        return client

    def _limit_wait(self, request: Any, **_: Any) -> None:
        """Let no answer be waited for past the deadline of the call that this thread makes."""
        # Before botocore had this, the read timeout alone limits the last attempt.
        context = getattr(request, "context", None)
        deadline: Deadline | None = getattr(self._running, "deadline", None)
        if isinstance(context, dict) and deadline is not None:
            context["read_timeout"] = deadline.limit(self._settings.read_timeout)


def _config(settings: S3Settings) -> Config:
    checksums: Literal["when_required"] | None = "when_required" if settings.checksums == "when_required" else None
    return Config(
        connect_timeout=min(settings.connect_timeout, settings.deadline),
        read_timeout=min(settings.read_timeout, settings.deadline),
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=settings.max_connections,
        tcp_keepalive=True,
        s3={"addressing_style": settings.addressing},
        user_agent_extra="penstock",
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )


def _asked(error: PenstockError) -> float | None:
    """The wait that the service asked for."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, dict):
        return None
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return retry_after(headers.get("retry-after"))


def _keep_secrets_out_of_logs() -> None:
    # At DEBUG the SDK logs whole requests, session tokens included. Who wants that nevertheless sets its level.
    log = logging.getLogger("botocore")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
