"""The restore of roles and tablespaces: what the server lacks is made, what it has stays as it is."""

import re
from collections.abc import Iterable, Iterator

import psycopg
from psycopg import errors

from penstock.api import Report, RestoreFailed
from penstock.api.servers import whole_text
from penstock_postgres.connection import Connection, connect_anywhere, said_by, translated
from penstock_postgres.options import RestoreOptions
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.target import is_superuser

__all__ = ["restore_accounts", "statements"]

#: The definitions of roles are small; whatever is larger is something else (bytes).
_LARGEST = 256 << 20

_TOKENS = re.compile(
    r"""
    (?P<space>   \s+ | --[^\n]* )
  | (?P<meta>    \\[^\n]* )                          # a command of psql, such as \restrict
  | (?P<end>     ; )
  | (?P<text>    [eE]'(?:[^'\\]|\\.|'')*'            # the kinds of quotes that pg_dumpall writes
               | '(?:[^']|'')*'
               | "(?:[^"]|"")*"
               | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
               | [^\W\d]\w*
               | [^'"\\;\s] )
    """,
    re.VERBOSE | re.DOTALL,
)


def restore_accounts(
    settings: PostgresSettings, blocks: Iterable[memoryview], options: RestoreOptions, report: Report
) -> None:
    """Run the statements of pg_dumpall one by one; nothing before the last block was read and found good.

    A role or tablespace that exists already is left as it is, with its password, attributes and memberships. Everything
    up to the first tablespace is one transaction; tablespaces cannot be made in one. Raises `RestoreFailed`.
    """
    script = whole_text(blocks, "the definitions of roles", max_bytes=_LARGEST)
    doing = "cannot restore roles and tablespaces"
    with connect_anywhere(settings) as (connection, _, _), translated(doing, RestoreFailed):
        if options.accounts == "no":
            return
        if options.accounts == "auto" and not is_superuser(connection):
            report.warn("roles and tablespaces are left out: the role that restores is not a superuser")
            return
        todo = list(statements(script))
        if options.tablespaces == "no":
            todo = [statement for statement in todo if not re.search(rb"^[A-Z ]+ TABLESPACE ", statement)]
        spaces = next((i for i, one in enumerate(todo) if one.startswith(b"CREATE TABLESPACE ")), len(todo))
        existing: set[bytes] = set()
        with connection.transaction():
            for statement in todo[:spaces]:
                _run(connection, statement, existing)
        for statement in todo[spaces:]:
            _run(connection, statement, existing)


def statements(script: bytes) -> Iterator[bytes]:
    """The SQL statements of a script of pg_dumpall, without comments and commands of psql.

    psql itself is not used, so that nothing in a dump can become one of its commands. Raises `RestoreFailed` for
    anything else.
    """
    # One character a byte: whatever the encoding, bytes of other letters are never taken for quotes.
    text = script.decode("latin-1")
    position, start = 0, None
    while position < len(text):
        token = _TOKENS.match(text, position)
        if token is None or (token["meta"] and start is not None):
            raise RestoreFailed(f"the definitions of roles cannot be parsed, from byte {position} on")
        if token["end"]:
            if start is not None:
                yield text[start : token.start()].encode("latin-1")
            start = None
        elif token["text"] and start is None:
            start = token.start()
        position = token.end()
    if start is not None:
        raise RestoreFailed("the definitions of roles end within a statement")


_MADE = re.compile(rb'(CREATE|ALTER|COMMENT ON|GRANT \w+ ON|REVOKE \w+ ON) (ROLE|TABLESPACE) ("(?:[^"]|"")*"|\S+)')
_MEMBER = re.compile(rb'GRANT (?:"(?:[^"]|"")*"|\S+) TO ("(?:[^"]|"")*"|\S+)')
_GRANTOR = re.compile(rb' GRANTED BY ("(?:[^"]|"")*"|\S+)$')
#: The end of a GRANT of a role; before PostgreSQL 16 only the admin option is known.
_MEMBERSHIP = re.compile(rb" WITH ((?:(?:ADMIN|INHERIT|SET) (?:OPTION|TRUE|FALSE)(?:, )?)+)(?= GRANTED BY |$)")


def _run(connection: Connection, statement: bytes, existing: set[bytes]) -> None:
    subject = _MADE.match(statement)
    if subject and subject[2] + subject[3] in existing:
        return
    member = _MEMBER.match(statement)
    if member and b"ROLE" + member[1] in existing:
        return
    if connection.info.server_version < 160000:
        statement = _MEMBERSHIP.sub(lambda found: b" WITH ADMIN OPTION" if b"ADMIN" in found[1] else b"", statement)
    try:
        _execute(connection, statement)
    except errors.DuplicateObject as error:
        if not subject or subject[1] != b"CREATE":
            raise _failure(statement, error) from None
        existing.add(subject[2] + subject[3])
    except psycopg.Error as error:
        # The grantor of a membership is usually the bootstrap superuser, who may have another name here.
        if not _GRANTOR.search(statement):
            raise _failure(statement, error) from None
        try:
            _execute(connection, _GRANTOR.sub(b"", statement))
        except psycopg.Error as again:
            raise _failure(statement, again) from None


def _execute(connection: Connection, statement: bytes) -> None:
    if statement.startswith(b"CREATE TABLESPACE "):
        if statement.endswith(b" LOCATION ''"):
            # One inside of the data folder, as developers make them (since PostgreSQL 15). Without this the server does
            # not even get to see that it has it already.
            connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(statement)
        return
    with connection.transaction():
        connection.execute(statement)


def _failure(statement: bytes, error: psycopg.Error) -> RestoreFailed:
    # Never the statement as a whole: it may set a password.
    subject = _MADE.match(statement)
    what = subject[0] if subject else b" ".join(statement.split()[:2])
    shown = what.decode(errors="replace")
    if isinstance(error, errors.InsufficientPrivilege):
        return RestoreFailed(f"{shown}: {said_by(error)}", hint="Restore as a superuser, or with accounts=no.")
    hint = None
    if b"TABLESPACE" in what:
        hint = "Make its folder on the server, owned by the server's user, or restore with tablespaces=no."
    return RestoreFailed(f"{shown}: {said_by(error)}", hint=hint)
