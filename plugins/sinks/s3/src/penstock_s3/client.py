"""The one client of a sink: made on first use, for all threads, without retries of its own."""

import base64
import hashlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from penstock.api import Deadline, SettingsError
from penstock.api.object_store import KeptCredentials, ServiceClock
from penstock_s3.refusals import Failures
from penstock_s3.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["ClientOfAll"]

#: Roles of machines and containers, and what the environment holds for good.
_RENEWED_BY_THE_SDK = {"iam-role", "container-role", "env"}

#: What services other than AWS are told when nothing else is: most take any region, and this one is their default.
_USUAL_REGION = "us-east-1"


class ClientOfAll:
    """Hands out the client, with a deadline over all that a thread does with it."""

    def __init__(self, settings: S3Settings) -> None:
        self.failures = Failures(settings)
        #: What time it is at the service, by its last answer.
        self.clock = ServiceClock()
        self._settings = settings
        #: Which credentials are used, and the client that was made with them.
        self.credentials: KeptCredentials[_Found, S3Client] = KeptCredentials(
            self._found,
            identity=lambda found: found.credentials,
            unreadable=(BotoCoreError, ClientError, OSError, ValueError),
        )
        self._running = threading.local()

    @contextmanager
    def within(self, key: str, deadline: Deadline) -> Iterator["S3Client"]:
        """The client for one attempt of this thread. Errors are translated to those that carry `key`."""
        with self.failures.translated(key):
            client = self.credentials.use(self._connect)  # using it is safe in threads, making a session is not
            self._running.deadline = deadline
            yield client

    def close(self) -> None:
        """Close the idle connections. Takes no lock: making the client may ask a service for credentials, and hang."""
        if self.credentials.made is not None:
            self.credentials.made.close()

    def _found(self) -> "_Found":
        _keep_secrets_out_of_logs()
        session = boto3.session.Session(profile_name=self._settings.profile)
        return _Found(session, self._credentials_of(session))

    def _credentials_of(self, session: boto3.session.Session) -> "_Credentials | None":
        """The credentials as they are kept now; None where the SDK renews them by itself, or finds none."""
        settings = self._settings
        if settings.access_key_id is not None and settings.secret_access_key is not None:
            token = settings.session_token.resolve().reveal() if settings.session_token is not None else None
            return _Credentials(settings.access_key_id, settings.secret_access_key.resolve().reveal(), token)
        found = session.get_credentials()
        if found is None or found.method in _RENEWED_BY_THE_SDK:
            return None
        frozen = found.get_frozen_credentials()
        if frozen.access_key is None or frozen.secret_key is None:
            return None
        return _Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    def _connect(self, found: "_Found") -> "S3Client":
        settings, session, given = self._settings, found.session, found.credentials
        ca = settings.trusted()
        credentials: dict[str, Any] = {}
        if given is not None and settings.access_key_id is not None:
            credentials["aws_access_key_id"] = given.access_key
            credentials["aws_secret_access_key"] = given.secret_key
            credentials["aws_session_token"] = given.token
        try:
            client: S3Client = session.client(
                "s3",
                region_name=settings.region or session.region_name or (_USUAL_REGION if settings.endpoint else None),
                endpoint_url=settings.endpoint,
                verify=None if ca is None else str(ca),
                config=_config(settings),
                **credentials,
            )
        except ValueError as error:  # the SDK's own idea of a host name
            raise SettingsError(f"endpoint, or the AWS settings of this host: {error}") from error
        client.meta.events.register("before-send.s3", self._limit_wait)
        client.meta.events.register("after-call.s3", self._hear)
        if settings.checksums == "when_required":
            client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
        return client

    def _hear(self, http_response: Any, **_: Any) -> None:
        self.clock.hear(http_response.headers.get("date"))

    def _limit_wait(self, request: Any, **_: Any) -> None:
        """Let no answer be waited for past the deadline of the call that this thread makes."""
        # Before botocore had this, the read timeout alone limits the last attempt.
        context = getattr(request, "context", None)
        deadline: Deadline | None = getattr(self._running, "deadline", None)
        if isinstance(context, dict) and deadline is not None:
            context["read_timeout"] = deadline.limit(self._settings.read_timeout)


@dataclass(frozen=True, slots=True)
class _Credentials:
    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Found:
    session: boto3.session.Session
    credentials: _Credentials | None


def _config(settings: S3Settings) -> Config:
    checksums: Literal["when_required"] | None = "when_required" if settings.checksums == "when_required" else None
    return Config(
        connect_timeout=min(settings.connect_timeout, settings.deadline),
        read_timeout=min(settings.read_timeout, settings.deadline),
        retries={"mode": "standard", "total_max_attempts": 1},  # they know no total deadline
        max_pool_connections=settings.connections,
        tcp_keepalive=True,
        s3={"addressing_style": settings.addressing},
        user_agent_extra="penstock",
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )


def _add_md5(request: Any, **_: Any) -> None:
    """The checksum of a batch of deletes that services want which do not know CRC32."""
    digest = hashlib.md5(request.body or b"", usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _keep_secrets_out_of_logs() -> None:
    # At DEBUG the SDK logs whole requests, session tokens included. Whoever wants that all the same sets its level.
    log = logging.getLogger("botocore")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
