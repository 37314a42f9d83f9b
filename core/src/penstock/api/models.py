"""Plain values that cross the border between the core and its plugins. All frozen, all picklable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

__all__ = ["DumpPlan", "Inspection", "InventoryItem", "ObjectInfo", "RestoreTarget", "StreamSpec"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a sink tells of one object: its key, its size in bytes and, where known, when it was written (UTC)."""

    key: str
    size: int
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class InventoryItem:
    """One thing that a database holds, for people to read: a table, a collection, a large-object store.

    `rows` and `size` (bytes) are None where the engine does not tell; `exact` says whether `rows` was counted under
    the dump's own view (True) or comes from the engine's statistics (False).
    """

    kind: str
    name: str
    rows: int | None = None
    size: int | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream of a dump, as plain data.

    `name` is unique within the dump and path-like (`accounts.sql`, `db/shop.dump`); `format` names the bytes
    (`pg_dump-custom`, `sql`, `sqlite`); `phase` orders a restore: phases run in ascending order, and the streams
    of one phase may run in parallel. `attributes` is the plugin's own and comes back to it at restore; it is sealed
    in the manifest and must hold no secret. `optional` streams may be left out at restore without loss of data.
    """

    name: str
    format: str
    phase: int = 0
    size_estimate: int | None = None
    optional: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a source found without dumping: engine, versions, an estimate of the dump, inventory and warnings."""

    engine: str
    server_version: str
    client_version: str
    #: Bytes that the dump is expected to have, from the engine's statistics; None where there are none.
    size_estimate: int | None
    inventory: tuple[InventoryItem, ...] = ()
    warnings: tuple[str, ...] = ()
    #: What `inspect` says of the plan that a dump would have; the streams' attributes may be missing here.
    streams: tuple[StreamSpec, ...] = ()
    consistency: str = ""


@dataclass(frozen=True, slots=True)
class DumpPlan:
    """What one dump consists of: its streams, and the view of the database that they share."""

    inspection: Inspection
    streams: tuple[StreamSpec, ...]
    #: How the streams belong together, for people to read: "one transaction snapshot", "point in time", "none".
    consistency: str


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """How to restore; where to is the source's own settings.

    `clean` allows what is in the way to be dropped first. `options` are the plugin's own words (`owners=no`), each
    documented by it; an unknown one is a `UsageError`.
    """

    clean: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
