"""The databases of a server: which of them are dumped, and which are not, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.api import InventoryItem, SourceDenied, SourceError, choose_databases
from penstock_postgres.connection import Connection, rows
from penstock_postgres.settings import PostgresSettings

__all__ = ["Databases", "find_databases"]

#: Every server has them, and they are templates: that they are left out surprises nobody.
_USUAL_TEMPLATES = ("template0", "template1")
#: pg_database.datconnlimit of what an interrupted DROP DATABASE leaves behind.
_INVALID = -2


@dataclass(frozen=True, slots=True)
class Databases:
    """The databases to dump, in the order of their names, and what matches but cannot be dumped, with the reason."""

    names: tuple[str, ...]
    left_out: Mapping[str, str]

    def warnings(self) -> Iterator[str]:
        """What is left out, unless everybody expects it."""
        for name, reason in self.left_out.items():
            if name not in _USUAL_TEMPLATES:
                yield f"the database {name} is left out: {reason}"

    def inventory(self) -> Iterator[InventoryItem]:
        """What is left out, by name."""
        for name in self.left_out:
            yield InventoryItem("database left out", name)


def find_databases(connection: Connection, settings: PostgresSettings) -> Databases:
    """What `databases` and `exclude_databases` of the settings mean on the server at hand.

    A name stands for itself, and must be possible to dump; a glob passes over templates and what refuses connections.
    Raises `SourceError` where nothing matches, and `SourceDenied` where the role may not connect.
    """
    query = """
    SELECT datname, datistemplate, datallowconn, datconnlimit,
        pg_catalog.has_database_privilege(oid, 'CONNECT') FROM pg_catalog.pg_database ORDER BY datname
    """
    found = rows(connection, query)
    everywhere = [name for name, *_ in found]
    chosen = choose_databases(everywhere, settings)
    names, left_out, denied = [], {}, []
    for name, template, open_, limit, allowed in found:
        if name not in chosen:
            continue
        named = name in settings.databases
        reason = "an interrupted DROP DATABASE has broken it" if limit == _INVALID else "it refuses connections"
        if limit == _INVALID or not open_:
            if named:
                raise SourceError(f"the database {name} cannot be dumped: {reason}")
            left_out[name] = reason
        elif template and not named:
            left_out[name] = "it is a template (databases can name it)"
        elif not allowed:
            denied.append(name)
        else:
            names.append(name)
    if denied:
        raise SourceDenied(
            f"the role {connection.info.user} may not connect to {', '.join(denied)}",
            hint=f'Run GRANT CONNECT ON DATABASE … TO "{connection.info.user}", or name them in exclude_databases.',
        )
    if not names:
        raise SourceError(
            f"nothing to dump on {settings.location}: no database is left",
            hint="Check databases and exclude_databases.",
            details=tuple(f"{name}: {reason}" for name, reason in left_out.items()),
        )
    return Databases(tuple(names), left_out)
