"""What the entry point names: registers the source. Importing it loads neither `sqlite3` nor any SDK."""

from collections.abc import Iterable

from penstock.api import Source, hookimpl
from penstock_sqlite.source import SqliteSource


@hookimpl
def penstock_register_source() -> Iterable[type[Source]]:
    """The one source of this plugin."""
    return [SqliteSource]
