"""What Cloud Storage refuses, by its own reasons (https://cloud.google.com/storage/docs/json_api/v1/status-codes)."""

import json

from penstock.api.errors import ObjectLocked, SinkDenied, SinkError
from penstock.api.object_store import Refusal, Refused, Service
from penstock.api.object_store.http import Answer, refused_by
from penstock.api.object_store.refusals import BUSY, DAMAGED, FULL, Table
from penstock_gcs.settings import GcsSettings

__all__ = ["NO_BUCKET", "refused", "service_of"]

#: The code of a refusal where it is the bucket that is missing.
NO_BUCKET = "noSuchBucket"

_PERMISSIONS = {
    "put": "storage.objects.create",
    "get": "storage.objects.get",
    "stat": "storage.objects.get",
    "list": "storage.objects.list",
    "retain": "storage.objects.update and storage.objects.setRetention",
    "delete": "storage.objects.delete",
}


def refused(action: str, answer: Answer) -> Refused:
    """The refusal that an answer is: errors come as JSON or as plain text."""
    text = answer.body[:20_000].decode(errors="replace")
    reason, said = "", text
    try:
        error = json.loads(text)["error"]
        said = str(error["message"])
        reason = str(error["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        pass  # what was found so far will do
    if answer.status == 400 and any(word in said.lower() for word in ("crc32c", "md5", "checksum")):
        reason = "badChecksum"
    if "project" in said.lower() and reason == "required":
        reason = "userProjectMissing"
    if answer.status == 404 and action in {"put", "list"}:
        reason = NO_BUCKET
    return refused_by(action, answer, code=reason, said=said)


def service_of(settings: GcsSettings) -> Service:
    """The service that the settings name, and what it refuses."""

    def denied(refused: Refused) -> Refusal:
        needed = _PERMISSIONS.get(refused.action, "more permissions")
        hint = f"Grant the account {needed} on the bucket {{bucket}}."
        if refused.action == "put" and settings.object_lock != "none":
            hint += " With object_lock, grant storage.objects.setRetention as well."
        if refused.action == "put":
            hint += " Replacing an object takes storage.objects.delete as well; Penstock itself replaces none."
        return Refusal(SinkDenied, "access denied: {said}", hint)

    table: Table = {
        NO_BUCKET: Refusal(
            SinkError,
            "no such bucket: {bucket}",
            "Create the bucket first, and check bucket and endpoint: Penstock creates no buckets.",
        ),
        "badChecksum": DAMAGED,
        # Refused with 403, and yet worth another attempt.
        **dict.fromkeys(("rateLimitExceeded", "userRateLimitExceeded", "backendError"), BUSY),
        **dict.fromkeys(("quotaExceeded", "storageQuotaExceeded", "dailyLimitExceeded"), FULL),
        **dict.fromkeys(
            ("retentionPolicyNotMet", "objectUnderActiveHold"),
            Refusal(
                ObjectLocked,
                "locked, and nobody knows until when: {said}",
                "Wait until its retention ends, or release its hold.",
            ),
        ),
        "userProjectMissing": Refusal(SinkError, "{said}", "Set project: the bucket bills whoever asks."),
        401: Refusal(
            SinkDenied,
            "the credentials were refused: {said}",
            "Check credentials_file, credentials_json or the application default credentials.",
        ),
        403: denied,
    }
    return Service(
        settings.endpoint or "Google Cloud Storage",
        table,
        names={"bucket": settings.bucket},
        connect_timeout=settings.connect_timeout,
    )
