"""How the commands about what is kept show their documents to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import age, count, table

__all__ = ["forget", "marked", "undeleted"]

_SHORT_ID = 8

Document = Mapping[str, Any]


def forget(document: Document) -> Iterator[str]:
    """`forget`: each snapshot with its reasons, and what happens."""
    if not document["snapshots"]:
        yield "No snapshots."
        return
    rows = [
        (
            one["id"][:_SHORT_ID],
            one["backup"],
            one["domain"],
            one["finished"][:16].replace("T", " "),
            "keep" if one["kept"] else "forget",
            ", ".join(one["reasons"]),
        )
        for one in document["snapshots"]
    ]
    yield from table(("ID", "BACKUP", "DOMAIN", "FINISHED (UTC)", "", "REASONS"), rows)
    becomes = "forgotten" if document["applied"] else "to forget"
    yield f"{count(document['kept'], 'snapshot')} kept; {count(document['forgotten'], 'snapshot')} {becomes}."
    if document["forgotten"]:
        yield (
            "penstock undelete takes it back, until a prune has swept them."
            if document["applied"]
            else "Nothing is forgotten yet: run it again with --apply."
        )


def marked(document: Document) -> Iterator[str]:
    """`tag`, `hold` and `undelete`: what a snapshot has now."""
    yield f"Snapshot {document['id'][:_SHORT_ID]} of {document['backup']}, {age(document['finished'])} old"
    yield f"  tags: {', '.join(document['tags']) or 'none'}"
    for hold in document["holds"]:
        yield f"  held since {hold['made'][:10]} by {hold['by']}: {hold['reason']}"


def undeleted(document: Document) -> Iterator[str]:
    """`undelete`: what is listed again."""
    for one in document["snapshots"]:
        yield f"Snapshot {one['id'][:_SHORT_ID]} of {one['backup']} is there"
