"""The databases of a server: which of them the settings mean, and their names within those of streams."""

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

from penstock.api.errors import SourceError, UsageError
from penstock.api.servers.settings import ServerSettings

__all__ = ["check_destinations", "choose_databases", "path_like"]


def choose_databases(
    found: Collection[str], settings: ServerSettings, *, special: Collection[str] = ()
) -> tuple[str, ...]:
    """The databases of a server that the settings mean, in the order of their names.

    `databases` holds names and globs, nothing stands for all; `exclude_databases` takes away again. Those of `special`,
    such as the server's own, are chosen by their name alone, not by a glob. Raises `SourceError` for a name or a glob
    that matches nothing, and where nothing is left.
    """
    wanted = settings.databases or (() if settings.database else ("*",))
    usual = [name for name in found if name not in special]
    chosen: set[str] = set()
    for pattern in wanted:
        matched = _matching(usual, pattern) | ({pattern} & set(found))
        if not matched and settings.databases:
            raise _unknown(f"databases = {pattern} matches no database", settings, found)
        chosen |= matched
    if not settings.databases and settings.database:
        if settings.database not in found:
            raise _unknown(f"no database {settings.database}", settings, found)
        chosen = {settings.database}
    for pattern in settings.exclude_databases:
        chosen -= _matching(found, pattern) | {pattern}
    if not chosen:
        raise SourceError(
            f"nothing to dump on {settings.location}: no database is left",
            hint="Check databases and exclude_databases, and which databases the user may see.",
        )
    return tuple(sorted(chosen))


def check_destinations(destinations: Mapping[str, str | None], renames: Mapping[str, str]) -> None:
    """Check where a restore's databases would go: `destinations` by the names that they were dumped under.

    Raises `UsageError` for a new name for an unknown database, and for two databases that go into one.
    """
    if unknown := sorted(renames.keys() - destinations.keys()):
        raise UsageError(
            f"rename names {', '.join(unknown)}, which the restore does not have",
            hint=f"Use one of: {', '.join(destinations)}.",
        )
    if len(set(destinations.values())) < len(destinations):
        raise UsageError(
            f"{len(destinations)} databases cannot be restored into one: {', '.join(destinations)}",
            hint="Leave the database out of the target's URL, choose one with --stream, or give them names of their "
            "own with rename.",
        )


def path_like(name: str) -> str:
    """A database's name as a part of a stream's name.

    Letters of any language stay as they are; what a path or a terminal could misread is percent-encoded.
    """
    return re.sub(r"[^\w.\-]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)


def _matching(names: Iterable[str], pattern: str) -> set[str]:
    return {name for name in names if fnmatchcase(name, pattern)}


def _unknown(what: str, settings: ServerSettings, found: Collection[str]) -> SourceError:
    hint = f"Choose from: {', '.join(sorted(found))}." if found else "Check which databases the user may see."
    return SourceError(f"{what} on {settings.location} that the user may see", hint=hint)
