"""A bucket of Google Cloud Storage, or a part of one, as a sink: each object is one request."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.api import PolicyText, Rights
from penstock.api.object_store import ObjectStoreSink
from penstock_gcs.policy import policy_of
from penstock_gcs.settings import GcsSettings, settings_from_url

if TYPE_CHECKING:
    from penstock_gcs.store import GcsStore

__all__ = ["GcsSink"]


class GcsSink(ObjectStoreSink["GcsStore"]):
    """Keeps each object under its key, below the prefix, in a bucket of Google Cloud Storage.

    Nothing is imported, and no connection made, before the first call. One pool of connections serves all threads.
    Each call has one total deadline over all its attempts. A put carries a CRC32C that the service compares.
    """

    name = "gcs"
    schemes = ("gs",)
    Settings = GcsSettings

    settings: GcsSettings

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`gs://bucket/prefix?endpoint=https://host&project=…` as settings. Raises `UsageError`."""
        return settings_from_url(url)

    def connect(self) -> "GcsStore":
        """Import the libraries."""
        from penstock_gcs.store import GcsStore

        return GcsStore(self.settings)

    def policy(self, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
        """Custom roles, their bindings, and what neither can do."""
        return policy_of(self.settings, rights)
