"""How the commands about the settings show their documents to people."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.cli.output.units import amount, count, printable, table

__all__ = ["config", "config_check"]

Document = Mapping[str, Any]


def config_check(document: Document) -> Iterator[str]:
    """`config check`."""
    repositories = count(len(document["repositories"]), "repository", "repositories")
    yield f"{printable(document['file'])} is valid: {repositories}, {count(len(document['backups']), 'backup')}."


def config(document: Document) -> Iterator[str]:
    """`config show`."""
    yield f"settings:     {printable(document['file'] or 'no file: all defaults')}"
    yield f"memory:       {amount(document['memory'])}"
    yield f"jobs:         {document['jobs']}, {document['executor']}"
    yield f"compression:  {document['compression']}"
    yield f"cache:        {printable(document['cache'] or 'none: this user has no home')}"
    yield f"keep:         {_kept(document)}"
    yield f"renew every:  {document['renew_every'] or 'never'}"
    yield f"check within: {document['check_within']}"
    yield from (f"{name + ':':<13} {limit}" for name, limit in _limits(document))
    if document["repositories"]:
        yield ""
        yield from table(
            ("REPOSITORY", "TYPE", "LOCATION", "KEY", "PASSPHRASE", "CHECKED WITHIN", "LIMITS"),
            [
                (
                    one["name"],
                    one["type"],
                    one["location"],
                    one["key"] or "",
                    one["passphrase"] or "",
                    one["check_within"],
                    ", ".join(f"{name} {limit}" for name, limit in _limits(one)),
                )
                for one in document["repositories"]
            ],
        )
    if document["backups"]:
        yield ""
        yield from table(
            ("BACKUP", "TYPE", "LOCATION", "REPOSITORY", "MEMORY", "JOBS", "COMPRESSION", "KEEP", "RENEWED EVERY"),
            [
                (
                    one["name"],
                    one["type"],
                    one["location"],
                    one["repository"],
                    amount(one["memory"]),
                    str(one["jobs"]),
                    str(one["compression"]),
                    _kept(one),
                    one["renew_every"] or "",
                )
                for one in document["backups"]
            ],
        )


def _kept(document: Document) -> str:
    """The rules of `keep`, and whose days they go by where they go by any."""
    if document["keep"] is None:
        return "everything"
    rules = [f"{name} {', '.join(rule) if isinstance(rule, list) else rule}" for name, rule in document["keep"].items()]
    return f"{', '.join(rules)} ({document['timezone']})"


def _limits(document: Document) -> Iterator[tuple[str, str]]:
    for direction in ("upload", "download"):
        if (limit := document[f"limit_{direction}"]) is not None:
            yield direction, f"{amount(limit)}/s"
