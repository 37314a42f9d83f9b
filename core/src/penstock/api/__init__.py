"""The only surface that plugins import. Everything here is public and versioned by `API_VERSION`.

`docs/plugin-authors.md` builds a source and a sink with it. `help(penstock.api.Source)`, or that of any other name,
tells what it promises; all names are here, with the first sentence of each:
"""

from penstock.api import errors
from penstock.api._index import index as _index
from penstock.api.errors import *  # noqa: F403 - the error tree is the surface
from penstock.api.events import Event, EventKind, Report
from penstock.api.hooks import hookimpl
from penstock.api.models import DumpPlan, Inspection, InventoryItem, ObjectInfo, RestoreTarget, StreamSpec
from penstock.api.object_store import (
    ByteRange,
    ConnectionSettings,
    ObjectStore,
    ObjectStoreSettings,
    ObjectStoreSink,
    Page,
    Refusal,
    Refused,
    RetryingStore,
    Service,
    settings_of_query,
    split_url,
)
from penstock.api.options import RestoreOptions
from penstock.api.plugin import API_VERSION, Capability, Plugin, PluginSettings
from penstock.api.process import ChildInput, ChildOutput, ChildSession, env_for_child, private_file, run_child
from penstock.api.retry import Deadline, drain, retry_after, retrying
from penstock.api.secrets import Secret, SecretRef
from penstock.api.servers import (
    Advice,
    Databases,
    Names,
    Program,
    Renames,
    ServerRestoreOptions,
    ServerSettings,
    ServerUrls,
    TextStream,
    Tls,
    Wish,
    YesNo,
    check_destinations,
    choose_databases,
    find_programs,
    last_held_back,
    listed,
    path_like,
    piped,
    server_location,
    settle,
    whole_text,
)
from penstock.api.sink import Sink, validate_key, validate_prefix
from penstock.api.source import Dump, DumpStream, Restore, Source
from penstock.api.stopping import NEVER, StopToken

__all__ = [
    "API_VERSION",
    "ByteRange",
    "Advice",
    "Capability",
    "ChildInput",
    "ChildOutput",
    "ChildSession",
    "ConnectionSettings",
    "Databases",
    "Deadline",
    "Dump",
    "DumpPlan",
    "DumpStream",
    "Event",
    "EventKind",
    "Inspection",
    "InventoryItem",
    "NEVER",
    "Names",
    "ObjectInfo",
    "ObjectStore",
    "ObjectStoreSettings",
    "ObjectStoreSink",
    "Page",
    "Plugin",
    "PluginSettings",
    "Refusal",
    "Refused",
    "Program",
    "Renames",
    "Report",
    "Restore",
    "RestoreOptions",
    "RestoreTarget",
    "RetryingStore",
    "Secret",
    "SecretRef",
    "Service",
    "ServerRestoreOptions",
    "ServerSettings",
    "ServerUrls",
    "Sink",
    "Source",
    "StopToken",
    "StreamSpec",
    "TextStream",
    "Tls",
    "Wish",
    "YesNo",
    "check_destinations",
    "choose_databases",
    "drain",
    "env_for_child",
    "find_programs",
    "hookimpl",
    "last_held_back",
    "listed",
    "path_like",
    "piped",
    "private_file",
    "retry_after",
    "retrying",
    "run_child",
    "server_location",
    "settings_of_query",
    "settle",
    "split_url",
    "validate_key",
    "validate_prefix",
    "whole_text",
]
__all__ += errors.__all__
__doc__ = f"{__doc__}\n{_index(__all__)}\n"


def __dir__() -> list[str]:
    """All but the classes: `help` of this package would show each with all that it inherits, some 7,000 lines."""
    return sorted(name for name, one in globals().items() if not isinstance(one, type))
