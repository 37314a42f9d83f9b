"""Events as the dump programs write them, for a database with one that these never come to the end of.

They look for a delimiter that an event does not have in it, and look for ever where it has `;;`.
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from penstock.api import DumpFailed
from penstock_mysql.connection import Connection, execute, quoted, rows

__all__ = ["events_as_sql", "free_delimiter"]

#: What the server says of an event stands in a statement as it is.
_WORD = re.compile(r"[\w/+:, -]*")


def free_delimiter(statement: bytes) -> bytes:
    """A delimiter that is not in the statement."""
    return next(one for length in count(2) if (one := b"$" * length) not in statement)


def events_as_sql(connection: Connection, database: str) -> bytes:
    """All events of a database, in the order of their names, each in the bytes of its own character set.

    Changes the session: use it for nothing else. Raises `DumpFailed` for what cannot be written.
    """
    query = "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s"
    names = sorted(str(name) for (name,) in rows(connection, query, [database]))
    query = "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s"
    ((collation,),) = rows(connection, query, [database])
    execute(connection, "SET character_set_results = binary")
    lines = [b"--", b"-- Dumping events, each as the server has it", b"--", b""]
    for name in names:
        ((_, *words, create, client, connected, made_under),) = (
            _plain(row) for row in rows(connection, f"SHOW CREATE EVENT {quoted(database, name)}")
        )
        lines += _lines(database, name, (*words, client, connected, made_under), create, str(collation))
    return b"\n".join([*lines, b""])


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Name, SQL mode, time zone and the rest as text; the statement, which is the fourth, as bytes."""
    return tuple(value if place == 3 else value.decode() for place, value in enumerate(row))


def _lines(
    database: str, name: str, words: tuple[str, str, str, str, str], create: bytes, collation: str
) -> Iterator[bytes]:
    if wrong := [word for word in words if not _WORD.fullmatch(word)]:
        raise DumpFailed(f"the event {database}.{name} cannot be written: {wrong[0]!r} is no name of the server's")
    sql_mode, time_zone, client, connected, made_under = words
    end = free_delimiter(create)
    kept = ("time_zone", "character_set_client", "character_set_results", "collation_connection", "sql_mode")
    yield f"DROP EVENT IF EXISTS {quoted(name)};".encode()
    yield b"DELIMITER " + end
    if made_under != collation:
        yield _collated(database, made_under) + end
    for variable in kept:
        yield f"SET @saved_{variable} = @@{variable} ".encode() + end
    for variable, value in zip(kept, (f"'{time_zone}'", client, client, connected, f"'{sql_mode}'"), strict=True):
        yield f"SET {variable} = {value} ".encode() + end
    yield create
    yield end
    for variable in kept:
        yield f"SET {variable} = @saved_{variable} ".encode() + end
    if made_under != collation:
        yield _collated(database, collation) + end
    yield b"DELIMITER ;"


def _collated(database: str, collation: str) -> bytes:
    character_set = collation.partition("_")[0]
    return f"ALTER DATABASE {quoted(database)} CHARACTER SET {character_set} COLLATE {collation} ".encode()
