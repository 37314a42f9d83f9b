"""What the SDK and services refuse, in the words of the contract."""

import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ReadTimeoutError

from penstock.api import ObjectExists, ObjectMissing, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock.api.object_store import DamagedTransfer
from penstock_s3 import S3Settings
from penstock_s3.refusals import Failures

SETTINGS = S3Settings.model_validate({"bucket": "shop", "prefix": "db", "endpoint": "https://s3.example.org"})


def refused(code: str, status: int, operation: str = "PutObject", **detail: str) -> sdk.ClientError:
    error = {"Code": code, "Message": "what the service\nsays", **detail}
    return sdk.ClientError(
        {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}},  # type: ignore[typeddict-item]
        operation,
    )


def tls(reason: str) -> sdk.SSLError:
    return sdk.SSLError(endpoint_url="https://x", error=OSError(reason))


def translate(error: Exception, settings: S3Settings = SETTINGS) -> SinkError:
    with pytest.raises(SinkError) as caught, Failures(settings).translated("packs/a"):
        raise error
    assert caught.value.key == "packs/a"
    cause = caught.value.__cause__
    assert error in {cause, cause and cause.__cause__}
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (refused("NoSuchKey", 404, "GetObject"), ObjectMissing, "no such object"),
        (refused("404", 404, "HeadObject"), ObjectMissing, "no such object"),
        (refused("NoSuchBucket", 404), SinkError, "no such bucket: shop"),
        (refused("404", 404, "PutObject"), SinkError, "says"),
        (refused("PreconditionFailed", 412), ObjectExists, "the object exists already"),
        (refused("ConditionalRequestConflict", 409), SinkUnreachable, "cannot answer"),
        (refused("AccessDenied", 403), SinkDenied, "access denied"),
        (refused("403", 403, "HeadObject"), SinkDenied, "access denied"),
        (refused("SignatureDoesNotMatch", 403), SinkDenied, "wrong secret access key"),
        (refused("InvalidAccessKeyId", 403), SinkDenied, "unknown access key"),
        (refused("ExpiredToken", 400), SinkDenied, "have expired"),
        (refused("RequestTimeTooSkewed", 403), SinkDenied, "the clocks differ"),
        (refused("QuotaExceeded", 403), SinkFull, "says"),
        (refused("XMinioStorageFull", 507), SinkFull, "says"),
        (refused("SlowDown", 503), SinkUnreachable, "SlowDown"),
        (refused("InternalError", 500), SinkUnreachable, "InternalError"),
        (refused("502", 502), SinkUnreachable, "502"),
        (refused("BadDigest", 400), SinkUnreachable, "damaged"),
        (refused("KMS.DisabledException", 400), SinkDenied, "encryption key"),
        (refused("InvalidObjectState", 403, "GetObject"), SinkError, "archived"),
        (refused("PermanentRedirect", 301), SinkError, "another region"),
        (refused("Strange", 418), SinkError, "what the service says (Strange)"),
        (sdk.NoCredentialsError(), SinkDenied, "no credentials"),
        (sdk.ProfileNotFound(profile="backup"), SinkDenied, "backup"),
        (sdk.EndpointConnectionError(endpoint_url="https://x", error="refused"), SinkUnreachable, "cannot connect"),
        (sdk.ConnectTimeoutError(endpoint_url="https://x"), SinkUnreachable, "did not accept a connection"),
        (sdk.ReadTimeoutError(endpoint_url="https://x"), SinkUnreachable, "did not answer in time"),
        (sdk.ConnectionClosedError(endpoint_url="https://x"), SinkUnreachable, "broke"),
        (sdk.ResponseStreamingError(error=OSError("reset")), SinkUnreachable, "broke: reset"),
        (sdk.FlexibleChecksumError(error_msg="CRC32"), DamagedTransfer, "checksum"),
        (tls("CERTIFICATE_VERIFY_FAILED"), SinkError, "not trusted"),
        (
            tls("WRONG_VERSION_NUMBER"),
            SinkError,
            "does not speak TLS",
        ),
        (TimeoutError("the deadline has passed"), SinkUnreachable, "the deadline has passed"),
        (ReadTimeoutError(None, "x", "slow"), SinkUnreachable, "slow"),  # type: ignore[arg-type]
        (ResponseParserError("invalid XML received: b'<ListBuck'"), SinkUnreachable, "cannot be parsed"),
        (tls("EOF"), SinkUnreachable, "broke"),
    ],
)
def test_each_refusal_has_its_error(error: Exception, kind: type[SinkError], says: str) -> None:
    assert type(translated_error := translate(error)) is kind
    assert says in str(translated_error)


@pytest.mark.parametrize(
    ("operation", "action", "resource"),
    [
        ("PutObject", "s3:PutObject", "arn:aws:s3:::shop/db/*"),
        ("GetObject", "s3:GetObject", "arn:aws:s3:::shop/db/*"),
        ("DeleteObject", "s3:DeleteObject", "arn:aws:s3:::shop/db/*"),
        ("ListObjectsV2", "s3:ListBucket", "arn:aws:s3:::shop "),
    ],
)
def test_a_denial_names_the_action_and_the_resource(operation: str, action: str, resource: str) -> None:
    hint = translate(refused("AccessDenied", 403, operation)).hint or ""
    assert f"{action} on {resource}" in hint


def test_a_wrong_region_names_the_right_one() -> None:
    error = translate(refused("AuthorizationHeaderMalformed", 400, Region="eu-central-1"))
    assert error.hint == 'Set region = "eu-central-1".'


@pytest.mark.parametrize("code", ["MissingContentLength", "411", "NotImplemented"])
def test_a_service_that_does_not_know_the_checksums_gets_the_setting_named(code: str) -> None:
    hint = translate(refused(code, 501 if code == "NotImplemented" else 411)).hint
    assert 'checksums = "when_required"' in str(hint)


def test_what_a_credential_process_printed_is_not_repeated() -> None:
    error = sdk.CredentialRetrievalError(provider="custom-process", error_msg="hunter2secret")
    assert "hunter2" not in str(translate(error))
