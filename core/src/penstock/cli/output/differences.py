"""How what changed between two snapshots is shown to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import Prose, amount, count, moment, printable, rows, table

__all__ = ["diff", "summed_up"]

_SHORT_ID = 8
#: What a sentence counts, if any of them changed; else all that is in an inventory.
_TABLES = ("table", "collection")

Document = Mapping[str, Any]


def diff(document: Document) -> Iterator[str]:
    """`diff`: which two, what to know of them, what changed in the inventory and in the streams, and the sum."""
    for word, one in (("from", document["before"]), ("to", document["after"])):
        about = f"{one['domain']}/{one['backup']}, {moment(one['finished'])} UTC, {amount(one['size'])}"
        yield f"{word + ':':<6}{one['id'][:_SHORT_ID]}  {printable(about)}"
    for note in document["notes"]:
        yield Prose(f"note: {printable(note)}")
    if document["items"]:
        yield ""
        yield from _items(document["items"])
    if document["streams"]:
        yield ""
        yield from _streams(document["streams"])
    yield ""
    yield Prose(f"{_sentence(document['summary'])}.")
    alike = document["alike"]
    yield (
        f"With the same figures: {count(alike['items'], 'object')}. "
        f"With the same bytes: {count(alike['streams'], 'stream')}."
    )


def summed_up(document: Document) -> str:
    """What changed since the snapshot before, in a sentence, of a document of `show`; empty if it is the first."""
    if document["since_unknown"] is not None:
        return f"Since the one before: unknown, {printable(document['since_unknown'])}"
    since = document["since"]
    return f"Since the one before, {since['snapshot'][:_SHORT_ID]}: {_sentence(since)}" if since is not None else ""


def _sentence(summary: Document) -> str:
    kinds = summary["items"]
    kind = next(filter(kinds.__contains__, _TABLES), None)
    chosen = kinds.values() if kind is None else [kinds[kind]]
    changed, appeared, gone = (sum(one[word] for one in chosen) for word in ("changed", "appeared", "gone"))
    return (
        f"{count(changed, kind or 'object')} changed, {appeared:,} appeared, {gone:,} gone, "
        f"{amount(summary['new'])} changed or new"
    )


def _items(items: list[Document]) -> Iterator[str]:
    yield from table(
        ("KIND", "NAME", "", "ROWS BEFORE", "AFTER", "SIZE BEFORE", "AFTER"),
        [
            (
                one["kind"],
                one["name"],
                one["change"],
                *("" if item is None else rows(item["rows"], exact=item["exact"]) for item in _both(one)),
                *("" if item is None or item["size"] is None else amount(item["size"]) for item in _both(one)),
            )
            for one in items
        ],
        right=(3, 4, 5, 6),
    )


def _both(change: Document) -> tuple[Document | None, Document | None]:
    return change["before"], change["after"]


def _streams(streams: list[Document]) -> Iterator[str]:
    yield from table(
        ("STREAM", "", "BYTES BEFORE", "AFTER", "NEW", "GONE"),
        [
            (
                one["name"],
                one["change"],
                *("" if one[when] is None else f"{one[when]:,}" for when in ("size_before", "size_after")),
                f"{one['new']:,}",
                f"{one['gone']:,}",
            )
            for one in streams
        ],
        right=(2, 3, 4, 5),
    )
