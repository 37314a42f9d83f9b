"""The only surface that plugins import. Everything here is public and versioned by `API_VERSION`."""

from penstock.api import errors
from penstock.api.errors import *  # noqa: F403 - the error tree is the surface
from penstock.api.events import Event, EventKind, Report
from penstock.api.hooks import hookimpl
from penstock.api.models import DumpPlan, Inspection, InventoryItem, ObjectInfo, RestoreTarget, StreamSpec
from penstock.api.object_store import (
    ObjectStore,
    ObjectStoreSettings,
    ObjectStoreSink,
    content_range,
    settings_of_query,
    split_url,
)
from penstock.api.options import RestoreOptions
from penstock.api.plugin import API_VERSION, Capability, Plugin, PluginSettings
from penstock.api.process import ChildInput, ChildOutput, ChildSession, env_for_child, private_file, run_child
from penstock.api.retry import Deadline, drain, retry_after, retrying
from penstock.api.secrets import Secret, SecretRef
from penstock.api.sink import Sink, validate_key, validate_prefix
from penstock.api.source import Dump, DumpStream, Restore, Source
from penstock.api.stopping import NEVER, StopToken

__all__ = [
    "API_VERSION",
    "Capability",
    "ChildInput",
    "ChildOutput",
    "ChildSession",
    "Deadline",
    "Dump",
    "DumpPlan",
    "DumpStream",
    "Event",
    "EventKind",
    "Inspection",
    "InventoryItem",
    "NEVER",
    "ObjectInfo",
    "ObjectStore",
    "ObjectStoreSettings",
    "ObjectStoreSink",
    "Plugin",
    "PluginSettings",
    "Report",
    "Restore",
    "RestoreOptions",
    "RestoreTarget",
    "Secret",
    "SecretRef",
    "Sink",
    "Source",
    "StopToken",
    "StreamSpec",
    "content_range",
    "drain",
    "env_for_child",
    "hookimpl",
    "private_file",
    "retry_after",
    "retrying",
    "run_child",
    "settings_of_query",
    "split_url",
    "validate_key",
    "validate_prefix",
]
__all__ += errors.__all__
