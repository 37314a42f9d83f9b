"""The settings of an Azure sink, and the URLs that stand for them."""

from typing import Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field

from penstock.api import SecretRef, UsageError
from penstock.api.object_store import ObjectStoreSettings, settings_of_query, split_url

__all__ = ["AzureSettings", "settings_from_url"]

#: Never in a URL, which everyone on the host can read.
_CREDENTIALS = ("account_key", "sas_token", "connection_string")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class AzureSettings(ObjectStoreSettings):
    """The container, the credentials, and how objects are kept.

    Without `account_key`, `sas_token` and `connection_string`, azure-identity finds the credentials:
    environment variables, workload or managed identity, or the Azure CLI's login.
    """

    former: ClassVar[dict[str, str]] = {
        **ObjectStoreSettings.former,
        "account_name": "account",
        "container_name": "container",
    }

    account: str = Field(pattern=r"^[a-z0-9]{3,24}$", description="the storage account's name")
    container: str = Field(
        min_length=3,
        max_length=63,
        pattern=r"^(?:[a-z0-9]+(?:-[a-z0-9]+)*|\$root)$",
        description="the container's name; it must exist",
    )
    endpoint: str | None = Field(
        None, description="https://host of a private endpoint, another cloud or an emulator (http://host:port/account)"
    )

    account_key: SecretRef | None = None
    sas_token: SecretRef | None = None
    connection_string: SecretRef | None = None

    access_tier: Literal["Hot", "Cool", "Cold"] | None = Field(None, description="none leaves it to the account")
    encryption_scope: str | None = Field(
        None, min_length=1, description="encrypt in this scope, beside Penstock's own encryption"
    )
    object_lock: Literal["none", "unlocked", "locked"] = Field(
        "none", description="an immutability policy of object_lock_days on every blob; the container must allow it"
    )
    legal_hold: bool = Field(False, description="hold every blob until the hold is cleared by hand")

    def model_post_init(self, context: object, /) -> None:
        """Refuse settings that contradict each other."""
        super().model_post_init(context)
        given = [name for name in _CREDENTIALS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.connection_string is not None and self.endpoint is not None:
            raise ValueError("connection_string names the endpoint itself")
        parts = urlsplit(self.address)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and self.account_key is None:
            raise ValueError("tokens are not sent over http://: use https://")

    @property
    def address(self) -> str:
        """The URL of the account, unless a connection string names another."""
        return self.endpoint or f"https://{self.account}.blob.core.windows.net"

    @property
    def url(self) -> str:
        """The URL of account, container and prefix."""
        return f"azure://{self.account}/{self.container}/{self.prefix}".rstrip("/")


_EXAMPLE = "azure://account/container/prefix"
_HINT = (
    'Give credentials in the settings: account_key, sas_token or connection_string = { env = "NAME" }, '
    '{ file = "…" } or { command = ["…"] }; or let azure-identity find them.'
)


def settings_from_url(url: str) -> dict[str, Any]:
    """`azure://account/container/prefix?endpoint=https://host` as keyword arguments of `AzureSettings`.

    The query may hold any setting but credentials. Raises `UsageError`, which does not repeat the URL.
    """
    parts = split_url(url, scheme="azure", names="an account", example=_EXAMPLE, hint=_HINT)
    container, _, prefix = unquote(parts.path).strip("/").partition("/")
    if not container:
        raise UsageError("an azure: URL names an account and a container", hint=f"Write it like {_EXAMPLE}.")
    settings: dict[str, Any] = {"account": parts.netloc, "container": container}
    if prefix := prefix.strip("/"):
        settings["prefix"] = prefix
    # `sig` is the secret part of a SAS, which is written as a query.
    return settings_of_query(parts, settings, model=AzureSettings, credentials=(*_CREDENTIALS, "sig"), hint=_HINT)
