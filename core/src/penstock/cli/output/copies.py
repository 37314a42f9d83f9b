"""How `copy` shows its document to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import Prose, amount, count, duration, moment, printable

__all__ = ["copied"]

_SHORT_ID = 8

Document = Mapping[str, Any]


def copied(document: Document) -> Iterator[str]:
    """`copy`: a line for each snapshot."""
    if not document["copies"]:
        yield "No snapshots yet."
    for one in document["copies"]:
        which = f"{one['snapshot'][:_SHORT_ID]} ({printable(one['backup'])} of {moment(one['finished'])})"
        if one["copy"] is None:
            yield Prose(f"{which}: not copied: {printable(one['error']['message'])}")
        elif one["there"]:
            yield Prose(f"{which}: there already, as {one['copy'][:_SHORT_ID]}")
        else:
            yield Prose(
                f"{which}: copied as {one['copy'][:_SHORT_ID]}, {count(one['streams'], 'stream')}, "
                f"{amount(one['size'])} read, {amount(one['stored'])} stored, {duration(one['seconds'])}"
            )
