"""What Penstock finds through the entry point. Importing it must stay cheap: no driver is loaded here."""

from collections.abc import Iterable

from penstock.api import Source, hookimpl
from penstock_mongodb.source import MongoSource


@hookimpl
def penstock_register_source() -> Iterable[type[Source]]:
    """The one source of this plugin."""
    return (MongoSource,)
