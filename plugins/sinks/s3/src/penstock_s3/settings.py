"""The settings of an S3 sink, and the URLs that stand for them."""

from typing import Any, ClassVar, Literal
from urllib.parse import unquote

from pydantic import Field, field_validator

from penstock.api import SecretRef
from penstock.api.object_store import ObjectStoreSettings, settings_of_query, split_url

__all__ = ["S3Settings", "settings_from_url"]

#: Never in a URL, which everyone on the host can read.
_CREDENTIALS = ("access_key_id", "secret_access_key", "session_token")
#: Such objects must be restored before they can be read, and every backup reads some.
_FROZEN = ("GLACIER", "DEEP_ARCHIVE")


class S3Settings(ObjectStoreSettings):
    """The bucket, the credentials, and how objects are kept.

    Without `access_key_id` the credentials are found as the AWS tools find them: environment variables, `profile` or
    the default one in `~/.aws`, single sign-on, web identity, or the role of the container or machine.
    """

    #: The last ones are those of boto3 and of its configuration files.
    former: ClassVar[dict[str, str]] = {
        **ObjectStoreSettings.former,
        "kms_key_id": "kms_key",
        "addressing_style": "addressing",
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "endpoint_url": "endpoint",
        "max_pool_connections": "connections",
        "region_name": "region",
    }

    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$", description="the bucket's name; it must exist")
    region: str | None = Field(None, pattern=r"^[A-Za-z0-9-]+$", description="the bucket's region: eu-central-1")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="the bucket's place in addresses: in the path (as auto does for endpoints), or in the host"
    )

    access_key_id: str | None = Field(None, min_length=1, description="goes with secret_access_key")
    secret_access_key: SecretRef | None = None
    session_token: SecretRef | None = None
    profile: str | None = Field(None, min_length=1, description="a section of ~/.aws/config or ~/.aws/credentials")

    storage_class: str | None = Field(None, pattern=r"^[A-Z0-9_]+$", description="STANDARD_IA, GLACIER_IR, ...")
    sse: Literal["none", "AES256", "aws:kms"] = Field(
        "none", description="ask for encryption by the service, beside Penstock's own; none leaves it to the bucket"
    )
    kms_key: str | None = Field(None, min_length=1, description="the key for sse = aws:kms, if not the default one")
    object_lock: Literal["none", "governance", "compliance"] = Field(
        "none", description="keep every object from deletion for object_lock_days; the bucket must allow it"
    )

    checksums: Literal["auto", "when_required"] = Field(
        "auto", description="CRC32 as AWS does it (auto), or Content-MD5, which old services need (when_required)"
    )
    conditional_put: Literal["auto", "yes", "no"] = Field(
        "auto", description="whether the service knows If-None-Match: find out (auto), or as set here"
    )

    @field_validator("storage_class")
    @classmethod
    def _readable_at_once(cls, value: str | None) -> str | None:
        if value in _FROZEN:
            raise ValueError("its objects cannot be read at once, and each backup reads some; GLACIER_IR can be")
        return value

    def model_post_init(self, context: object, /) -> None:
        """Refuse settings that contradict each other."""
        super().model_post_init(context)
        if (self.access_key_id is None) is not (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token goes with access_key_id and secret_access_key")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("profile and access_key_id exclude each other")
        if self.kms_key is not None and self.sse != "aws:kms":
            raise ValueError("kms_key goes with sse = aws:kms")

    @property
    def url(self) -> str:
        """The URL of bucket and prefix."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


_EXAMPLE = "s3://bucket/prefix?endpoint=https://host:9000&region=eu-central-1"
_HINT = (
    "Give credentials with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with ?profile=, or in the settings: "
    'access_key_id = "…", secret_access_key = { env = "NAME" }, { file = "…" } or { command = ["…"] }.'
)


def settings_from_url(url: str) -> dict[str, Any]:
    """`s3://bucket/prefix?endpoint=https://host&region=…` as keyword arguments of `S3Settings`.

    The query may hold any setting but credentials. Raises `UsageError`, which does not repeat the URL.
    """
    parts = split_url(url, scheme="s3", names="a bucket", example=_EXAMPLE, hint=_HINT)
    settings: dict[str, Any] = {"bucket": parts.netloc}
    if prefix := unquote(parts.path).strip("/"):
        settings["prefix"] = prefix
    return settings_of_query(parts, settings, model=S3Settings, credentials=_CREDENTIALS, hint=_HINT)
