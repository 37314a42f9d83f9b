"""Where a database of a dump goes: into one that is made for it, or beside the one that is there until it is whole."""

from dataclasses import dataclass
from secrets import token_hex
from typing import Literal

from penstock_mysql.connection import Connection, execute, quoted, rows
from penstock_mysql.options import RestoreOptions
from penstock_mysql.privileges import Privileges

__all__ = ["NEEDED", "Placement", "database_exists", "move_tables", "place", "working_name"]

NEEDED = (
    "CREATE", "DROP", "ALTER", "INDEX", "INSERT", "SELECT", "REFERENCES", "CREATE VIEW", "SHOW VIEW", "TRIGGER",
    "EVENT", "CREATE ROUTINE", "ALTER ROUTINE",
)  # fmt: skip

#: Made under its own name; loaded under another and then moved; the old one dropped first; into an empty one.
How = Literal["make", "beside", "replace", "into"]


@dataclass(frozen=True, slots=True)
class Placement:
    """One database of a restore: its name in the end, and where its tables are made and filled."""

    name: str
    work: str
    how: How


def database_exists(connection: Connection, name: str) -> bool:
    """Whether the server has that database, as far as the account may know."""
    return bool(rows(connection, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", [name]))


def working_name(name: str) -> str:
    """A name for what is not whole yet: it begins like the database's, as grants on patterns do."""
    return f"{name[:50]}~new{token_hex(4)}"


def place(
    connection: Connection, allowed: Privileges, name: str, options: RestoreOptions, *, clean: bool
) -> Placement | None:
    """Where a database goes; None where the old one can only be replaced by dropping it first, which nobody allowed."""
    if not database_exists(connection, name):
        return Placement(name, name, "make")
    if options.beside == "no":
        return Placement(name, name, "replace" if clean else "into")
    work = working_name(name)
    if allowed.missing(work, *NEEDED):
        return None if clean else Placement(name, name, "into")
    return Placement(name, work, "beside")


def move_tables(connection: Connection, old: str, new: str) -> None:
    """Move all tables and sequences of a database into another, in one statement; foreign keys follow them."""
    query = (
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_TYPE <> 'VIEW' "
        "ORDER BY TABLE_NAME"
    )
    moves = [f"{quoted(old, name)} TO {quoted(new, name)}" for (name,) in rows(connection, query, [old])]
    if moves:
        execute(connection, f"RENAME TABLE {', '.join(moves)}")
