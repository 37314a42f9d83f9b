"""Azure Blob Storage as a sink of Penstock."""

from penstock_azure.settings import AzureSettings
from penstock_azure.sink import AzureSink

__all__ = ["AzureSettings", "AzureSink"]
