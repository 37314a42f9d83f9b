"""A directory as a sink of Penstock."""

from penstock_filesystem.sink import FilesystemSettings, FilesystemSink

__all__ = ["FilesystemSettings", "FilesystemSink"]
