"""Diff: what changed between two snapshots, from their manifests and recipes alone: no pack is read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from penstock.engine.reported import inspection_of
from penstock.engine.reporting import Listener, reporting
from penstock.format.manifest import Manifest
from penstock.format.sealing import Sealer
from penstock.repository import SnapshotEntry
from penstock.repository.pool import Workers
from penstock.repository.read.content import Content
from penstock.repository.read.differences import Difference, Differences
from penstock.repository.read.once import Once
from penstock.repository.sessions import data_sealer

__all__ = ["Diff", "Item", "ItemChange", "StreamChange", "compare", "diff", "opened"]

#: Data keys that are kept: one for each run that stored recipes.
_SEALERS = 64
#: A stream of fewer bytes is some chunks, which one change or two touch all.
_LARGE = 1024 * 1024
APPEARED, GONE, CHANGED = "appeared", "gone", "changed"


@dataclass(frozen=True, slots=True)
class Item:
    """The figures of a table, or the like, in one snapshot: None where the source did not tell. `size` in bytes.

    `exact` says whether `rows` was counted, and is no estimate.
    """

    rows: int | None
    exact: bool
    size: int | None

    def to_json(self) -> dict[str, Any]:
        """As in the inventory that `penstock show` has."""
        return {"rows": self.rows, "exact": self.exact, "size": self.size}

    def is_like(self, other: "Item") -> bool:
        """Whether the figures are the same; what they count may have changed."""
        return (self.rows, self.size) == (other.rows, other.size)


@dataclass(frozen=True, slots=True)
class ItemChange:
    """An item of the inventory that is not in both snapshots, or with other figures."""

    kind: str
    name: str
    before: Item | None
    after: Item | None

    @property
    def change(self) -> str:
        """In a word."""
        return _word(self.before, self.after)

    def to_json(self) -> dict[str, Any]:
        """An entry of `items`."""
        return {
            "kind": self.kind,
            "name": self.name,
            "change": self.change,
            "before": self.before and self.before.to_json(),
            "after": self.after and self.after.to_json(),
        }


@dataclass(frozen=True, slots=True)
class StreamChange:
    """A stream that is not in both snapshots, or with other bytes. Sizes in bytes, None where it is not."""

    name: str
    before: int | None
    after: int | None
    difference: Difference

    @property
    def change(self) -> str:
        """In a word."""
        return _word(self.before, self.after)

    @property
    def shares_nothing(self) -> bool:
        """Whether it was either changed all over or stored anew in between; of a small one nobody knows."""
        return min(self.before or 0, self.after or 0) >= _LARGE and self.difference.new == self.after

    def to_json(self) -> dict[str, Any]:
        """An entry of `streams`."""
        return {
            "name": self.name,
            "change": self.change,
            "size_before": self.before,
            "size_after": self.after,
            "new": self.difference.new,
            "gone": self.difference.gone,
        }


@dataclass(frozen=True, slots=True)
class Diff:
    """What is not alike in two snapshots, and how many items and streams are; `notes` are sentences for people."""

    before: SnapshotEntry
    after: SnapshotEntry
    notes: tuple[str, ...]
    items: tuple[ItemChange, ...]
    items_alike: int
    streams: tuple[StreamChange, ...]
    streams_alike: int

    def summary(self) -> dict[str, Any]:
        """How many items of each kind, and streams, changed, appeared and are gone; bytes that are new, and gone."""
        kinds = sorted({one.kind for one in self.items})
        return {
            "snapshot": self.before.id.hex(),
            "items": {kind: _counted(one for one in self.items if one.kind == kind) for kind in kinds},
            "streams": _counted(self.streams),
            "new": sum(one.difference.new for one in self.streams),
            "gone": sum(one.difference.gone for one in self.streams),
        }

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock diff`."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "notes": list(self.notes),
            "items": [one.to_json() for one in self.items],
            "streams": [one.to_json() for one in self.streams],
            "alike": {"items": self.items_alike, "streams": self.streams_alike},
            "summary": self.summary(),
        }


def diff(before: SnapshotEntry, after: SnapshotEntry, *, listener: Listener) -> Diff:
    """What became of `before` until `after`; they may be of any backups that one owner reads.

    Raises `RoleForbids` for other keys, and `DamagedObject` or `MissingObject` for a manifest or a recipe that is
    not what was written.
    """
    sink = after.domain.sink
    for entry in (before, after):
        entry.domain.access.require_owner("comparing snapshots")
    with (
        reporting(listener, "diff", sink.location, sink) as reporter,
        Workers(1, "penstock-diff", sink.stop) as workers,
        opened(before, workers) as old,
        opened(after, workers) as new,
    ):
        reporter.phase("comparing", total=after.head.size)
        found = compare(old, new, workers, on_stream=reporter.progress)
        summary = found.summary()
        reporter.completed("compared", {"new": summary["new"], "gone": summary["gone"]})
    return found


@contextmanager
def opened(entry: SnapshotEntry, workers: Workers) -> Iterator[Content]:
    """What a snapshot is made of, for the length of the block. Raises as `diff` does."""
    sealers: Once[tuple[bytes, bytes], Sealer] = Once(lambda one: data_sealer(entry.domain, *one), kept=_SEALERS)
    content = workers.call(Content, entry, lambda *session: sealers(session))
    try:
        yield content
    finally:
        content.table.close()


def compare(
    before: Content,
    after: Content,
    workers: Workers,
    *,
    most: int | None = None,
    on_stream: Callable[[str, int], object] = lambda *_: None,
) -> Diff:
    """As `diff`; `on_stream` hears of the stream at hand, and how many of its bytes were compared so far.

    With `most`, it raises `TooMany` if streams are made of more extents than that.
    """
    streams: list[StreamChange] = []
    alike = 0
    known = {record.name: record for record in before.manifest.streams}
    with closing(Differences(before, after, most)) as differences:
        for record in after.manifest.streams:
            earlier = known.pop(record.name, None)
            if earlier is not None and (earlier.size, earlier.digest) == (record.size, record.digest):
                alike += 1
            elif earlier is not None:
                on_bytes = partial(on_stream, record.name)
                found = workers.call(differences.of, earlier, record, on_bytes=on_bytes)
                streams.append(StreamChange(record.name, earlier.size, record.size, found))
            else:
                streams.append(StreamChange(record.name, None, record.size, Difference(record.size, 0)))
            on_stream(record.name, record.size)
    streams += (StreamChange(one.name, one.size, None, Difference(0, one.size)) for one in known.values())
    items, items_alike = _items(_inventory(before.manifest), _inventory(after.manifest))
    notes = (
        *_about(before.entry, after.entry),
        *_about_servers(before.manifest, after.manifest),
        *_about_streams(streams),
    )
    return Diff(before.entry, after.entry, notes, tuple(items), items_alike, tuple(streams), alike)


def _inventory(manifest: Manifest) -> dict[tuple[str, str], Item]:
    return {
        (one["kind"], one["name"]): Item(one["rows"], one["exact"], one["size"])
        for one in inspection_of(manifest)["inventory"]
    }


def _items(
    before: Mapping[tuple[str, str], Item], after: Mapping[tuple[str, str], Item]
) -> tuple[list[ItemChange], int]:
    """What is not alike, in the order of kinds and names, and how many are."""
    changes = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None or new is None or not old.is_like(new):
            changes.append(ItemChange(*key, old, new))
    return changes, len(before.keys() | after.keys()) - len(changes)


def _word(before: object, after: object) -> str:
    if before is None:
        return APPEARED
    return GONE if after is None else CHANGED


def _counted(changes: Iterable[ItemChange | StreamChange]) -> dict[str, int]:
    counts = Counter(one.change for one in changes)
    return {word: counts[word] for word in (CHANGED, APPEARED, GONE)}


def _about(before: SnapshotEntry, after: SnapshotEntry) -> Iterator[str]:
    if after.time < before.time:
        yield "The second snapshot is older than the first: what is told as new is what went since."
    one, other = before.head, after.head
    if one.source != other.source:
        yield f"They are of two kinds of databases: {one.source} and {other.source}."
    if one.backup != other.backup:
        yield f"They are of two backups: {one.backup} and {other.backup}."
    if before.domain.id != after.domain.id:
        yield (
            f"They are of two domains, which share nothing: {before.domain.label} and {after.domain.label}. "
            "A stream that is not the same counts as a whole."
        )


def _about_servers(before: Manifest, after: Manifest) -> Iterator[str]:
    one, other = (inspection_of(manifest)["server_version"] for manifest in (before, after))
    if one != other:
        yield f"The server was {one or 'of an unknown version'}, and became {other or 'one of an unknown version'}."


def _about_streams(streams: Iterable[StreamChange]) -> Iterator[str]:
    whole = [one.name for one in streams if one.shares_nothing]
    if whole:
        names = whole[0] if len(whole) == 1 else f"{whole[0]} and {len(whole) - 1} more"
        yield f"Stored anew or changed all over, so that nobody can tell how much of it changed: {names}."
