"""Expressions of generated columns: whether another server understands them, asked without making a table."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pymysql import err

from penstock_mysql.connection import Connection, code_of, execute, is_lost, quoted, said_by

__all__ = ["Expression", "expressions_of", "not_understood"]

_NAME = rb"`(?:[^`]|``)*`"
_TABLE = re.compile(rb"CREATE TABLE (%b)" % _NAME)
_COLUMN = re.compile(rb"\n  (%b) [^\n]*" % _NAME)
_GENERATED = re.compile(rb" GENERATED ALWAYS AS (?=\()")
_PART = re.compile(rb"'(?:[^'\\]|\\.|'')*'|%b|(?P<open>\()|(?P<close>\))" % _NAME, re.DOTALL)
#: Syntax, functions, collations and character sets that a server does not know. Anything else may be due to what the
#: columns are asked as.
_UNKNOWN = {1064, 1115, 1128, 1253, 1273, 1305, 1582, 1584}


@dataclass(frozen=True, slots=True)
class Expression:
    """What a generated column is, with the columns of its table."""

    table: str
    columns: tuple[str, ...]
    text: str


def expressions_of(statement: bytes) -> Iterator[Expression]:
    """Those of a CREATE TABLE."""
    table = _TABLE.match(statement)
    lines = list(_COLUMN.finditer(statement))
    columns = tuple(_plain(line[1]) for line in lines)
    for line in lines:
        found = _GENERATED.search(line[0], line.end(1) - line.start())
        if table and found and (text := _enclosed(line[0][found.end() :])):
            yield Expression(_plain(table[1]), columns, text.decode(errors="replace"))


def not_understood(connection: Connection, expressions: Iterable[Expression]) -> Iterator[tuple[str, str]]:
    """The tables with an expression that the server does not understand, each with what it says. Nothing is run."""
    connection.driver.select_db("information_schema")  # without one, an unknown function is another error
    for one in expressions:
        columns = ", ".join(f"NULL AS {quoted(column)}" for column in one.columns)
        query = f"SELECT {one.text} FROM (SELECT {columns}) AS one"  # noqa: S608 - prepared and never executed
        try:
            execute(connection, f"PREPARE penstock FROM {connection.driver.escape(query)}")
            execute(connection, "DEALLOCATE PREPARE penstock")
        except err.Error as error:
            if is_lost(error):
                raise
            if code_of(error) in _UNKNOWN:
                yield one.table, said_by(error)


def _enclosed(text: bytes) -> bytes:
    """What is in the parentheses that the text begins with, and these; nothing if they do not end."""
    depth = 0
    for found in _PART.finditer(text):
        depth += (found["open"] is not None) - (found["close"] is not None)
        if not depth:
            return text[: found.end()]
    return b""


def _plain(name: bytes) -> str:
    return name[1:-1].replace(b"``", b"`").decode(errors="replace")
