"""Objects below the prefix of one bucket: each call of the sink as requests to the service."""

import base64
import hashlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, TypedDict, cast

from botocore.exceptions import ClientError

from penstock.api import Deadline, ObjectInfo, SinkError
from penstock_s3.connection import Connection
from penstock_s3.refusals import error_code, has_no_words, http_status
from penstock_s3.settings import S3Settings
from penstock_s3.transfer import Upload, download

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

__all__ = ["Objects"]

#: Objects up to this size are copied, and sent without asking first whether the service would take them.
_SMALL = 64 * 1024
#: Names the call that made an object: what tells our own put, whose answer was lost, from somebody else's.
_MARK = "penstock-put"
#: No valid key has this name, so it is never listed. It stays, since a writer may not delete.
_PROBE = ".conditional-put~"


class _Place(TypedDict):
    Bucket: str
    Key: str


class Objects:
    """All requests. Keys are valid ones; errors are `SinkError`s."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._root = settings.root
        self._connection = Connection(settings)

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
        """One PUT. With `if_absent` the service decides; it must know `If-None-Match`."""
        mark = uuid.uuid4().hex
        unsure = False

        def attempt(client: "S3Client", deadline: Deadline) -> None:
            nonlocal unsure
            asked = self._put_parameters(key, data)
            if if_absent:
                asked |= {"IfNoneMatch": "*", "Metadata": {_MARK: mark}}
            begun_before, unsure = unsure, True
            with Upload(data, deadline) as upload:
                try:
                    client.put_object(Body=bytes(data) if len(upload) <= _SMALL else cast("IO[bytes]", upload), **asked)
                except ClientError as error:
                    # An attempt whose answer was lost may have made what is in this one's way.
                    if if_absent and begun_before and http_status(error) == 412 and self._is_marked(client, key, mark):
                        return
                    raise

        self._connection.call(key, attempt)

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """The object's bytes, or a range of them."""
        if length == 0:
            self.stat(key)
            return b""
        place = {**self._place(key)}
        return self._connection.call(
            key,
            lambda client, deadline: download(
                client,
                deadline,
                read_timeout=self._settings.read_timeout,
                key=key,
                place=place,
                start=start,
                length=length,
            ),
        )

    def stat(self, key: str) -> ObjectInfo:
        """Size and time."""

        def attempt(client: "S3Client", _: Deadline) -> ObjectInfo:
            try:
                found = client.head_object(**self._place(key))
            except ClientError as error:
                if has_no_words(error) and http_status(error) < 500:
                    # A missing object, a missing bucket, a wrong region: only the answer to a GET says which.
                    client.get_object(**self._place(key), Range="bytes=0-0")["Body"].close()
                raise
            return ObjectInfo(key, found["ContentLength"], found["LastModified"].astimezone(UTC))

        return self._connection.call(key, attempt)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects with that prefix, page by page."""
        asked: dict[str, Any] = {"Bucket": self._settings.bucket, "Prefix": self._root + prefix}

        def page(client: "S3Client", _: Deadline) -> "ListObjectsV2OutputTypeDef":
            return client.list_objects_v2(**asked)

        while True:
            answer = self._connection.call(prefix, page)
            for one in answer.get("Contents", ()):
                key = one["Key"].removeprefix(self._root)
                yield ObjectInfo(key, one["Size"], one["LastModified"].astimezone(UTC))
            if not answer.get("IsTruncated"):
                return
            following = answer.get("NextContinuationToken")
            if not following or following == asked.get("ContinuationToken"):
                raise SinkError(prefix, "the service says that its listing goes on, but not from where")
            asked["ContinuationToken"] = following

    def delete(self, key: str) -> None:
        """Remove the object; in a versioned bucket, its current version becomes a former one."""

        def attempt(client: "S3Client", _: Deadline) -> None:
            try:
                client.delete_object(**self._place(key))
            except ClientError as error:
                if error_code(error) not in {"NoSuchKey", "404"}:
                    raise

        self._connection.call(key, attempt)

    def retain(self, key: str, until: datetime) -> None:
        """Keep the object locked at least until then."""

        def attempt(client: "S3Client", _: Deadline) -> None:
            self._lengthen(client, key, until)

        self._connection.call(key, attempt)

    def knows_conditions(self) -> bool:
        """Whether a PUT with `If-None-Match: *` leaves what is there, seen by trying.

        The first of the two must find nothing there, or the object of an earlier probe; the second must be refused.
        An object of constant content is all that a service can overwrite that ignores the condition.
        """

        def attempt(client: "S3Client", _: Deadline) -> bool:
            asked = self._put_parameters(_PROBE, b"", locked=False) | {"Body": b"", "IfNoneMatch": "*"}
            for _attempt in range(2):
                try:
                    client.put_object(**asked)
                except ClientError as error:
                    if http_status(error) == 412:
                        return True
                    if _means_unknown(error):
                        return False
                    raise
            return False

        return self._connection.call(_PROBE, attempt)

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    def _place(self, key: str) -> _Place:
        return {"Bucket": self._settings.bucket, "Key": self._root + key}

    def _put_parameters(self, key: str, data: bytes | bytearray | memoryview, *, locked: bool = True) -> dict[str, Any]:
        settings = self._settings
        asked: dict[str, Any] = {**self._place(key), "ContentType": "application/octet-stream"}
        if settings.checksums == "when_required":
            digest = hashlib.md5(data, usedforsecurity=False).digest()  # of all services, every one checks this one
            asked["ContentMD5"] = base64.b64encode(digest).decode()
        if settings.storage_class is not None:
            asked["StorageClass"] = settings.storage_class
        if settings.sse != "none":
            asked["ServerSideEncryption"] = settings.sse
        if settings.kms_key_id is not None:
            asked["SSEKMSKeyId"] = settings.kms_key_id
        if locked and settings.locked_until is not None:
            asked["ObjectLockMode"] = settings.object_lock.upper()
            asked["ObjectLockRetainUntilDate"] = settings.locked_until
        return asked

    def _is_marked(self, client: "S3Client", key: str, mark: str) -> bool:
        return client.head_object(**self._place(key))["Metadata"].get(_MARK) == mark

    def _lengthen(self, client: "S3Client", key: str, until: datetime) -> None:
        held: datetime | None = client.head_object(**self._place(key)).get("ObjectLockRetainUntilDate")
        if held is None or held < until:
            client.put_object_retention(
                **self._place(key),
                Retention={
                    "Mode": "COMPLIANCE" if self._settings.object_lock == "compliance" else "GOVERNANCE",
                    "RetainUntilDate": until,
                },
            )


def _means_unknown(error: ClientError) -> bool:
    if http_status(error) == 501 or error_code(error) == "NotImplemented":
        return True
    return http_status(error) == 400 and "if-none-match" in str(error).lower()
