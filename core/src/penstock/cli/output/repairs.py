"""How `repair` shows its document to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import Prose, amount, count, moment, printable, table

__all__ = ["repaired"]

_SHORT_ID = 8
_HEAD = ("snapshot", "backup", "finished", "stream", "what is wrong")

Document = Mapping[str, Any]


def repaired(document: Document) -> Iterator[str]:
    """`repair`: what was mended, and what is lost."""
    would = document["dry_run"]
    for one in document["mended"]:
        yield f"{'would take' if would else 'took'} {printable(one['key'])} from {printable(one['from'])}"
    mended = f"{count(document['mended_count'], 'object')}, {amount(document['mended_size'])}"
    yield Prose(f"{'Would mend' if would else 'Mended'} {mended}, of {count(document['snapshots'], 'snapshot')}.")
    yield from map(Prose, _packs(document))
    if document["recovered"]:
        yield Prose(f"Whole again: {_ids(document['recovered'])}.")
    if document["waiting"]:
        what = "a prune is about to delete what they need, and a repair behind it brings them back"
        yield Prose(f"Waiting: {_ids(document['waiting'])}: {what}.")
    for head in document["heads"]:
        yield f"{printable(head['key'])}: {printable(head['problem'])}"
    if document["lost"]:
        yield f"Lost: {count(document['lost_count'], 'snapshot')}."
        yield from table(_HEAD, [row for one in document["lost"] for row in _rows(one)])
    elif not document["heads"] and not document["waiting"]:
        yield "No snapshot is lost."
    if document["quick"]:
        yield "The packs' data was not read: without --quick it is."


def _packs(document: Document) -> Iterator[str]:
    would = document["dry_run"]
    if document["indexed"]:
        yield f"{count(document['indexed'], 'pack')} that no index object named: {'would get' if would else 'got'} one."
    if document["unindexed"]:
        what = "the owner's key or a writer's of that domain gives them one"
        yield f"{count(document['unindexed'], 'pack')} that no index object names: {what}."
    if document["distrusted"]:
        what = "backups store anew what they held"
        yield f"{count(document['distrusted'], 'damaged pack')} that nobody has whole: {what}."


def _ids(snapshots: list[str]) -> str:
    return ", ".join(one[:_SHORT_ID] for one in snapshots)


def _rows(one: Document) -> Iterator[tuple[str, ...]]:
    which = (one["snapshot"][:_SHORT_ID], printable(f"{one['domain']}/{one['backup']}"), moment(one["finished"]))
    for lost in one["streams"]:
        yield (*which, "?" if lost["stream"] is None else printable(lost["stream"]), printable(lost["problem"]))
    if left := one["stream_count"] - len(one["streams"]):
        yield (*which, "…", f"{left} more")
