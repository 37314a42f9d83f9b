"""A database as a whole: making it as it was recorded, giving it its own properties back, dropping it."""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import LiteralString

import psycopg
from psycopg import sql

from penstock.api import LeftOut, PenstockError, RestoreFailed
from penstock_postgres.attributes import Privilege, Properties
from penstock_postgres.connection import Connection, connect_beside, rows, said_by, translated
from penstock_postgres.options import RestoreOptions
from penstock_postgres.settings import PostgresSettings

__all__ = [
    "apply_properties",
    "create_database",
    "drop_database",
    "give_owner",
    "is_as_initialised",
    "name_beside",
]


def create_database(connection: Connection, name: str, recorded: Properties, options: RestoreOptions) -> None:
    """CREATE DATABASE with the recorded encoding and locale; raises `RestoreFailed`."""
    words = sql.SQL(" ").join(_locale(recorded, options.locale, connection.info.server_version))
    if options.tablespaces == "yes" and recorded.tablespace != "pg_default":
        words += sql.SQL(" TABLESPACE {}").format(sql.Identifier(recorded.tablespace))
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} {}").format(
        sql.Identifier(name), sql.Literal(recorded.encoding), words
    )
    try:
        with translated(f"cannot make the database {name}", RestoreFailed):
            connection.execute(statement)
    except RestoreFailed as error:
        if "locale" in error.message.lower() or "lc_c" in error.message.lower():
            error.hint = "Replace the recorded one with the option locale=C.UTF-8, or another that this server has."
        elif "tablespace" in error.message.lower():
            error.hint = "Make the tablespace first, or restore with tablespaces=no."
        raise


def give_owner(connection: Connection, name: str, recorded: Properties, *, final: str) -> list[LeftOut]:
    """Give a database to its owner, who has rights in it that objects of others need; or return what was refused.

    `final` is the name that the database will have, for what is returned.
    """
    return _give(connection, name, final, lambda one: [("owner", _owner(one, recorded))])


def apply_properties(
    connection: Connection, name: str, recorded: Properties, options: RestoreOptions, *, final: str
) -> list[LeftOut]:
    """Give a database its comment, settings and grants; what the server refuses is left out, and returned.

    After everything else: the settings are in force for whoever connects from then on. `final` is as for `give_owner`.
    """
    return _give(connection, name, final, lambda one: _property_statements(one, recorded, options))


def _owner(name: sql.Identifier, recorded: Properties) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, sql.Identifier(recorded.owner))


def _give(
    connection: Connection,
    name: str,
    final: str,
    statements: Callable[[sql.Identifier], Iterable[tuple[str, sql.Composed]]],
) -> list[LeftOut]:
    refused = []
    for (what, statement), (_, later) in zip(
        statements(sql.Identifier(name)), statements(sql.Identifier(final)), strict=True
    ):
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            with translated(f"cannot restore what is recorded of the database {final} itself", RestoreFailed):
                if connection.closed:
                    raise
            text = f"{later.as_string(connection)};"
            refused.append(LeftOut(f"{what} of the database", final, said_by(error), text, final))
    return refused


def is_as_initialised(connection: Connection) -> bool:
    """Whether the database at hand is one that every new server has, and nobody has given it properties since."""
    query = """
    SELECT d.datname IN ('postgres', 'template1') AND d.datconnlimit = -1 AND d.datdba = 10
        AND (d.datname <> 'postgres' OR d.datacl IS NULL)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = d.oid)
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
    """
    found: bool = rows(connection, query)[0][0]
    return found


def drop_database(settings: PostgresSettings, name: str) -> str | None:
    """Drop what a failed restore had made; returns what stands in the way, instead of raising."""
    try:
        with translated("cannot drop it"), connect_beside(settings, name) as connection:
            # A killed pg_restore leaves a session that may not have noticed yet.
            force = sql.SQL(" WITH (FORCE)" if connection.info.server_version >= 130000 else "")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}{}").format(sql.Identifier(name), force))
    except PenstockError as error:  # its password may have no source any more
        return error.message
    return None


def name_beside(name: str) -> str:
    """A name that no database has, and that shows which one it belongs to; at most 63 bytes."""
    return f"{name.encode()[:40].decode(errors='ignore')}_penstock_{secrets.token_hex(4)}"


def _locale(recorded: Properties, override: str | None, server: int) -> Iterator[sql.Composable]:
    def word(name: LiteralString, value: str | None) -> sql.Composable:
        return sql.SQL("{} {}").format(sql.SQL(name), sql.Literal(value))

    if override:
        yield word("LOCALE", override)
        return
    yield word("LC_COLLATE", recorded.collate)
    yield word("LC_CTYPE", recorded.ctype)
    if recorded.provider == "i" and server >= 150000:
        yield sql.SQL("LOCALE_PROVIDER icu")
        yield word("ICU_LOCALE", recorded.locale)
        if recorded.icu_rules and server >= 160000:
            yield word("ICU_RULES", recorded.icu_rules)
    elif recorded.provider == "b" and server >= 170000:
        yield sql.SQL("LOCALE_PROVIDER builtin")
        yield word("BUILTIN_LOCALE", recorded.locale)
    elif server >= 150000:
        yield sql.SQL("LOCALE_PROVIDER libc")


_PRIVILEGES: dict[Privilege, LiteralString] = {"CREATE": "CREATE", "CONNECT": "CONNECT", "TEMPORARY": "TEMPORARY"}


def _property_statements(
    name: sql.Identifier, recorded: Properties, options: RestoreOptions
) -> Iterator[tuple[str, sql.Composed]]:
    if recorded.comment is not None:
        yield "comment", sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(recorded.comment))
    if recorded.connection_limit >= 0:
        limit = sql.Literal(recorded.connection_limit)
        yield "connection limit", sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, limit)
    if recorded.template:
        yield "template mark", sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(name)
    for role, assignments in recorded.settings:
        whose = sql.SQL("DATABASE {}").format(name)
        if role is not None:
            whose = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), name)
        for assignment in assignments:
            variable, _, value = assignment.partition("=")
            yield (
                f"setting {variable}",
                sql.SQL("ALTER {} SET {} TO {}").format(whose, sql.Identifier(variable), _setting(variable, value)),
            )
    if recorded.grants is not None and options.privileges == "yes":
        yield "grants", sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name)
        for role, privilege, grantable in recorded.grants:
            yield (
                "grants",
                sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                    sql.SQL(_PRIVILEGES[privilege]),
                    name,
                    sql.SQL("PUBLIC") if role is None else sql.Identifier(role),
                    sql.SQL(" WITH GRANT OPTION" if grantable else ""),
                ),
            )


#: Settings whose value is a list of names: the list is not one string, but one for each name (`GUC_LIST_QUOTE`).
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}


def _setting(variable: str, value: str) -> sql.Composable:
    if variable.lower() not in _LISTS:
        return sql.Literal(value)
    names = [quoted.replace('""', '"') or bare for quoted, bare in re.findall(r'"((?:[^"]|"")*)"|([^\s,"]+)', value)]
    return sql.SQL(", ").join([sql.Literal(name) for name in names] or [sql.Literal("")])
