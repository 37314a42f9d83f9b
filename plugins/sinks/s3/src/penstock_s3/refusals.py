"""What S3 services and their SDK refuse, in the words of the sink's contract; credentials are never quoted."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from penstock.api import SinkDenied, SinkError, SinkUnreachable, retry_after
from penstock.api.object_store import DamagedTransfer, Refusal, Refused, Service
from penstock.api.object_store.refusals import BUSY, DAMAGED, EXISTS, FULL, MISSING, Table, one_line
from penstock_s3.settings import S3Settings

__all__ = ["DELETE_VERSION", "Failures"]

#: What is asked for where a deletion names the version.
DELETE_VERSION = "delete version"

_ACTIONS = {
    "PutObject": ("put", "s3:PutObject"),
    "GetObject": ("get", "s3:GetObject"),
    "HeadObject": ("stat", "s3:GetObject"),
    "ListObjectsV2": ("list", "s3:ListBucket"),
    "DeleteObjects": ("delete", "s3:DeleteObject"),
    "DeleteObject": ("delete", "s3:DeleteObject"),
    "DeleteObjectVersion": (DELETE_VERSION, "s3:DeleteObjectVersion"),  # no operation: see `Versions`
    "ListObjectVersions": ("list versions", "s3:ListBucketVersions"),
    "GetBucketVersioning": ("ask for versioning", "s3:GetBucketVersioning"),
    "GetObjectRetention": ("retain", "s3:GetObjectRetention"),
    "PutObjectRetention": ("retain", "s3:PutObjectRetention"),
}
#: What urllib3 puts in front of its messages.
_URLLIB3_PREFIX = re.compile(r"^(?:<[^>]*>|\w+\([^)]*\)):\s*")
_NO_CREDENTIALS = (
    "Set access_key_id and secret_access_key, or a profile, or what the AWS tools read: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or the role of this machine."
)
_WRONG_KEY = "Check access_key_id and secret_access_key, or those of the profile, and that they are for this service."
_OLD_SERVICE = Refusal(
    SinkError, "{said}", 'Set checksums = "when_required": this service does not know the checksums of today\'s AWS.'
)
_NO_LOCKS = "Enable object lock on the bucket; most services allow that only when the bucket is created."
_TABLE: Table = {
    "NoSuchKey": MISSING,
    ("put", 404): Refusal(SinkError, "{said}"),
    ("delete", 404): Refusal(SinkError, "{said}"),
    ("list", 404): Refusal(SinkError, "{said}"),
    ("list versions", 404): Refusal(SinkError, "{said}"),
    (DELETE_VERSION, 404): Refusal(SinkError, "{said}"),
    "NoSuchBucket": Refusal(
        SinkError,
        "no such bucket: {bucket}",
        "Create the bucket first, and check bucket, endpoint and region: Penstock creates no buckets.",
    ),
    "PreconditionFailed": EXISTS,
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded", "ConditionalRequestConflict", "InternalError", "OperationAborted",
            "RequestLimitExceeded", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown",
            "Throttling", "ThrottlingException", "TooManyRequestsException",
        ),
        BUSY,
    ),
    **dict.fromkeys(
        ("BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"), DAMAGED
    ),
    **dict.fromkeys(
        (
            "InsufficientStorage", "QuotaExceeded", "StorageQuotaExceeded", "XMinioAdminBucketQuotaExceeded",
            "XMinioStorageFull",
        ),
        FULL,
    ),
    "SignatureDoesNotMatch": Refusal(SinkDenied, "wrong secret access key: {said}", _WRONG_KEY),
    "InvalidAccessKeyId": Refusal(SinkDenied, "unknown access key: {said}", _WRONG_KEY),
    "ExpiredToken": Refusal(SinkDenied, "the credentials have expired: {said}", "Get new ones, and run again."),
    "InvalidToken": Refusal(
        SinkDenied, "wrong session token: {said}", "Check that session_token belongs to the other credentials."
    ),
    "RequestTimeTooSkewed": Refusal(
        SinkDenied, "the clocks differ: {said}", "Set this host's clock: requests are signed with the time."
    ),
    "KMS": Refusal(SinkDenied, "the encryption key cannot be used: {said}", "Check sse and kms_key."),
    **dict.fromkeys(("MissingContentLength", "411"), _OLD_SERVICE),
    ("put", 501): _OLD_SERVICE,
    "InvalidObjectState": Refusal(
        SinkError,
        "the object was archived: {said}",
        "Restore it from the archive, and exclude it from life-cycle rules.",
    ),
    "ObjectLockConfigurationNotFoundError": Refusal(
        SinkError, "the bucket {bucket} keeps no objects locked: {said}", _NO_LOCKS
    ),
}  # fmt: skip


class Failures:
    """Turns what goes wrong into `SinkError`s."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        wrong_regions = ("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301")
        table: Table = {
            **_TABLE,
            **dict.fromkeys((*wrong_regions, "IllegalLocationConstraintException"), self._wrong_region),
            **dict.fromkeys(("AccessDenied", 401, 403), self._denied),
        }
        if settings.object_lock != "none":
            no_locks = Refusal(SinkError, "{said}", _NO_LOCKS)
            table = {**table, ("put", 400): no_locks, ("retain", 400): no_locks}
        where = settings.endpoint or "the service"
        names = {"bucket": settings.bucket}
        self.service = Service(where, table, names=names, connect_timeout=settings.connect_timeout)

    @contextmanager
    def translated(self, key: str) -> Iterator[None]:
        """Turn each error of the SDK that the block raises into the `SinkError` that carries `key`."""
        try:
            yield
        except sdk.ClientError as error:
            refused = refused_by(error)
            refused.__cause__ = error
            raise self.service.refused(key, refused) from refused
        except sdk.BotoCoreError as error:
            raise self._failed(key, error) from error
        except ResponseParserError as error:
            reason = self.service.unreadable(key, "S3").reason
            raise SinkUnreachable(key, reason, hint="Check that endpoint is the address of its S3 API.") from error
        except (OSError, HTTPError) as error:  # of the SDK's parts, and of our own reader when the deadline passes
            raise self.service.broke(key, _innermost(error)) from error

    def _denied(self, refused: Refused) -> Refusal:
        settings = self._settings
        action = next((allowed for name, allowed in _ACTIONS.values() if name == refused.action), refused.action)
        below = (
            ""
            if action in {"s3:ListBucket", "s3:ListBucketVersions"}
            else "/" + "/".join(filter(None, (settings.prefix, "*")))
        )
        hint = f"Allow {action} on arn:aws:s3:::{settings.bucket}{below} in the policy of these credentials."
        if refused.action == DELETE_VERSION:
            hint += (
                " The bucket keeps versions, and a deletion that leaves them would free nothing. Whether a lock is the "
                "reason shows with s3:GetObjectRetention and s3:GetObjectLegalHold."
            )
        if action == "s3:PutObject" and settings.object_lock != "none":
            hint += " With object_lock, allow s3:PutObjectRetention as well."
        if action in {"s3:PutObject", "s3:GetObject"} and settings.sse == "aws:kms":
            hint += " With sse = aws:kms, allow kms:GenerateDataKey and kms:Decrypt on the key as well."
        if action == "s3:GetObject":
            hint += " Without s3:ListBucket, AWS gives this answer for missing objects, too."
        return Refusal(SinkDenied, "access denied: {said}", hint)

    def _wrong_region(self, refused: Refused) -> Refusal:
        assert isinstance(refused.__cause__, sdk.ClientError)
        response: Any = refused.__cause__.response
        detail = response.get("Error", {})
        region = _headers(refused.__cause__).get("x-amz-bucket-region") or detail.get("Region")
        hint = f'Set region = "{region}".' if region else "Set region to the bucket's region."
        if endpoint := detail.get("Endpoint"):
            hint += f" The service names the endpoint {endpoint}."
        return Refusal(SinkError, "the bucket {bucket} is in another region: {said}", hint)

    def _failed(self, key: str, error: sdk.BotoCoreError) -> SinkError:
        """Errors of the SDK itself: no answer came, or no request could be made."""
        service = self.service
        match error:
            case sdk.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return service.untrusted(key)
            case sdk.SSLError() if "WRONG_VERSION_NUMBER" in str(error):
                return service.without_tls(key)
            case sdk.NoCredentialsError():
                return SinkDenied(key, "no credentials for S3 were found", hint=_NO_CREDENTIALS)
            case sdk.PartialCredentialsError() | sdk.ProfileNotFound():
                return SinkDenied(key, one_line(str(error)), hint=_NO_CREDENTIALS)
            case sdk.CredentialRetrievalError() | sdk.TokenRetrievalError() | sdk.SSOError():
                # Its text may quote what a credential process printed.
                reason = f"the credentials cannot be fetched ({type(error).__name__})"
                return SinkDenied(key, reason, hint=_NO_CREDENTIALS)
            case sdk.EndpointConnectionError():
                return service.unconnected(key, _innermost(error))
            case sdk.ConnectTimeoutError():
                return service.slow_to_connect(key)
            case sdk.ReadTimeoutError():
                return service.silent(key)
            case sdk.FlexibleChecksumError():
                return DamagedTransfer(key, "its checksum is not the one that the service keeps")
            case (
                sdk.ConnectionError() | sdk.HTTPClientError() | sdk.IncompleteReadError() | sdk.ResponseStreamingError()
            ):
                return service.broke(key, _innermost(error))
            case _:
                return SinkError(key, one_line(str(error)))


def refused_by(error: sdk.ClientError) -> Refused:
    """The refusal that the SDK raised."""
    detail = error.response.get("Error", {})
    code, said = str(detail.get("Code", "")), one_line(str(detail.get("Message") or ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    action = _ACTIONS.get(error.operation_name, (error.operation_name, ""))[0]
    if code.startswith("KMS.") or code == "KMSAccessDenied":
        code = "KMS"
    wait = retry_after(_headers(error).get("retry-after"))
    return Refused(action, status, code=code, said="" if said == "None" else said, wait=wait)


def _headers(error: sdk.ClientError) -> dict[str, str]:
    found: dict[str, str] = dict(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))
    return found


def _innermost(error: BaseException) -> str:
    inner = getattr(error, "kwargs", {}).get("error") or error
    return _URLLIB3_PREFIX.sub("", one_line(str(inner))) or type(inner).__name__
