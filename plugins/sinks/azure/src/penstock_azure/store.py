"""Objects below the prefix of one container, by Microsoft's SDK, which signs, writes and parses the requests."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.storage.blob import BlobProperties, ContainerClient, ContentSettings, ImmutabilityPolicy, StandardBlobTier

from penstock.api import (
    Deadline,
    ObjectInfo,
    ObjectLocked,
    ObjectMissing,
    Secret,
    SinkDenied,
    SinkError,
    SinkUnreachable,
)
from penstock.api.object_store import ByteRange, DamagedTransfer, KeptCredentials, Page, Refused, Service
from penstock.api.object_store.http import Answer, Buffer, Http
from penstock_azure.credentials import client_of, secret_of
from penstock_azure.policy import LOOK
from penstock_azure.refusals import API, refused, service_of
from penstock_azure.settings import AzureSettings
from penstock_azure.transport import Call, SharedTransport

__all__ = ["AzureStore"]

#: The object's own metadata that names the call which made it.
_MARK = "penstockput"
#: The metadata by which accounts with a hierarchical namespace tell folders.
_FOLDER = "hdi_isfolder"
_PAGE = 1000
#: The most that one Put Blob takes: each object is sent, and fetched, in one request.
_ONE_REQUEST = 5000 * 1024 * 1024
_RANGE_NOT_SATISFIABLE = 416
#: How a listing of versions is refused by what knows none.
_UNKNOWN = {400, 409, 501}
#: The refusal to delete the current version by its id.
_IS_CURRENT = "OperationNotAllowedOnRootBlob"


class AzureStore:
    """Single attempts, a request each. The SDK's own retries are off, since they know no deadline."""

    batch = 1

    def __init__(self, settings: AzureSettings) -> None:
        self._settings = settings
        self._root = settings.root
        self._service = service_of(settings)
        http = Http(
            self._service,
            ca=settings.trusted(),
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            connections=settings.connections,
        )
        self._clock = http.clock
        self._transport = SharedTransport(http)
        self._kept: KeptCredentials[Secret | None, ContainerClient] = KeptCredentials(
            lambda: secret_of(settings), identity=lambda secret: None if secret is None else secret.reveal()
        )

    @property
    def generation(self) -> int:
        """How often the credentials were replaced."""
        return self._kept.generation

    def renew(self, generation: int) -> bool:
        """Whether others than those of `generation` are in use now."""
        return self._kept.renew(generation)

    def put(self, key: str, data: Buffer, deadline: Deadline, *, if_absent: bool, mark: str) -> None:
        """One Put Blob, whatever the size, with an MD5 of the bytes."""
        with self._calling("put", key, deadline) as (container, _):
            container.upload_blob(
                self._root + key,
                bytes(data),  # the SDK takes no other buffer; bytes are not copied
                overwrite=not if_absent,
                validate_content=True,
                content_settings=ContentSettings(content_type="application/octet-stream"),
                metadata={_MARK: mark},
                max_concurrency=1,
                **self._put_options(),
            )

    def is_own(self, key: str, data: Buffer, deadline: Deadline, *, mark: str) -> bool:
        """By the mark."""
        del data
        return (self._properties(key, deadline).metadata or {}).get(_MARK) == mark

    def get(self, key: str, wanted: ByteRange, deadline: Deadline) -> bytes:
        """One Get Blob; a whole object is compared with the MD5 that the service keeps of it."""
        try:
            answer = self._downloaded(key, wanted, deadline)
        except SinkError as error:
            # The SDK always asks for a range, and an empty object has none.
            if not _is_past_the_end(error) or not wanted.is_whole or self.stat(key, deadline).size:
                raise
            return b""
        told, given = answer.headers, answer.headers.get("content-range")
        data = wanted.taken(key, answer.body, given)
        md5 = told.get("x-ms-blob-content-md5") or told.get("content-md5")
        if md5 and wanted.is_all(answer.body, given) and md5 != _md5(answer.body):
            raise DamagedTransfer(key, "its MD5 is not the one that the service keeps")
        return data

    def stat(self, key: str, deadline: Deadline) -> ObjectInfo:
        """Size and time."""
        found: Any = self._properties(key, deadline)  # whose types leave out what another service leaves out
        if found.blob_type is None or not isinstance(found.size, int):
            raise self._service.unreadable(key, API)
        return _info(key, found)

    def list_page(self, prefix: str, token: str | None, deadline: Deadline) -> Page:
        """Up to 1,000 objects."""
        return self._list(prefix, token, _PAGE, deadline)

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        """A listing of the blob's versions and snapshots, with what locks them, and a request or more to delete them.

        Deleting a blob of an account with versions makes the current version a former one, locked or not: hidden, and
        paid for. So what is locked is found out before, and whether this credential may delete versions.
        """
        (key,) = keys
        try:
            found = self._kept_of(key, deadline)
        except SinkError as error:
            if not isinstance(error.__cause__, Refused) or error.__cause__.status not in _UNKNOWN:
                raise
            self._delete(key, deadline)  # a service, or a kind of account, without versions
            return
        self._refuse_locked(key, found)
        versions = [one for one in found if one.version_id and not one.snapshot]
        for former in (one for one in versions if not one.is_current_version):
            self._delete_version(key, former, deadline)
        current = [one for one in versions if one.is_current_version]
        for one in current:
            # Refused, since it is the current one; before that the service looks whether versions may be deleted.
            with self._refused_as_current():
                self._delete_version(key, one, deadline)
        if current or any(not one.version_id for one in found):
            self._delete(key, deadline)
        for one in current:
            self._delete_version(key, one, deadline)

    def retain(self, key: str, until: datetime, deadline: Deadline) -> None:
        """Lengthen the immutability policy, unless it is long enough."""
        held = self._properties(key, deadline).immutability_policy.expiry_time
        if held is None or held < until:
            with self._calling("retain", key, deadline) as (container, _):
                container.get_blob_client(self._root + key).set_immutability_policy(self._policy(until))

    def look(self, deadline: Deadline) -> None:
        """A listing of at most one object, where a credential for a part of the repository may list, too."""
        self._list(LOOK, None, 1, deadline)

    def close(self) -> None:
        """Close the idle connections."""
        self._transport.close()

    def _downloaded(self, key: str, wanted: ByteRange, deadline: Deadline) -> Answer:
        with self._calling("get", key, deadline) as (container, call):
            container.download_blob(
                self._root + key,
                offset=None if wanted.is_whole else wanted.start,
                length=wanted.length,
                max_concurrency=1,
            )
        # From the answer, not from what the SDK returns: that would copy the object.
        if call.answer is None or "x-ms-blob-type" not in call.answer.headers:
            raise self._service.unreadable(key, API)
        return call.answer

    def _list(self, prefix: str, token: str | None, size: int, deadline: Deadline) -> Page:
        with self._calling("list", prefix, deadline) as (container, _):
            pages: Any = container.list_blobs(
                name_starts_with=self._root + prefix, results_per_page=size, include=["metadata"]
            ).by_page(token)
            try:
                found: list[BlobProperties] = list(next(pages, ()))
            except (AttributeError, TypeError) as error:  # XML, but not that of a listing
                raise self._service.unreadable(prefix, API) from error
        objects = [
            _info(one.name.removeprefix(self._root), one) for one in found if _FOLDER not in (one.metadata or {})
        ]
        return Page(objects, pages.continuation_token or None)

    def _kept_of(self, key: str, deadline: Deadline) -> list[BlobProperties]:
        """What the service keeps of the blob: itself, its versions and its snapshots."""
        name, found, token = self._root + key, [], None
        include = ["versions", "snapshots", "immutabilitypolicy", "legalhold"]
        while True:
            with self._calling("list", key, deadline) as (container, _):
                pages: Any = container.list_blobs(name_starts_with=name, include=include).by_page(token)
                try:
                    page: list[BlobProperties] = list(next(pages, ()))
                except (AttributeError, TypeError) as error:  # XML, but not that of a listing
                    raise self._service.unreadable(key, API) from error
            found += [one for one in page if one.name == name]
            token = pages.continuation_token or None
            # Longer names with that beginning come after it.
            if token is None or (page and page[-1].name != name):
                return found

    def _refuse_locked(self, key: str, found: Sequence[BlobProperties]) -> None:
        ends: list[datetime] = []
        for one in found:
            if one.has_legal_hold:
                raise ObjectLocked.of({key: None})
            until: datetime | None = one.immutability_policy.expiry_time
            if until is not None and until > self._clock.now():
                ends.append(until)
        if ends:
            raise ObjectLocked.of({key: max(ends)})

    def _delete(self, key: str, deadline: Deadline) -> None:
        with suppress(ObjectMissing), self._calling("delete", key, deadline) as (container, _):
            container.delete_blob(self._root + key, delete_snapshots="include")

    def _delete_version(self, key: str, version: BlobProperties, deadline: Deadline) -> None:
        with suppress(ObjectMissing), self._calling("delete version", key, deadline) as (container, _):
            container.delete_blob(self._root + key, version_id=version.version_id)

    @contextmanager
    def _refused_as_current(self) -> Iterator[None]:
        """Let pass that the service refuses a version for what it is; not that it is locked, or may not be deleted."""
        try:
            yield
        except SinkError as error:
            is_denied = isinstance(error, (SinkDenied, ObjectLocked)) or error.retryable
            if is_denied and (not isinstance(error.__cause__, Refused) or error.__cause__.code != _IS_CURRENT):
                raise

    def _properties(self, key: str, deadline: Deadline) -> BlobProperties:
        with self._calling("stat", key, deadline) as (container, _):
            return container.get_blob_client(self._root + key).get_blob_properties()

    @contextmanager
    def _calling(self, action: str, key: str, deadline: Deadline) -> Iterator[tuple[ContainerClient, Call]]:
        """For one call of the SDK, whose errors become `SinkError`s with the key."""
        container = self._kept.use(self._connect)  # `close` does not wait for it
        with self._transport.call(action, key, deadline) as call:
            try:
                yield container, call
            except Refused as refusal:
                raise self._service.refused(key, refusal) from refusal
            except (AzureError, ValueError) as error:
                # A 401 to a token that the SDK could not replace.
                if call.answer is not None and not call.answer.is_success:
                    told = refused(action, call.answer)
                    raise self._service.refused(key, told) from told
                raise _failed(call, error, self._service, self._settings) from error

    def _connect(self, secret: Secret | None) -> ContainerClient:
        client = client_of(
            self._settings,
            secret,
            transport=self._transport,
            max_single_put_size=_ONE_REQUEST,
            max_single_get_size=_ONE_REQUEST,
            retry_total=0,
            user_agent="penstock",
        )
        return client.get_container_client(self._settings.container)

    def _put_options(self) -> dict[str, Any]:
        settings = self._settings
        found: dict[str, Any] = {}
        if settings.access_tier is not None:
            found["standard_blob_tier"] = StandardBlobTier(settings.access_tier)
        if settings.encryption_scope is not None:
            found["encryption_scope"] = settings.encryption_scope
        if (until := settings.locked_until(self._clock.now())) is not None:
            found["immutability_policy"] = self._policy(until)
        if settings.legal_hold:
            found["legal_hold"] = True
        return found

    def _policy(self, until: datetime) -> ImmutabilityPolicy:
        mode = self._settings.object_lock.capitalize()
        return ImmutabilityPolicy(expiry_time=until.astimezone(UTC), policy_mode=mode)


def _is_past_the_end(error: SinkError) -> bool:
    return isinstance(error.__cause__, Refused) and error.__cause__.status == _RANGE_NOT_SATISFIABLE


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _info(key: str, found: BlobProperties) -> ObjectInfo:
    modified: datetime | None = found.last_modified
    return ObjectInfo(key, found.size, None if modified is None else modified.astimezone(UTC))


def _failed(call: Call, error: AzureError | ValueError, service: Service, settings: AzureSettings) -> SinkError:
    """The error for one of the SDK's own: no credentials, or an answer that it does not understand."""
    key, is_answered = call.key, call.answer is not None
    if is_answered and type(error) is AzureError:
        return SinkUnreachable(key, "the transfer was damaged: its MD5 is not that of the answer")
    if is_answered:
        return service.unreadable(key, API)
    if not isinstance(error, AzureError):
        hint = "Check account, container, endpoint and the credentials for stray characters."
        return SinkError(key, "the request cannot be made: a setting is not valid", hint=hint)
    if settings.account_key is not None:
        return SinkDenied(key, "the account key is not base64", hint="Copy it whole from the account.")
    if settings.connection_string is not None or settings.sas_token is not None:
        hint = "Copy the connection string or the SAS token whole from the account."
        return SinkDenied(key, f"the SDK cannot use the credentials ({type(error).__name__})", hint=hint)
    if isinstance(error, ClientAuthenticationError):  # its words name all that was tried, line by line
        hint = "Set account_key, sas_token or connection_string, or log in: `az login`, or a managed identity."
        return SinkDenied(key, "azure-identity found no credentials that work", hint=hint)
    return SinkUnreachable(key, "no token for the credentials: the token service does not answer")
