"""What the entry point names: registers the sink."""

from penstock.api import Sink, hookimpl
from penstock_filesystem.sink import FilesystemSink

__all__ = ["penstock_register_sink"]


@hookimpl
def penstock_register_sink() -> list[type[Sink]]:
    """The one sink of this distribution."""
    return [FilesystemSink]
