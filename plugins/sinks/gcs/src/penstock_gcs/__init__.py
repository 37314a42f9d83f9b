"""Google Cloud Storage as a sink of Penstock."""

from penstock_gcs.settings import GcsSettings
from penstock_gcs.sink import GcsSink

__all__ = ["GcsSettings", "GcsSink"]
