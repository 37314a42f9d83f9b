"""Objects below the prefix of one container: each call of the sink as requests to the service."""

import base64
import hashlib
import io
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any, cast

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobProperties, ContainerClient, ContentSettings, ImmutabilityPolicy

from penstock.api import ObjectInfo, SinkError, SinkUnreachable
from penstock_azure.connection import Connection
from penstock_azure.refusals import error_code
from penstock_azure.settings import AzureSettings

__all__ = ["Objects"]

#: Names the call that made an object: what tells our own put, whose answer was lost, from somebody else's.
_MARK = "penstockput"
_PAGE = 1000
#: Codes that say: something is there that may not be replaced.
_IN_THE_WAY = {"BlobAlreadyExists", "BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold", "ConditionNotMet"}


class Objects:
    """All requests. Keys are valid ones; errors are `SinkError`s."""

    def __init__(self, settings: AzureSettings) -> None:
        self._settings = settings
        self._root = settings.root
        self._connection = Connection(settings)

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
        """One Put Blob. With `if_absent` the service decides (`If-None-Match: *`)."""
        mark, body = uuid.uuid4().hex, bytes(data)  # bytes are not copied, other buffers are: nobody may keep them
        unsure = False

        def attempt(client: ContainerClient) -> None:
            nonlocal unsure
            begun_before, unsure = unsure, True
            try:
                client.upload_blob(
                    self._root + key,
                    body,
                    length=len(body),
                    overwrite=not if_absent,
                    validate_content=True,
                    content_settings=ContentSettings(content_type="application/octet-stream"),
                    metadata={_MARK: mark},
                    max_concurrency=1,
                    **self._put_options(),
                )
            except HttpResponseError as error:
                # An attempt whose answer was lost may have made what is in this one's way.
                if begun_before and error_code(error) in _IN_THE_WAY and self._is_marked(client, key, mark):
                    return
                raise

        self._connection.call(key, attempt)

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """The object's bytes, or a range of them."""
        if length == 0:
            self.stat(key)
            return b""
        return self._connection.call(key, lambda client: self._get(client, key, start, length))

    def stat(self, key: str) -> ObjectInfo:
        """Size and time."""

        def attempt(client: ContainerClient) -> ObjectInfo:
            return _info(key, self._properties(client, key))

        return self._connection.call(key, attempt)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects with that prefix, page by page."""
        token: str | None = None

        def page(client: ContainerClient) -> tuple[list[BlobProperties], str | None]:
            pages: Any = client.list_blobs(name_starts_with=self._root + prefix, results_per_page=_PAGE).by_page(token)
            found = list(next(pages, ()))
            return found, pages.continuation_token or None

        while True:
            found, following = self._connection.call(prefix, page)
            for one in found:
                key = str(one.name).removeprefix(self._root)
                yield _info(key, one)
            if following is None:
                return
            if following == token:
                raise SinkError(prefix, "the service says that its listing goes on, but not from where")
            token = following

    def delete(self, key: str) -> None:
        """Remove the object."""

        def attempt(client: ContainerClient) -> None:
            try:
                client.delete_blob(self._root + key)
            except HttpResponseError as error:
                if error_code(error) != "BlobNotFound":
                    raise

        self._connection.call(key, attempt)

    def retain(self, key: str, until: datetime) -> None:
        """Keep the object locked at least until then."""

        def attempt(client: ContainerClient) -> None:
            held = self._properties(client, key).immutability_policy.expiry_time
            if held is None or held < until:
                client.get_blob_client(self._root + key).set_immutability_policy(self._policy(until))

        self._connection.call(key, attempt)

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    def _put_options(self) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {}
        if settings.access_tier is not None:
            from azure.storage.blob import StandardBlobTier

            options["standard_blob_tier"] = StandardBlobTier(settings.access_tier)
        if settings.encryption_scope is not None:
            options["encryption_scope"] = settings.encryption_scope
        if settings.locked_until is not None:
            options["immutability_policy"] = self._policy(settings.locked_until)
        if settings.legal_hold:
            options["legal_hold"] = True
        return options

    def _policy(self, until: datetime) -> ImmutabilityPolicy:
        mode = "Locked" if self._settings.object_lock == "locked" else "Unlocked"
        return ImmutabilityPolicy(expiry_time=until.astimezone(UTC), policy_mode=mode)

    def _properties(self, client: ContainerClient, key: str) -> BlobProperties:
        return client.get_blob_client(self._root + key).get_blob_properties()

    def _is_marked(self, client: ContainerClient, key: str, mark: str) -> bool:
        return (self._properties(client, key).metadata or {}).get(_MARK) == mark

    def _get(self, client: ContainerClient, key: str, start: int, length: int | None) -> bytes:
        whole = not start and length is None
        headers: dict[str, str] = {}
        try:
            stream = client.download_blob(
                self._root + key,
                offset=None if whole else start,
                length=length,
                max_concurrency=1,
                raw_response_hook=lambda answer: headers.update(answer.http_response.headers),
            )
        except HttpResponseError as error:
            if error.status_code == 416 and not whole:
                return b""
            raise
        into = _Kept()
        stream.readinto(cast("IO[bytes]", into))
        data = into.data
        told = {name.lower(): value for name, value in headers.items()}
        total = _total(told)
        end = total if length is None else min(start + length, total)
        if len(data) != max(0, end - start):
            raise SinkUnreachable(key, f"asked for bytes {start} to {end}, the service gave {len(data)} bytes")
        if len(data) == total:
            _verify(key, told, data)
        return data


class _Kept(io.RawIOBase):
    """Takes what the SDK has fetched, in one piece and without a copy."""

    data = b""

    def write(self, data: Any, /) -> int:
        self.data = self.data + data if self.data else data
        return len(data)


def _total(headers: dict[str, str]) -> int:
    """The size of the object, of an answer to a range or to a whole GET; -1 where neither is told."""
    size = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "")
    return int(size) if size.isdigit() else -1


def _verify(key: str, headers: dict[str, str], data: bytes) -> None:
    """Compare a whole object with the MD5 that the service keeps of it."""
    told = headers.get("x-ms-blob-content-md5") or headers.get("content-md5")
    if told and told != base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode():
        raise SinkUnreachable(key, "the transfer was damaged: its MD5 is not that of the object")


def _info(key: str, found: BlobProperties) -> ObjectInfo:
    modified: datetime | None = found.last_modified
    return ObjectInfo(key, int(found.size), None if modified is None else modified.astimezone(UTC))
