"""Objects below the prefix of one bucket.

The SDK finds endpoints and credentials, signs, and waits for the service before it sends much; its retries and its
transfers in parts are not used.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, TypedDict, cast

from botocore.exceptions import ClientError

from penstock.api import (
    Deadline,
    ObjectExists,
    ObjectInfo,
    ObjectMissing,
    SinkDenied,
    SinkError,
    SinkUnreachable,
    drain,
)
from penstock.api.object_store import ByteRange, Page, Refused
from penstock_s3.client import ClientOfAll
from penstock_s3.policy import PROBE
from penstock_s3.refusals import refused_by
from penstock_s3.settings import S3Settings
from penstock_s3.upload import Upload
from penstock_s3.versions import NO_LOCK, Versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Store"]

Buffer = bytes | bytearray | memoryview

#: Small, so that the deadline is looked at often enough on a slow line.
_BLOCK = 64 * 1024
#: Objects up to this size are copied, and sent without asking first whether the service would take them.
_SMALL = 64 * 1024
#: The object's own metadata that names the call which made it.
_MARK = "penstock-put"
#: The end of the chunks and the trailer that a service should have taken off (AWS, "Signature calculations: trailing
#: headers"); no object of ours ends so.
_FRAMED = re.compile(rb"0\r\nx-amz-checksum-[a-z0-9]+:[A-Za-z0-9+/=]+\r\n\r\n\Z")
_LONGEST_TRAILER = 200


class _Place(TypedDict):
    Bucket: str
    Key: str


class S3Store:
    """Single attempts: one request, and another where only that tells a missing object from a missing bucket."""

    #: Not the 1,000 that one request takes: versions are listed key by key, all within the deadline of the call.
    batch = 250

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._client = ClientOfAll(settings)
        self._versions = Versions(settings, self._client)

    @property
    def generation(self) -> int:
        """How often the credentials were replaced."""
        return self._client.credentials.generation

    def renew(self, generation: int) -> bool:
        """Whether others than those of `generation` are in use now."""
        return self._client.credentials.renew(generation)

    def put(self, key: str, data: Buffer, deadline: Deadline, *, if_absent: bool, mark: str) -> None:
        """One PUT. With `if_absent` the service decides; it must know `If-None-Match`."""
        asked = {**self._put_parameters(key, data), "Metadata": {_MARK: mark}}
        if if_absent:
            asked["IfNoneMatch"] = "*"
        with self._client.within(key, deadline) as client, Upload(data, deadline) as upload:
            client.put_object(Body=bytes(data) if len(upload) <= _SMALL else cast("IO[bytes]", upload), **asked)

    def is_own(self, key: str, data: Buffer, deadline: Deadline, *, mark: str) -> bool:
        """By the mark."""
        del data
        with self._client.within(key, deadline) as client:
            return client.head_object(**self._place(key))["Metadata"].get(_MARK) == mark

    def get(self, key: str, wanted: ByteRange, deadline: Deadline) -> bytes:
        """One GET, whose checksum the SDK compares where the service tells one."""
        asked: Any = {**self._place(key), **({} if wanted.is_whole else {"Range": wanted.header})}
        with self._missing_told(key, deadline), self._client.within(key, deadline) as client:
            response = client.get_object(**asked)
            size = response["ContentLength"]
            with closing(response["Body"]) as body:
                try:
                    data = drain(
                        lambda: body.read(_BLOCK),
                        bound=body.set_socket_timeout,
                        timeout=self._settings.read_timeout,
                        deadline=deadline,
                        size=size,
                    )
                except TimeoutError as error:
                    raise SinkUnreachable(key, str(error)) from error
        if len(data) != size:
            raise SinkUnreachable(key, f"the answer broke off after {len(data)} of {size} bytes")
        if _FRAMED.search(data, max(0, size - _LONGEST_TRAILER)):
            raise SinkError(
                key,
                "the service kept the framing of the upload as a part of the object (aws-chunked)",
                hint='Set checksums = "when_required", and store it anew: this service does not know today\'s uploads.',
            )
        return wanted.taken(key, data, None if wanted.is_whole else response.get("ContentRange"))

    def stat(self, key: str, deadline: Deadline) -> ObjectInfo:
        """Size and time."""
        with self._missing_told(key, deadline), self._client.within(key, deadline) as client:
            try:
                found = client.head_object(**self._place(key))
            except ClientError as error:
                refused = refused_by(error)
                if refused.code.isdigit() and refused.status < 500:
                    # A missing object, a missing bucket, a wrong region: only the answer to a GET says which.
                    client.get_object(**self._place(key), Range="bytes=0-0")["Body"].close()
                raise
        return ObjectInfo(key, found["ContentLength"], found["LastModified"].astimezone(UTC))

    def list_page(self, prefix: str, token: str | None, deadline: Deadline) -> Page:
        """Up to 1,000 objects."""
        root = self._settings.root
        asked: dict[str, Any] = {} if token is None else {"ContinuationToken": token}
        with self._client.within(prefix, deadline) as client:
            found = client.list_objects_v2(Bucket=self._settings.bucket, Prefix=root + prefix, **asked)
        objects = [
            ObjectInfo(one["Key"].removeprefix(root), one["Size"], one["LastModified"].astimezone(UTC))
            for one in found.get("Contents", ())
        ]
        return Page(objects, found.get("NextContinuationToken", "") if found.get("IsTruncated") else None)

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        """One request for all; in a bucket that has kept versions, every version of each."""
        self._versions.delete(keys, deadline)

    def retain(self, key: str, until: datetime, deadline: Deadline) -> None:
        """Lengthen the object's lock, unless it is long enough."""
        with self._missing_told(key, deadline), self._client.within(key, deadline) as client:
            held = self._locked_until(client, key)
            if held is None or held < until:
                client.put_object_retention(
                    **self._place(key),
                    Retention={
                        "Mode": "COMPLIANCE" if self._settings.object_lock == "compliance" else "GOVERNANCE",
                        "RetainUntilDate": until,
                    },
                )

    def look(self, deadline: Deadline) -> None:
        """A listing of at most one object, where a credential for a part of the repository may list, too."""
        with self._client.within("", deadline) as client:
            client.list_objects_v2(Bucket=self._settings.bucket, Prefix=self._settings.root + PROBE, MaxKeys=1)

    def knows_conditions(self, deadline: Deadline) -> bool:
        """Whether a PUT with `If-None-Match: *` leaves what is there, seen by trying.

        The first of the two must find nothing there, or the object of an earlier probe; the second must be refused.
        An object of constant content is all that a service can overwrite that ignores the condition.
        """
        asked = self._put_parameters(PROBE, b"", locked=False) | {"Body": b"", "IfNoneMatch": "*"}
        for _ in range(2):
            try:
                with self._client.within(PROBE, deadline) as client:
                    client.put_object(**asked)
            except ObjectExists:
                return True
            except SinkError as error:
                if isinstance(error.__cause__, Refused) and _means_unknown(error.__cause__):
                    return False
                raise
        return False

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _locked_until(self, client: "S3Client", key: str) -> datetime | None:
        """Not from a HEAD: whoever may lengthen locks need not be able to read."""
        try:
            return client.get_object_retention(**self._place(key))["Retention"].get("RetainUntilDate")
        except ClientError as error:
            if refused_by(error).code not in NO_LOCK:
                raise
            return None

    @contextmanager
    def _missing_told(self, key: str, deadline: Deadline) -> Iterator[None]:
        """Find out whether what was denied is only missing.

        Services deny a missing object to a credential that may not list the whole bucket, and one that is confined to a
        part of it may not; but it may ask for a listing of this very key.
        """
        try:
            yield
        except SinkDenied as error:
            if not isinstance(error.__cause__, Refused) or error.__cause__.status != 403:
                raise
            if self._is_missing(key, deadline):
                raise ObjectMissing(key, "no such object") from error.__cause__
            raise

    def _is_missing(self, key: str, deadline: Deadline) -> bool:
        name = self._settings.root + key
        with suppress(SinkDenied), self._client.within(key, deadline) as client:
            found = client.list_objects_v2(Bucket=self._settings.bucket, Prefix=name, MaxKeys=1)
            return all(one["Key"] != name for one in found.get("Contents", ()))
        return False

    def _place(self, key: str) -> _Place:
        return {"Bucket": self._settings.bucket, "Key": self._settings.root + key}

    def _put_parameters(self, key: str, data: Buffer, *, locked: bool = True) -> dict[str, Any]:
        settings = self._settings
        asked: dict[str, Any] = {**self._place(key), "ContentType": "application/octet-stream"}
        if settings.checksums == "when_required":
            digest = hashlib.md5(data, usedforsecurity=False).digest()  # the one checksum that every service compares
            asked["ContentMD5"] = base64.b64encode(digest).decode()
        if settings.storage_class is not None:
            asked["StorageClass"] = settings.storage_class
        if settings.sse != "none":
            asked["ServerSideEncryption"] = settings.sse
        if settings.kms_key is not None:
            asked["SSEKMSKeyId"] = settings.kms_key
        until = settings.locked_until(self._client.clock.now())
        if locked and until is not None:
            asked["ObjectLockMode"] = settings.object_lock.upper()
            asked["ObjectLockRetainUntilDate"] = until
        return asked


def _means_unknown(refused: Refused) -> bool:
    if refused.status == 501 or refused.code == "NotImplemented":
        return True
    return refused.status == 400 and "if-none-match" in refused.said.lower()
