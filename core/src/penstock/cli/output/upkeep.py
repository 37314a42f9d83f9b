"""How the commands that look after a repository show their documents to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import amount, count, moment
from penstock.cli.output.views import check

__all__ = ["maintain", "prune"]

Document = Mapping[str, Any]


def prune(document: Document) -> Iterator[str]:
    """`prune`: what was freed and what will be, domain by domain."""
    would = document["dry_run"]
    several = len(document["domains"]) > 1
    for label, one in document["domains"].items():
        before = f"{label}: " if several else ""
        deleted = f"{count(one['deleted'], 'object')}, {amount(one['deleted_size'])}"
        yield f"{before}{'Would delete' if would else 'Deleted'} {deleted}; {count(one['snapshots'], 'snapshot')} kept."
        if one["compacted"]:
            packs = f"{count(one['compacted'], 'pack')}, {amount(one['compacted_size'])}"
            what = f", of which {amount(one['copied'])} were copied" if not would else ""
            yield f"  {'Would compact' if would else 'Compacted'} {packs}{what}."
        if one["due"]:
            doomed = f"{count(one['doomed'], 'dead object')}, {amount(one['doomed_size'])}"
            yield f"  {doomed}, {'would be' if would else 'will be'} deleted by a run after {moment(one['due'])} UTC."
        for wait in one["waiting"]:
            yield f"  What was found dead before waits until {moment(wait['until'])} UTC or later: {wait['reason']}."
        if one["locked"]:
            yield f"  Locked: {count(one['locked'], 'object')}, until {moment(one['locked_until'])} UTC."
        if one["left"]:
            left = f"{count(one['left'], 'object')}, {amount(one['left_size'])}"
            yield f"  The limit was reached: {left} left for the next run."


def maintain(document: Document) -> Iterator[str]:
    """`maintain`: what was checked, forgotten and freed."""
    yield from check(document["check"])
    plan = document["forget"]
    if plan is not None:
        yield f"Forgotten: {count(plan['forgotten'], 'snapshot')}; kept: {plan['kept']}."
    elif document["prune"] is not None:
        yield "Nothing is forgotten: no keep in the settings says what stays."
    if document["prune"] is not None:
        yield from prune(document["prune"])
