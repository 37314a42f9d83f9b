"""What the SDK and the service refuse, in the words of the sink's contract; credentials are never quoted."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from penstock.api import ObjectExists, ObjectMissing, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock_s3.settings import S3Settings

__all__ = ["error_code", "has_no_words", "http_status", "translated"]

_BUSY_STATUS = {408, 429, 500, 502, 503, 504, 509}
_BUSY = {
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
#: The bytes that arrived were not those that were sent.
_DAMAGED = {"BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_FULL = {
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageQuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
_ACTIONS = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "PutObjectRetention": "s3:PutObjectRetention",
}
#: What urllib3 puts in front of its messages.
_OBJECT = re.compile(r"^(?:<[^>]*>|\w+\([^)]*\)):\s*")
_NO_CREDENTIALS = (
    "Set access_key_id and secret_access_key, or a profile, or what the AWS tools read: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or the role of this machine."
)
_OLD_SERVICE = 'This service does not know the checksums of today\'s AWS: set checksums = "when_required".'


@contextmanager
def translated(key: str, settings: S3Settings) -> Iterator[None]:
    """Turn each error of the SDK that the block raises into the `SinkError` that carries `key`, with it as cause."""
    try:
        yield
    except sdk.ClientError as error:
        raise _refused(key, error, settings) from error
    except sdk.BotoCoreError as error:
        raise _failed(key, error, settings) from error
    except ResponseParserError as error:
        reason = f"{_where(settings)} gave an answer that cannot be read"
        raise SinkUnreachable(key, reason, hint="Is endpoint that of its S3?") from error
    except (OSError, HTTPError) as error:  # of the SDK's parts, and of our own reader when the deadline passes
        raise SinkUnreachable(key, f"the connection to {_where(settings)} broke: {_innermost(error)}") from error


def error_code(error: sdk.ClientError) -> str:
    """The code that the service gave; the HTTP status where it gave no other."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: sdk.ClientError) -> int:
    """The HTTP status of the answer; 0 if unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def has_no_words(error: sdk.ClientError) -> bool:
    """Whether the service only gave a status, as in answers to HEAD: what is missing then remains open."""
    return error_code(error).isdigit()


def _refused(key: str, error: sdk.ClientError, settings: S3Settings) -> SinkError:
    code, status = error_code(error), http_status(error)
    if known := _KNOWN.get(code):
        return known(key, error, settings)
    said = _said(error)
    if code in _FULL or status == 507:
        return SinkFull(key, said, hint="Free some space, or raise the quota, and run again: nothing was damaged.")
    if code in _DAMAGED:
        return SinkUnreachable(key, f"the transfer was damaged: {said}")
    if code in _BUSY or status in _BUSY_STATUS:
        return SinkUnreachable(key, f"the service cannot answer: {said}")
    if code.startswith("KMS.") or code == "KMSAccessDenied":
        return SinkDenied(key, f"the encryption key cannot be used: {said}", hint="Look at sse and kms_key_id.")
    if status == 404 and error.operation_name in {"GetObject", "HeadObject"}:
        return ObjectMissing(key, "no such object")
    if status in {401, 403}:
        return _denied(key, error, settings)
    if status == 501 and error.operation_name == "PutObject":
        return SinkError(key, said, hint=_OLD_SERVICE)
    if settings.object_lock != "none" and error.operation_name in {"PutObject", "PutObjectRetention"} and status == 400:
        return SinkError(key, said, hint=_NO_LOCKS)
    return SinkError(key, said)


def _denied(key: str, error: sdk.ClientError, settings: S3Settings) -> SinkError:
    action = _ACTIONS.get(error.operation_name, error.operation_name)
    below = "" if action == "s3:ListBucket" else "/" + "/".join(filter(None, (settings.prefix, "*")))
    hint = f"The policy of these credentials must allow {action} on arn:aws:s3:::{settings.bucket}{below}."
    if action == "s3:PutObject" and settings.object_lock != "none":
        hint += " With object_lock, s3:PutObjectRetention as well."
    if action in {"s3:PutObject", "s3:GetObject"} and settings.sse == "aws:kms":
        hint += " With sse = aws:kms, kms:GenerateDataKey and kms:Decrypt on the key as well."
    if action == "s3:GetObject":
        hint += " Without s3:ListBucket, AWS says this of objects that are missing, too."
    return SinkDenied(key, f"access denied: {_said(error)}", hint=hint)


def _wrong_region(key: str, error: sdk.ClientError, settings: S3Settings) -> SinkError:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    detail: dict[str, Any] = dict(error.response.get("Error", {}))
    region = headers.get("x-amz-bucket-region") or detail.get("Region")
    hint = f'Set region = "{region}".' if region else "Set region to the bucket's region."
    if endpoint := detail.get("Endpoint"):
        hint += f" The service names the endpoint {endpoint}."
    return SinkError(key, f"the bucket {settings.bucket} is in another region: {_said(error)}", hint=hint)


def _always(kind: type[SinkError], reason: str, hint: str | None = None) -> Callable[..., SinkError]:
    def make(key: str, error: sdk.ClientError, settings: S3Settings) -> SinkError:
        return kind(key, reason.format(said=_said(error), bucket=settings.bucket), hint=hint)

    return make


_NO_LOCKS = "Is object lock switched on at the bucket? It mostly must be when the bucket is made."
_WRONG_KEY = "Are access_key_id and secret_access_key, or those of the profile, right, and for this service?"

_KNOWN: dict[str, Callable[..., SinkError]] = {
    "NoSuchKey": _always(ObjectMissing, "no such object"),
    "NoSuchBucket": _always(
        SinkError,
        "there is no bucket {bucket}",
        "Create the bucket first, and look at bucket, endpoint and region: Penstock makes no buckets.",
    ),
    "PreconditionFailed": _always(ObjectExists, "an object is there already"),
    "AccessDenied": _denied,
    "SignatureDoesNotMatch": _always(SinkDenied, "wrong secret access key: {said}", _WRONG_KEY),
    "InvalidAccessKeyId": _always(SinkDenied, "unknown access key: {said}", _WRONG_KEY),
    "ExpiredToken": _always(SinkDenied, "the credentials have expired: {said}", "Get new ones, and run again."),
    "InvalidToken": _always(SinkDenied, "wrong session token: {said}", "Is session_token of the same credentials?"),
    "RequestTimeTooSkewed": _always(
        SinkDenied, "the clocks differ: {said}", "Set this host's clock; requests are signed with the time."
    ),
    "PermanentRedirect": _wrong_region,
    "TemporaryRedirect": _wrong_region,
    "AuthorizationHeaderMalformed": _wrong_region,
    "IllegalLocationConstraintException": _wrong_region,
    "301": _wrong_region,
    "MissingContentLength": _always(SinkError, "{said}", _OLD_SERVICE),
    "411": _always(SinkError, "{said}", _OLD_SERVICE),
    "InvalidObjectState": _always(
        SinkError, "the object was archived: {said}", "Restore it from the archive, and keep life-cycle rules off it."
    ),
    "ObjectLockConfigurationNotFoundError": _always(
        SinkError, "the bucket {bucket} keeps no objects locked: {said}", _NO_LOCKS
    ),
}


def _failed(key: str, error: sdk.BotoCoreError, settings: S3Settings) -> SinkError:
    """Errors of the SDK itself: no answer came, or no request could be made."""
    where = _where(settings)
    match error:
        case sdk.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = "Name the file of the authority that signed its certificate: tls_ca = …"
            return SinkError(key, f"{where} has a certificate that is not trusted", hint=hint)
        case sdk.SSLError() if "WRONG_VERSION_NUMBER" in str(error):
            return SinkError(key, f"{where} does not speak TLS", hint="Is it http:// instead of https://?")
        case sdk.NoCredentialsError():
            return SinkDenied(key, "no credentials for S3 were found", hint=_NO_CREDENTIALS)
        case sdk.PartialCredentialsError() | sdk.ProfileNotFound():
            return SinkDenied(key, _line(str(error)), hint=_NO_CREDENTIALS)
        case sdk.CredentialRetrievalError() | sdk.TokenRetrievalError() | sdk.SSOError():
            # Its text may quote what a credential process printed.
            return SinkDenied(key, f"the credentials cannot be fetched ({type(error).__name__})", hint=_NO_CREDENTIALS)
        case sdk.EndpointConnectionError():
            hint = "Is it up, and are endpoint, region and addressing right?"
            return SinkUnreachable(key, f"cannot connect to {where}: {_innermost(error)}", hint=hint)
        case sdk.ConnectTimeoutError():
            return SinkUnreachable(key, f"{where} took no connection within {settings.connect_timeout:g} seconds")
        case sdk.ReadTimeoutError():
            return SinkUnreachable(key, f"{where} did not answer in time")
        case sdk.FlexibleChecksumError():
            return SinkUnreachable(key, "the transfer was damaged: its checksum is not that of the object")
        case sdk.ConnectionError() | sdk.HTTPClientError() | sdk.IncompleteReadError() | sdk.ResponseStreamingError():
            return SinkUnreachable(key, f"the connection to {where} broke: {_innermost(error)}")
        case _:
            return SinkError(key, _line(str(error)))


def _where(settings: S3Settings) -> str:
    return settings.endpoint or "the service"


def _said(error: sdk.ClientError) -> str:
    """The service's own words, on one line."""
    told, code = _line(str(error.response.get("Error", {}).get("Message") or "")), error_code(error)
    if not told or told == "None":
        return f"{code or 'no reason given'} ({error.operation_name})"
    return f"{told} ({code})" if code else told


def _innermost(error: BaseException) -> str:
    inner = getattr(error, "kwargs", {}).get("error") or error
    return _OBJECT.sub("", _line(str(inner))) or type(inner).__name__


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
