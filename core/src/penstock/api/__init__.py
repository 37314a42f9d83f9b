"""The only surface that plugins import. Everything here is public and versioned by `API_VERSION`.

The contract is here. What plugins of one kind share, and nobody has to use, is in `penstock.api.servers` (sources of
database servers) and `penstock.api.object_store` (sinks over a network).

`docs/plugin-authors.md` builds a source and a sink with it. `help(penstock.api.Source)`, or that of any other name,
tells what it promises; all names are here, with the first sentence of each:
"""

from penstock.api import errors
from penstock.api._index import index as _index
from penstock.api.attributes import RecordedName, RecordedText, RecordedVersion, StreamAttributes
from penstock.api.checks import Check, WarningSettings, found_by
from penstock.api.errors import *  # noqa: F403 - the error tree is the surface
from penstock.api.errors import say_more
from penstock.api.events import Event, EventKind, Report
from penstock.api.hooks import hookimpl
from penstock.api.models import (
    DumpPlan,
    Inspection,
    InventoryItem,
    LeftOut,
    Need,
    ObjectInfo,
    RestorePlan,
    RestoreStep,
    RestoreTarget,
    StreamOutcome,
    StreamSpec,
)
from penstock.api.options import RestoreOptions
from penstock.api.plugin import API_VERSION, Capability, Plugin, PluginSettings
from penstock.api.process import ChildInput, ChildOutput, ChildSession, env_for_child, filtered, private_file, run_child
from penstock.api.retry import Deadline, drain, retry_after, retrying
from penstock.api.rights import PolicyText, Right, Rights, prefixes_with
from penstock.api.secrets import Secret, SecretRef
from penstock.api.sink import Sink, validate_key, validate_prefix
from penstock.api.source import Dump, DumpStream, Restore, Source
from penstock.api.stopping import NEVER, StopToken

__all__ = [
    "API_VERSION",
    "Capability",
    "Check",
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
    "LeftOut",
    "NEVER",
    "Need",
    "ObjectInfo",
    "Plugin",
    "PluginSettings",
    "PolicyText",
    "RecordedName",
    "RecordedText",
    "RecordedVersion",
    "Report",
    "Restore",
    "RestoreOptions",
    "RestorePlan",
    "RestoreStep",
    "RestoreTarget",
    "Right",
    "Rights",
    "Secret",
    "SecretRef",
    "Sink",
    "Source",
    "StopToken",
    "StreamAttributes",
    "StreamOutcome",
    "StreamSpec",
    "WarningSettings",
    "drain",
    "env_for_child",
    "filtered",
    "found_by",
    "hookimpl",
    "prefixes_with",
    "private_file",
    "retry_after",
    "retrying",
    "run_child",
    "say_more",
    "validate_key",
    "validate_prefix",
]
__all__ += errors.__all__
__doc__ = f"{__doc__}\n{_index(__all__)}\n"


def __dir__() -> list[str]:
    """All but the classes: `help` of this package would show each with all that it inherits, some 7,000 lines."""
    return sorted(name for name, one in globals().items() if not isinstance(one, type))
