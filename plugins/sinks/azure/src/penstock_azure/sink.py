"""A container of Azure Blob Storage, or a part of one, as a sink: each object is one Put Blob."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.api import PolicyText, Rights
from penstock.api.object_store import ObjectStoreSink
from penstock_azure.policy import policy_of
from penstock_azure.settings import AzureSettings, settings_from_url

if TYPE_CHECKING:
    from penstock_azure.store import AzureStore

__all__ = ["AzureSink"]


class AzureSink(ObjectStoreSink["AzureStore"]):
    """Keeps each object under its key, below the prefix, in a container of Azure Blob Storage.

    Nothing is imported, and no connection made, before the first call. One pool of connections serves all threads.
    Each call has one total deadline over all its attempts. A put carries an MD5 that the service compares.
    """

    name = "azure"
    schemes = ("azure",)
    Settings = AzureSettings

    settings: AzureSettings

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`azure://account/container/prefix?endpoint=https://host` as settings. Raises `UsageError`."""
        return settings_from_url(url)

    def connect(self) -> "AzureStore":
        """Import the libraries."""
        from penstock_azure.store import AzureStore

        return AzureStore(self.settings)

    def policy(self, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
        """A custom role, its condition, a signature instead, and what they cannot do."""
        return policy_of(self.settings, rights)
