"""What the SDK and the service refuse, in the words of the sink's contract; credentials are never quoted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from azure.core import exceptions as sdk

from penstock.api import ObjectExists, ObjectMissing, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock_azure.settings import AzureSettings

__all__ = ["error_code", "translated"]

_BUSY_STATUS = {408, 429, 500, 502, 503, 504}
_BUSY = {"InternalError", "OperationTimedOut", "ServerBusy"}
#: The bytes that arrived were not those that were sent.
_DAMAGED = {"Md5Mismatch", "Crc64Mismatch", "InvalidMd5"}
_EXISTS = {"BlobAlreadyExists", "ConditionNotMet"}
_HELD = {"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"}
_WRONG_KEY = "Are account and account_key, sas_token or connection_string right? Is this host's clock?"
_ROLE = (
    "The identity needs a role with the data actions …/blobs/read and …/blobs/write (or …/blobs/add/action) on the "
    "container {container}, and …/blobs/delete to prune; a signature needs the permissions r, c, w and l, and d."
)


@contextmanager
def translated(key: str, settings: AzureSettings) -> Iterator[None]:
    """Turn each error of the SDK that the block raises into the `SinkError` that carries `key`, with it as cause."""
    try:
        yield
    except sdk.ClientAuthenticationError as error:
        raise _unauthenticated(key, error, settings) from error
    except sdk.IncompleteReadError as error:
        raise SinkUnreachable(key, f"the connection to {settings.address} broke") from error
    except (sdk.DecodeError, ValueError) as error:
        hint = "Does it speak the API of Azure Blob Storage?"
        raise SinkError(key, f"{settings.address} gave an answer that cannot be read", hint=hint) from error
    except sdk.HttpResponseError as error:
        raise _refused(key, error, settings) from error
    except sdk.AzureError as error:
        raise _failed(key, error, settings) from error
    except OSError as error:
        raise SinkUnreachable(key, f"the connection to {settings.address} broke: {_line(str(error))}") from error


def error_code(error: sdk.HttpResponseError) -> str:
    """The code that the service gave; "" where it gave none."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _unauthenticated(key: str, error: sdk.ClientAuthenticationError, settings: AzureSettings) -> SinkError:
    if error.response is None:  # azure-identity: its words name what was tried, line by line
        hint = "Set account_key, sas_token or connection_string, or log in: `az login`, or a managed identity."
        return SinkDenied(key, "azure-identity found no credentials that work", hint=hint)
    return _refused(key, error, settings)


def _refused(key: str, error: sdk.HttpResponseError, settings: AzureSettings) -> SinkError:
    code, status = error_code(error), error.status_code
    if error.response is None or status is None:
        return SinkUnreachable(key, f"the connection to {settings.address} broke")
    if known := _KNOWN.get(code):
        return known(key, error, settings)
    said = _said(error)
    if code in _EXISTS:
        return ObjectExists(key, "an object is there already")
    if code in _DAMAGED or (status == 400 and "md5" in said.lower()):
        return SinkUnreachable(key, f"the transfer was damaged: {said}")
    if code in _BUSY or status in _BUSY_STATUS:
        return SinkUnreachable(key, f"the service cannot answer: {said}")
    if code in _HELD:
        hint = "An immutability policy or a legal hold keeps it: wait until it ends, or clear the hold."
        return SinkError(key, f"the object is kept from change: {said}", hint=hint)
    if status == 507 or code == "InsufficientStorage":
        return SinkFull(key, said, hint="Free some space, and run again: nothing was damaged.")
    if status == 404:
        return ObjectMissing(key, "no such object")
    if status in {401, 403}:
        return SinkDenied(key, f"access denied: {said}", hint=_ROLE.format(container=settings.container))
    if status == 412:
        return ObjectExists(key, "an object is there already")
    return SinkError(key, said)


def _always(kind: type[SinkError], reason: str, hint: str | None = None) -> Callable[..., SinkError]:
    def make(key: str, error: sdk.HttpResponseError, settings: AzureSettings) -> SinkError:
        return kind(key, reason.format(said=_said(error), container=settings.container), hint=hint)

    return make


_KNOWN: dict[str, Callable[..., SinkError]] = {
    "BlobNotFound": _always(ObjectMissing, "no such object"),
    "ContainerNotFound": _always(
        SinkError,
        "there is no container {container}",
        "Create the container first, and look at account, container and endpoint: Penstock makes none.",
    ),
    "ContainerBeingDeleted": _always(SinkError, "the container {container} is being deleted"),
    "AuthenticationFailed": _always(SinkDenied, "the credentials were refused: {said}", _WRONG_KEY),
    "InvalidAuthenticationInfo": _always(SinkDenied, "the credentials were refused: {said}", _WRONG_KEY),
    "NoAuthenticationInformation": _always(SinkDenied, "the service wants other credentials: {said}", _WRONG_KEY),
    "AccountIsDisabled": _always(SinkDenied, "the account is disabled: {said}"),
    "KeyBasedAuthenticationNotPermitted": _always(
        SinkDenied, "the account takes no keys: {said}", "Remove account_key, and let azure-identity find an identity."
    ),
    "BlobArchived": _always(SinkError, "the object was archived: {said}", "Rehydrate it; keep life-cycle rules off."),
}


def _failed(key: str, error: sdk.AzureError, settings: AzureSettings) -> SinkError:
    """Errors of the SDK itself: no answer came, or no request could be made. The transport left no address in them."""
    where, said = settings.address, _line(str(error.message))
    if "CERTIFICATE_VERIFY_FAILED" in said:
        hint = "Name the file of the authority that signed its certificate: tls_ca = …"
        return SinkError(key, f"{where} has a certificate that is not trusted", hint=hint)
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER_FAILURE" in said:
        return SinkError(key, f"{where} does not speak TLS", hint="Is it http:// instead of https://?")
    match error:
        case sdk.ServiceRequestTimeoutError():
            return SinkUnreachable(key, f"{where} took no connection within {settings.connect_timeout:g} seconds")
        case sdk.ServiceResponseTimeoutError():
            return SinkUnreachable(key, f"{where} did not answer in time")
        case sdk.ServiceRequestError() if "bearer token" not in said.lower():
            return SinkUnreachable(key, f"cannot connect to {where}: {said}", hint="Is it up, and is endpoint right?")
        case sdk.ServiceResponseError():
            return SinkUnreachable(key, f"the connection to {where} broke: {said}")
        case _:
            return SinkError(key, said)


def _said(error: sdk.HttpResponseError) -> str:
    """The service's own words, on one line: the first, since request ids, times and signatures follow."""
    told, code = _line((error.message or "").partition("\n")[0]), error_code(error)
    return f"{told} ({code or error.status_code})" if told else code or f"status {error.status_code}"


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
