"""What the entry point names: registers the sink. It imports no SDK, and neither does the sink before it is used."""

from penstock.api import Sink, hookimpl
from penstock_gcs.sink import GcsSink

__all__ = ["penstock_register_sink"]


@hookimpl
def penstock_register_sink() -> list[type[Sink]]:
    """The one sink of this distribution."""
    return [GcsSink]
