"""How `stats` shows its document to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import amount, count, printable, table

__all__ = ["stats"]

#: Nights that are shown; the document has all.
_NIGHTS = 14

Document = Mapping[str, Any]


def stats(document: Document) -> Iterator[str]:
    """`stats`: backups, the last nights, kinds of objects, ratios, and what is dead."""
    if not document["backups"]:
        yield "No snapshots yet."
    else:
        yield from _backups(document)
        yield ""
        yield from _nights(document["nights"])
    yield ""
    yield from table(
        ("OBJECTS", "NUMBER", "STORED"),
        [
            *((kind, f"{one['count']:,}", amount(one["size"])) for kind, one in document["objects"].items()),
            ("all", f"{document['stored']['count']:,}", amount(document["stored"]["size"])),
        ],
        right=(1, 2),
    )
    yield ""
    if document["plain"]:
        yield (
            f"Deduplication {_ratio(document['deduplication'])}, from {amount(document['size'])} of dumps to "
            f"{amount(document['plain'])}; compression {_ratio(document['compression'])}, to "
            f"{amount(document['sealed'])}."
        )
    yield from _dead(document["domains"])


def _backups(document: Document) -> Iterator[str]:
    rows = [
        (
            one["backup"],
            one["domain"],
            f"{one['snapshots']:,}",
            amount(one["size"]),
            amount(one["own"]),
            amount(one["shared"]),
        )
        for one in document["backups"]
    ]
    yield from table(("BACKUP", "DOMAIN", "SNAPSHOTS", "DUMPS", "STORED ALONE", "SHARED"), rows, right=(2, 3, 4, 5))


def _nights(nights: list[Document]) -> Iterator[str]:
    shown = nights[-_NIGHTS:]
    if len(shown) < len(nights):
        yield f"The last {len(shown)} of {len(nights)} days:"
    rows = [
        (
            one["day"],
            f"{one['snapshots']:,}",
            amount(one["size"]),
            amount(one["stored"]),
            amount(one["lasting"]),
        )
        for one in shown
    ]
    yield from table(("DAY (UTC)", "SNAPSHOTS", "DUMPS", "STORED", "STILL NEEDED"), rows, right=(1, 2, 3, 4))


def _dead(domains: Mapping[str, Document]) -> Iterator[str]:
    for label, one in domains.items():
        before = f"{printable(label)}: " if len(domains) > 1 else ""
        if one["dead"] is None:
            yield f"{before}A prune frees nothing before {count(one['unreadable'], 'snapshot')} can be read."
            continue
        dead = one["dead"]
        yield f"{before}A prune would free {count(dead['count'], 'object')}, {amount(dead['size'])}."
        if one["dead_in_packs"]:
            yield f"  Dead in packs that are needed: {amount(one['dead_in_packs'])}."


def _ratio(ratio: float) -> str:
    return f"{ratio:.1f} : 1"
