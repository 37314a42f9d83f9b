"""What the entry point names: registers the sink."""

from penstock.api import Sink, hookimpl
from penstock_webdav.sink import WebDavSink


@hookimpl
def penstock_register_sink() -> list[type[Sink]]:
    """The one sink of this plugin."""
    return [WebDavSink]
