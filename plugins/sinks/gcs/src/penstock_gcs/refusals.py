"""What the service refuses, and what goes wrong on the way, in the words of the sink's contract."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from urllib3 import exceptions as net

from penstock.api import ObjectExists, ObjectMissing, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock_gcs.settings import GcsSettings

__all__ = ["NoBucket", "Refused", "translated"]

_BUSY_STATUS = {408, 429, 500, 502, 503, 504}
#: Refused with 403, and yet worth another attempt.
_BUSY = {"rateLimitExceeded", "userRateLimitExceeded", "backendError"}
_FULL = {"quotaExceeded", "storageQuotaExceeded", "dailyLimitExceeded"}
_HELD = {"retentionPolicyNotMet", "objectUnderActiveHold"}
_PERMISSIONS = {
    "POST": "storage.objects.create",
    "GET": "storage.objects.get and storage.objects.list",
    "PATCH": "storage.objects.update and storage.objects.setRetention",
    "DELETE": "storage.objects.delete",
}


class Refused(Exception):
    """An answer that is no success. `reason` is the API's own word, `wait` the seconds that it asks to wait."""

    def __init__(self, method: str, status: int, body: bytes, wait: float | None = None) -> None:
        self.method = method
        self.status = status
        self.reason, self.said = _words(body)
        self.wait = wait
        super().__init__(f"{method}: {status} {self.said}")


class NoBucket(Exception):
    """What was asked for is missing because its bucket is."""


@contextmanager
def translated(key: str, settings: GcsSettings) -> Iterator[None]:
    """Turn each error that the block raises into the `SinkError` that carries `key`, with it as cause."""
    try:
        yield
    except Refused as refused:
        raise _refused(key, refused, settings) from refused
    except NoBucket as missing:
        hint = "Create the bucket first, and look at bucket and endpoint: Penstock makes no buckets."
        raise SinkError(key, f"there is no bucket {settings.bucket}", hint=hint) from missing
    except net.HTTPError as error:
        raise _failed(key, error, settings) from error
    except OSError as error:
        raise SinkUnreachable(key, f"the connection to {_where(settings)} broke: {_innermost(error)}") from error
    except (ValueError, KeyError) as error:
        raise SinkError(
            key, f"{_where(settings)} gave an answer that cannot be read", hint="Does it speak the API of GCS?"
        ) from error


def _refused(key: str, refused: Refused, settings: GcsSettings) -> SinkError:
    status, said = refused.status, f"{refused.said} ({refused.status})"
    if status == 412:
        return ObjectExists(key, "an object is there already")
    if status == 404 and refused.method != "POST":
        return ObjectMissing(key, "no such object")
    if status in _BUSY_STATUS or refused.reason in _BUSY:
        return SinkUnreachable(key, f"the service cannot answer: {said}")
    if status == 400 and _is_about_checksums(refused.said):
        return SinkUnreachable(key, f"the transfer was damaged: {said}")
    if refused.reason in _FULL or status == 507:
        return SinkFull(key, said, hint="Raise the quota or free some space, and run again: nothing was damaged.")
    if refused.reason in _HELD:
        hint = "A retention or a hold keeps it: wait until it ends, or release the hold."
        return SinkError(key, f"the object is kept from change: {said}", hint=hint)
    if refused.reason in {"userProjectMissing", "required"} and "project" in refused.said.lower():
        return SinkError(key, said, hint="The bucket bills who asks: set project.")
    if status == 401:
        hint = "Are credentials_file, credentials_json or the application default credentials right, and still valid?"
        return SinkDenied(key, f"the credentials were refused: {said}", hint=hint)
    if status == 403:
        return _denied(key, refused.method, said, settings)
    return SinkError(key, said)


def _denied(key: str, method: str, said: str, settings: GcsSettings) -> SinkError:
    needed = _PERMISSIONS.get(method, "it")
    if method == "POST" and settings.object_lock != "none":
        needed += " and storage.objects.setRetention"
    hint = f"The account needs {needed} on the bucket {settings.bucket}."
    if method == "POST":
        hint += " To replace an object that is there, storage.objects.delete as well; Penstock itself replaces none."
    return SinkDenied(key, f"access denied: {said}", hint=hint)


def _failed(key: str, error: net.HTTPError, settings: GcsSettings) -> SinkError:
    where = _where(settings)
    match error:
        case net.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = "Name the file of the authority that signed its certificate: tls_ca = …"
            return SinkError(key, f"{where} has a certificate that is not trusted", hint=hint)
        case net.SSLError() if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER_FAILURE" in str(error):
            return SinkError(key, f"{where} does not speak TLS", hint="Is it http:// instead of https://?")
        case net.ProxyError():
            return SinkUnreachable(key, "the proxy of this host's environment cannot be used", hint="See https_proxy.")
        case net.NewConnectionError():
            return SinkUnreachable(key, f"cannot connect to {where}", hint="Is it up, and is endpoint right?")
        case net.ConnectTimeoutError():
            return SinkUnreachable(key, f"{where} took no connection within {settings.connect_timeout:g} seconds")
        case net.ReadTimeoutError():
            return SinkUnreachable(key, f"{where} did not answer in time")
        case net.LocationValueError():
            return SinkError(key, f"{where} is no address that can be used")
        case _:
            return SinkUnreachable(key, f"the connection to {where} broke: {_innermost(error)}")


def _is_about_checksums(said: str) -> bool:
    said = said.lower()
    return "crc32c" in said or "md5" in said or "checksum" in said


def _words(body: bytes) -> tuple[str, str]:
    """The reason and the message of an error, which come as JSON or as plain text."""
    text = body[:20_000].decode(errors="replace")
    reason, said = "", text
    try:
        error = json.loads(text)["error"]
        said = str(error["message"])
        reason = str(error["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        pass  # what was found so far will do
    return reason, " ".join(said.split())[:300] or "no reason given"


def _where(settings: GcsSettings) -> str:
    return settings.endpoint or "Google Cloud Storage"


def _innermost(error: BaseException) -> str:
    inner = error
    while inner.args and isinstance(inner.args[-1], BaseException):
        inner = inner.args[-1]
    return " ".join(str(inner).split())[:300] or type(inner).__name__
