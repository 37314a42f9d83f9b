"""What the entry point names: registers the source."""

from penstock.api import Source, hookimpl
from penstock_redis.source import RedisSource


@hookimpl
def penstock_register_source() -> list[type[Source]]:
    """The one source of this plugin."""
    return [RedisSource]
