"""S3 and compatible object stores as a sink of Penstock."""

from penstock_s3.settings import S3Settings
from penstock_s3.sink import S3Sink

__all__ = ["S3Settings", "S3Sink"]
