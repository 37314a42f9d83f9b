"""The restore of one database by the server's own client program, and of accounts."""

import re
from collections.abc import Iterable, Iterator

from pymysql import err

from penstock.api import ChildInput, RestoreFailed, RestoreTarget, SourceError, StreamSpec, env_for_child
from penstock_mysql.accounts import restore_accounts
from penstock_mysql.connection import Connection, connect, execute, option_file, quoted, rows, said_by, translated
from penstock_mysql.dialect import CHILD_ENVIRONMENT
from penstock_mysql.options import RestoreOptions
from penstock_mysql.privileges import granted
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.target import database_exists, may_make_accounts, restoring_client, target_name

__all__ = ["adapted", "restore_accounts_stream", "restore_database"]

_END_MARKER = b"-- Dump completed"
_SANDBOX = b"/*M!999999\\- enable the sandbox mode */"
#: The end marker is within this many bytes of the end.
_TAIL_BYTES = 4096

#: What to do about what the client says, in the order in which it is looked for.
_HINTS = {
    r"max_allowed_packet|ERROR 1153|ERROR 2006|gone away": (
        "a row is larger than the server takes: raise it there for the restore (SET GLOBAL max_allowed_packet = "
        "1073741824); binary data takes twice its size"
    ),
    r"ERROR (1227|4006|1449|1419|6160)|SUPER|SET_USER_ID|SET USER|DEFINER|log_bin_trust": (
        "views, triggers, routines and events belong to accounts (DEFINER) that only an administrator may name: "
        "restore as one; on a server with a binary log, functions may need log_bin_trust_function_creators = 1"
    ),
    r"ERROR (1273|1115)|[Uu]nknown (collation|character set)": (
        "the server is of another make, or older: see other_engine and older_server"
    ),
    r"ERROR (1118|1031|1005|1478|1286)|innodb_strict_mode": (
        "the server has no such storage engine, or stricter rules: compare innodb_strict_mode, innodb_page_size and "
        "the installed engines with those of the server that was dumped"
    ),
    r"ERROR (1114|1021|3)\b|No space left|is full": "the server's disk is full",
}


def restore_database(
    settings: MySQLSettings, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget
) -> None:
    """Give the dump to the client program, in a database that is made for it, or is there and empty.

    The engine cannot undo what changes tables. So a database that the restore made is dropped again when anything
    fails, and of one that was there the error says what is left in it. With `clean`, what was there is dropped
    before. Raises `RestoreFailed`.
    """
    options = RestoreOptions.of(target)
    with connect(settings) as connection:
        name = target_name(settings, spec, options)
        with translated(f"cannot prepare the database {name}", RestoreFailed):
            exists = database_exists(connection, name)
            if exists and target.clean:
                execute(connection, f"DROP DATABASE {quoted(name)}")
            if made := not exists or target.clean:
                execute(connection, _create(connection, name, spec))
        try:
            _feed(settings, connection, spec, blocks, name)
        except BaseException as error:
            left = _undo(settings, name, made=made)
            if isinstance(error, SourceError) and left:
                error.details += (left,)
            raise


def restore_accounts_stream(settings: MySQLSettings, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
    """Make the accounts that the server lacks. Raises `RestoreFailed`."""
    options = RestoreOptions.of(target)
    with connect(settings) as connection, translated("cannot restore the accounts", RestoreFailed):
        if options.grants == "no" or (options.grants == "auto" and not may_make_accounts(granted(connection))):
            return
        restore_accounts(connection, blocks, keep=connection.user)


def adapted(blocks: Iterable[memoryview], dumped: str, restored: str) -> Iterator[bytes]:
    """The blocks of a dump, made ready for any client and for the database's new name.

    MariaDB's dumps begin with a line that forbids the client to run commands of the shell, which others than its newer
    clients take for an error; our clients run in binary mode, where such commands do not exist. Where the collation
    of a database was changed, a dump names it around triggers, routines and events made before.
    """
    # Data has no line breaks in it: what begins a line is a statement.
    old = f"\nALTER DATABASE {quoted(dumped)} CHARACTER SET ".encode()
    new = f"\nALTER DATABASE {quoted(restored)} CHARACTER SET ".encode()
    held = b""
    first = True
    for block in blocks:
        held += block
        if first:
            if len(held) < len(_SANDBOX) + 2 and _SANDBOX.startswith(held[: len(_SANDBOX)]):
                continue
            if held.startswith(_SANDBOX):
                held = held[len(_SANDBOX) :].lstrip(b" ").removeprefix(b"\n")
            first = False
        if dumped != restored:
            held = held.replace(old, new)
        # What may be the beginning of it stays until the next block has come.
        cut = len(held) - len(old) + 1 if dumped != restored else len(held)
        if cut > 0:
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def _create(connection: Connection, name: str, spec: StreamSpec) -> str:
    recorded = spec.attributes
    statement = (
        f"CREATE DATABASE {quoted(name)} CHARACTER SET {recorded['character_set']} COLLATE {recorded['collation']}"
    )
    if recorded["comment"] and connection.is_mariadb:
        statement += f" COMMENT {connection.driver.escape(recorded['comment'])}"
    return statement


def _feed(
    settings: MySQLSettings, connection: Connection, spec: StreamSpec, blocks: Iterable[memoryview], name: str
) -> None:
    client = restoring_client(settings, connection, spec)
    session = f'init-command="{client.dialect.restore_session}"'
    tail = b""
    with option_file(settings, client.dialect, session) as (option, inherited, secrets):
        # No stall timeout: it may rebuild one table for hours, and take nothing meanwhile.
        child = ChildInput(
            [str(client.path), option, *_CLIENT_OPTIONS, *client.dialect.client_options, "--", name],
            name=f"{client.path.name} into {name}",
            env=env_for_child(CHILD_ENVIRONMENT),
            pass_fds=inherited,
            secrets=secrets,
        )
    try:
        with child:
            for block in adapted(blocks, spec.attributes["database"], name):
                child.write(block)
                tail = (tail + block[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            if _END_MARKER not in tail:
                raise RestoreFailed(f"{spec.name} does not end as a whole dump does")
    except RestoreFailed as error:
        said = "\n".join(error.details)
        error.hint = error.hint or next((hint for pattern, hint in _HINTS.items() if re.search(pattern, said)), None)
        raise


_CLIENT_OPTIONS = (
    # No commands of the client but DELIMITER, and every byte as it stands.
    "--binary-mode",
    # What is between /* and */ is part of a routine.
    "--comments",
    "--batch",
    "--skip-reconnect",
    "--skip-auto-rehash",
    "--local-infile=0",
    "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",
)


def _undo(settings: MySQLSettings, name: str, *, made: bool) -> str | None:
    """Leave nothing half restored where that is possible; says what is left otherwise."""
    why = "MySQL and MariaDB cannot undo what changes tables"
    try:
        with connect(settings) as connection:
            if made:
                execute(connection, f"DROP DATABASE IF EXISTS {quoted(name)}")
                return f"the database {name}, which the restore had made, was dropped again"
            query = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
            ((count,),) = rows(connection, query, [name])
            return f"{why}: {count} tables and views of a part of the dump are left in the database {name}"
    except (SourceError, err.Error) as error:
        reason = error.message if isinstance(error, SourceError) else said_by(error)
        return f"{why}: a part of the dump is left in the database {name} ({reason})"
