"""The settings of a GCS sink, and the URLs that stand for them."""

from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import unquote

from pydantic import Field

from penstock.api import SecretRef
from penstock.api.object_store import ObjectStoreSettings, settings_of_query, split_url

__all__ = ["GcsSettings", "settings_from_url"]

#: Never in a URL, which everyone on the host can read.
_CREDENTIALS = ("credentials_json",)


class GcsSettings(ObjectStoreSettings):
    """The bucket, the credentials, and how objects are kept.

    Without `credentials_file` and `credentials_json` the application default credentials are used: those that
    GOOGLE_APPLICATION_CREDENTIALS names, those of `gcloud auth application-default login`, or the service account of
    the machine.
    """

    former: ClassVar[dict[str, str]] = {**ObjectStoreSettings.former, "kms_key_name": "kms_key"}

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", description="the bucket's name; it must exist")
    project: str | None = Field(None, min_length=1, description="the project to bill, for requester-pays buckets")

    credentials_file: Path | None = Field(None, description="a JSON file: service account, or workload federation")
    credentials_json: SecretRef | None = Field(None, description="the same JSON, on one line, as a secret")
    anonymous: bool = Field(False, description="send no credentials; with an endpoint of http://, none are ever sent")

    storage_class: str | None = Field(None, pattern=r"^[A-Z_]+$", description="NEARLINE, COLDLINE, ARCHIVE, ...")
    kms_key: str | None = Field(
        None,
        pattern=r"^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$",
        description="encrypt with this key of Cloud KMS, beside Penstock's own encryption",
    )
    object_lock: Literal["none", "unlocked", "locked"] = Field(
        "none", description="keep every object for object_lock_days; the bucket must allow object retention"
    )
    event_based_hold: bool = Field(False, description="hold every object until the hold is released by hand")

    def model_post_init(self, context: object, /) -> None:
        """Refuse settings that contradict each other."""
        super().model_post_init(context)
        if self.credentials_file is not None and self.credentials_json is not None:
            raise ValueError("credentials_file and credentials_json exclude each other")
        if self.sends_no_credentials and (self.credentials_file is not None or self.credentials_json is not None):
            raise ValueError("credentials are not sent with anonymous, nor over http://")

    @property
    def sends_no_credentials(self) -> bool:
        """Whether requests are anonymous; a token never travels unencrypted."""
        return self.anonymous or (self.endpoint or "").startswith("http://")

    @property
    def url(self) -> str:
        """The URL of bucket and prefix."""
        return f"gs://{self.bucket}/{self.prefix}".rstrip("/")


_EXAMPLE = "gs://bucket/prefix?project=name"
_HINT = (
    "Give credentials with GOOGLE_APPLICATION_CREDENTIALS, with ?credentials_file=, or in the settings: "
    'credentials_json = { env = "NAME" } or { command = ["…"] }.'
)


def settings_from_url(url: str) -> dict[str, Any]:
    """`gs://bucket/prefix?endpoint=https://host&project=…` as keyword arguments of `GcsSettings`.

    The query may hold any setting but credentials. Raises `UsageError`, which does not repeat the URL.
    """
    parts = split_url(url, scheme="gs", names="a bucket", example=_EXAMPLE, hint=_HINT)
    settings: dict[str, Any] = {"bucket": parts.netloc}
    if prefix := unquote(parts.path).strip("/"):
        settings["prefix"] = prefix
    return settings_of_query(parts, settings, model=GcsSettings, credentials=_CREDENTIALS, hint=_HINT)
