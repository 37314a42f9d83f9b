"""The steps of the demo as lines for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import amount, count, duration, printable

__all__ = ["demo"]

_SHORT_ID = 8


def demo(document: Mapping[str, Any]) -> Iterator[str]:
    """`demo`: one step, and what it proved."""
    (step, one), *_ = document.items()
    match step:
        case "init":
            yield f"Made a repository with a passphrase, and a writer key, in {printable(one['location'])}"
        case "sample":
            yield f"Made a SQLite database: {count(one['rows'], 'row')}, {amount(one['size'])}"
        case "first_backup" | "second_backup":
            yield (
                f"Backup {one['snapshot'][:_SHORT_ID]}: {amount(one['read'])} read, {amount(one['stored'])} stored "
                f"({100 * one['stored'] / one['read']:.1f} %) in {duration(one['seconds'])}"
            )
        case "change":
            yield f"Changed 1 % of the rows: {one['updated']:,} recent ones updated, {one['inserted']:,} added"
        case "writer_cannot_read":
            yield "Proved: both snapshots are listed, and the writer key cannot restore them"
        case "restore_first" | "restore_second":
            yield (
                f"Proved: {one['snapshot'][:_SHORT_ID]} restored in {duration(one['seconds'])} with the passphrase; "
                f"{count(one['rows'], 'row')} equal, and {one['size']:,} bytes identical"
            )
        case "check":
            packs, segments = count(one["packs"], "pack"), count(one["segments"], "segment")
            yield f"Proved: the check opened all of {packs} and {segments} ({amount(one['read'])}) and found no damage"
        case "damage":
            yield f"Proved: with bit {one['bit']:,} of {one['key']} flipped,"
            yield f"        the check names that pack ({printable(one['problem'])}), and a restore refuses to begin"
        case _:
            yield f"All of it held, in {duration(one['seconds'])}."
