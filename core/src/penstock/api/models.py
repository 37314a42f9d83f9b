"""Plain values passed between the core and its plugins. All frozen, all picklable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

__all__ = [
    "DumpPlan",
    "Inspection",
    "InventoryItem",
    "LeftOut",
    "Need",
    "ObjectInfo",
    "RestorePlan",
    "RestoreStep",
    "RestoreTarget",
    "StreamOutcome",
    "StreamSpec",
]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object in a sink: its key, its size in bytes and, if known, when it was written (UTC)."""

    key: str
    size: int
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class InventoryItem:
    """One item in a database, for people to read: a table, a collection, a large-object store.

    `rows` and `size` (bytes) are None if the engine does not report them; `exact` says whether `rows` was counted
    under the dump's own view (True) or comes from the engine's statistics (False).
    """

    kind: str
    name: str
    rows: int | None = None
    size: int | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream of a dump, as plain data.

    `name` is unique within the dump and path-like (`accounts.sql`, `db/shop.dump`); `format` says what the bytes are
    (`pg_dump-custom`, `sql`, `sqlite`); `phase` orders a restore: phases run in ascending order, and streams of one
    phase may run in parallel. `attributes` belongs to the plugin, which gets it back at restore; it is sealed in the
    manifest and must not contain a secret. `optional` streams can be omitted at restore without loss of data.

    `record_separator` is what ends a row, or whatever changes as a whole, in the bytes of the stream: of two dumps that
    differ in some rows, these rows are stored and little else, since chunks end with rows too. Without one, the core
    cuts where the content says.
    """

    name: str
    format: str
    phase: int = 0
    size_estimate: int | None = None
    optional: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    record_separator: bytes = b""


@dataclass(frozen=True, slots=True)
class StreamOutcome:
    """What only the dump of a stream has shown, for the manifest.

    `attributes` are added to those of the plan's `StreamSpec`; an item of `inventory` takes the place of that of the
    plan with the same kind and name, if there is one. `left_out` is what turned out not to be in the stream, or to be
    in it in a form that no restore takes: more of what `Inspection.left_out` has.
    """

    attributes: Mapping[str, str] = field(default_factory=dict)
    inventory: tuple[InventoryItem, ...] = ()
    left_out: "tuple[LeftOut, ...]" = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a source found without dumping: engine, versions, estimated size, inventory and warnings."""

    engine: str
    server_version: str
    client_version: str
    #: Expected size of the dump in bytes, from the engine's statistics; None without statistics.
    size_estimate: int | None
    inventory: tuple[InventoryItem, ...] = ()
    warnings: tuple[str, ...] = ()
    #: The plan that a dump would have; attributes of the streams may be missing here.
    streams: tuple[StreamSpec, ...] = ()
    consistency: str = ""
    #: What a dump cannot hold though it was asked for, such as a view that does not work. Everything else is backed up,
    #: and the backup ends as `BackedUpInPart`. What the settings leave out does not belong here.
    left_out: "tuple[LeftOut, ...]" = ()


@dataclass(frozen=True, slots=True)
class DumpPlan:
    """The content of one dump: its streams, and their shared view of the database."""

    inspection: Inspection
    streams: tuple[StreamSpec, ...]
    #: How consistent the streams are, for people to read: "one transaction snapshot", "point in time", "none".
    consistency: str


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """How to restore; the source's settings say where to.

    `clean` allows existing data that is in the way to be dropped first. `strict` makes the restore all or nothing: what
    cannot be restored fails it, instead of being left out. `options` are defined and documented by the plugin
    (`owners=no`); an unknown one is a `UsageError`.
    """

    clean: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One object that a dump or a restore leaves out, or that a restore brings back changed.

    `kind` is the engine's word (`view`, `index`, `grant`), `name` is qualified as its users write it, `reason` says why
    in the engine's words. `statement` does it later, in the engine's own language; without one, nothing simple would.
    `lost` is False where nothing is missing afterwards: the target has it already, or does not need it. `database` is
    where the statement belongs. A `secret` statement, such as one with a password, is shown to nobody and
    written to the operator's file alone; no other field may contain a secret.
    """

    kind: str
    name: str
    reason: str
    statement: str = field(default="", repr=False)
    database: str = ""
    lost: bool = True
    secret: bool = False

    def __str__(self) -> str:
        where = f"{self.database}: " if self.database else ""
        return f"{where}{self.kind} {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Need:
    """What a restore needs of its target: a role, an extension, a tablespace, a setting, free space.

    `met` is None where it cannot be known beforehand. One that is not met is no obstacle by itself: what depends on it
    is in `RestorePlan.left_out`, or `note` says what becomes of it.
    """

    kind: str
    name: str
    met: bool | None = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class RestoreStep:
    """One step of a restore, in a few words: `make the database shop and fill it`; `stream` is what it reads."""

    action: str
    stream: str = ""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore will do, found by asking the target, before anything is changed.

    `streams` and `target` are what was asked for; `steps` what will be done, in order; `left_out` what is known to be
    left out; `needs` what it needs of the target; `warnings` what deserves attention, a sentence each.
    """

    streams: tuple[StreamSpec, ...]
    target: RestoreTarget
    steps: tuple[RestoreStep, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    needs: tuple[Need, ...] = ()
    warnings: tuple[str, ...] = ()
