"""How `replicate` shows its document to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import Prose, amount, count, printable

__all__ = ["replicated"]

_SHORT_ID = 8

Document = Mapping[str, Any]


def replicated(document: Document) -> Iterator[str]:
    """`replicate`: a line for each replica, and what it lacks."""
    for one in document["targets"]:
        if "copied" not in one:
            yield Prose(f"{printable(one['name'])}: failed: {printable(one['error']['message'])}")
            continue
        copied = (
            f"copied {count(len(one['copied']), 'snapshot')} ({count(one['objects'], 'object')}, "
            f"{amount(one['bytes'])}), {one['there']} there before"
        )
        forgotten = f", {one['forgotten']} forgotten there" if one["forgotten"] else ""
        yield Prose(f"{printable(one['location'])}: {copied}{forgotten}")
        for lost in one["left_out"]:
            which = f"{lost['snapshot'][:_SHORT_ID]} of {printable(lost['backup'])}"
            yield f"  left out: {which}: {printable(lost['reason'])}"
        for finding in one["damaged"]:
            yield f"  not copied: {printable(finding['key'])}: {printable(finding['problem'])}"
