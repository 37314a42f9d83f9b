"""How the commands about what is kept show their documents to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output import upkeep
from penstock.cli.output.units import age, amount, count, moment, printable, table

__all__ = ["forget", "forgotten", "given_up", "marked", "undeleted"]

_SHORT_ID = 8

Document = Mapping[str, Any]


def forget(document: Document) -> Iterator[str]:
    """`forget`: each snapshot with its reasons, and what happens; with `--prune`, what was freed."""
    yield from _plan(document)
    if "prune" in document:
        yield from upkeep.prune(document["prune"])


def _plan(document: Document) -> Iterator[str]:
    if not document["snapshots"]:
        yield "No snapshots."
        return
    rows = [
        (
            one["id"][:_SHORT_ID],
            one["backup"],
            one["domain"],
            moment(one["finished"]),
            "keep" if one["kept"] else "forget",
            _why(one),
        )
        for one in document["snapshots"]
    ]
    yield from table(("ID", "BACKUP", "DOMAIN", "FINISHED (UTC)", "", "REASONS"), rows)
    becomes = "forgotten" if document["applied"] else "to forget"
    kept = f"{count(document['kept'], 'snapshot')} kept; " if document["kept"] else ""
    yield f"{kept}{count(document['forgotten'], 'snapshot')} {becomes}."
    if document["forgotten"]:
        it = "it" if document["forgotten"] == 1 else "them"
        yield (
            f"Until a prune sweeps {it}, penstock undelete takes {it} back."
            if document["applied"]
            else "Nothing is forgotten yet: run it again with --apply."
        )


def given_up(document: Document) -> Iterator[str]:
    """`forget --unreadable` and `--gone`: the objects, and what is wrong with them."""
    for one in document["unreadable"]:
        yield printable(f"{one['id']} in {one['domain']}: {one['problem']}")
    for one in document["gone"]:
        yield printable(f"{one['id'] or 'a head that is gone'} in {one['domain']}: {one['problem']}")
    if not document["unreadable"] and not document["gone"]:
        yield "No head is gone that others name."
    elif not document["unreadable"]:
        yield "Given up: nobody misses it." if document["applied"] else "Nothing is given up yet: add --apply."
    elif document["applied"]:
        yield "Forgotten: a prune deletes what only they needed, whatever that was."
    else:
        yield "Nothing is forgotten yet: run it again with --apply. What only they needed is lost then."


def _why(one: Document) -> str:
    counts = [f"does not count: {one['not_counted']}"] if one["not_counted"] else []
    return ", ".join([*one["reasons"], *counts])


def marked(document: Document) -> Iterator[str]:
    """`tag` and `hold`: what a snapshot has now."""
    yield f"Snapshot {document['id'][:_SHORT_ID]} of {printable(document['backup'])}, {age(document['finished'])} old"
    yield f"  tags: {printable(', '.join(document['tags'])) or 'none'}"
    if not document["holds"]:
        yield "  holds: none"
    for hold in document["holds"]:
        yield printable(f"  held since {hold['made'][:10]} by {hold['by']}: {hold['reason']}")


def undeleted(document: Document) -> Iterator[str]:
    """`undelete`: what is listed again."""
    for one in document["snapshots"]:
        yield f"Snapshot {one['id'][:_SHORT_ID]} of {printable(one['backup'])} is listed again."


def forgotten(document: Document) -> Iterator[str]:
    """`snapshots --forgotten`: what can be taken back."""
    if not document["snapshots"]:
        yield "No forgotten snapshots."
        return
    yield from table(
        ("ID", "BACKUP", "DOMAIN", "FINISHED (UTC)", "SIZE"),
        [
            (one["id"][:_SHORT_ID], one["backup"], one["domain"], moment(one["finished"]), amount(one["size"]))
            for one in document["snapshots"]
        ],
        right=(4,),
    )
    yield "Until a prune sweeps them, penstock undelete takes them back."
