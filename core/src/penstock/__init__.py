"""Penstock: database dumps streamed into object storage, deduplicated, compressed, encrypted and proven restorable."""

__version__ = "0.1.0"
