"""What Blob Storage refuses, by its own codes (https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes)."""

import re

from penstock.api import ObjectLocked, SinkDenied, SinkError
from penstock.api.object_store import Refusal, Refused, Service
from penstock.api.object_store.http import Answer, refused_by
from penstock.api.object_store.refusals import DAMAGED, EXISTS, FULL, MISSING, Table
from penstock_azure.settings import AzureSettings

__all__ = ["API", "refused", "service_of"]

API = "the API of Azure Blob Storage"

_REFUSED_KEY = Refusal(
    SinkDenied,
    "the credentials were refused: {said}",
    "Check account, and account_key, sas_token or connection_string, and this host's clock.",
)
_HELD = Refusal(
    ObjectLocked,
    "locked, and nobody knows until when: {said}",
    "Wait until its immutability policy ends, or clear its legal hold.",
)
_DENIED = Refusal(
    SinkDenied,
    "access denied: {said}",
    "Grant a role with the data actions blobs/read and blobs/write (or blobs/add/action) on the container {container}, "
    "and blobs/delete to prune; a signature needs the permissions r, c, w and l, and d.",
)
_VERSIONS_DENIED = Refusal(
    SinkDenied,
    "access denied: {said}",
    "Grant a role with the data action blobs/deleteBlobVersion/action on the container {container}; a signature needs "
    "the permission x. The account keeps versions, and a deletion that leaves them would free nothing.",
)
_TABLE: Table = {
    ("delete version", 403): _VERSIONS_DENIED,
    "BlobNotFound": MISSING,
    "ContainerNotFound": Refusal(
        SinkError,
        "no such container: {container}",
        "Create the container first, and check account, container and endpoint: Penstock creates none.",
    ),
    "ContainerBeingDeleted": Refusal(SinkError, "the container {container} is being deleted"),
    **dict.fromkeys(("BlobAlreadyExists", "ConditionNotMet"), EXISTS),
    **dict.fromkeys(("BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"), _HELD),
    **dict.fromkeys(("Md5Mismatch", "Crc64Mismatch", "InvalidMd5"), DAMAGED),
    "InsufficientStorage": FULL,
    **dict.fromkeys(("AuthenticationFailed", "InvalidAuthenticationInfo"), _REFUSED_KEY),
    "NoAuthenticationInformation": Refusal(
        SinkDenied, "the service wants other credentials: {said}", _REFUSED_KEY.hint
    ),
    "AccountIsDisabled": Refusal(SinkDenied, "the account is disabled: {said}"),
    "KeyBasedAuthenticationNotPermitted": Refusal(
        SinkDenied, "the account takes no keys: {said}", "Remove account_key, so that azure-identity finds an identity."
    ),
    "BlobArchived": Refusal(
        SinkError, "the object was archived: {said}", "Rehydrate it, and exclude it from life-cycle rules."
    ),
    **dict.fromkeys((401, 403), _DENIED),
}


def refused(action: str, answer: Answer) -> Refused:
    """The refusal that an answer is. Of its message only the first line: request ids and signatures follow."""
    text = answer.body[:20_000].decode(errors="replace")
    found = re.search(r"<Message>(.*?)(?:\n|</Message>)", text, re.DOTALL)
    code = answer.headers.get("x-ms-error-code") or "".join(re.findall(r"<Code>(\w+)</Code>", text)[:1])
    said = found[1] if found else ""
    if answer.status == 400 and "md5" in said.lower():
        code = "Md5Mismatch"
    return refused_by(action, answer, code=code, said=said)


def service_of(settings: AzureSettings) -> Service:
    """The service that the settings name, and what it refuses."""
    names = {"container": settings.container}
    return Service(settings.address, _TABLE, names=names, connect_timeout=settings.connect_timeout)
