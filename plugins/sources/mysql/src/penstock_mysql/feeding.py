"""The server's own client program, which makes the tables: how it is called, and what it is given."""

import re
from collections import deque
from collections.abc import Iterable, Iterator

from penstock.api import ChildInput, RestoreFailed, StopToken, env_for_child, say_more
from penstock.api.servers import Advice
from penstock_mysql.client import Client
from penstock_mysql.connection import option_file, quoted
from penstock_mysql.dialect import CHILD_ENVIRONMENT
from penstock_mysql.settings import MySQLSettings

__all__ = ["ADVICE", "TableFeed", "adapted", "invalid_dates_kept", "passed_over", "sequences_renamed"]

_SANDBOX = b"/*M!999999\\- enable the sandbox mode */"
#: What a dump program sets in its first lines, before all tables; and what keeps a date such as February 30, which a
#: session with ALLOW_INVALID_DATES may have written, and which without it becomes 0000-00-00 without a word.
_MODE = b"SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */"
_LENIENT_MODE = b"SQL_MODE='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES' */"
_FIRST_LINES = 8192

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

#: What to do about what the client or the server says, in the order in which it is looked for.
ADVICE = Advice(
    {
        r"max_allowed_packet|ERROR 1153|ERROR 2006|gone away": (
            "Raise max_allowed_packet on the server for the restore (SET GLOBAL max_allowed_packet = 1073741824): "
            "a row is larger, and binary data takes twice its size."
        ),
        r"ERROR (1227|4006|1449|1419|6160)|SUPER|SET_USER_ID|SET USER|DEFINER|log_bin_trust": (
            "Restore as an administrator: only they may name the accounts (DEFINER) that views, triggers, routines and "
            "events belong to. On a server with a binary log, functions may need log_bin_trust_function_creators = 1."
        ),
        r"ERROR (1273|1115)|[Uu]nknown (collation|character set)": (
            "Restore into a server of the same make that is as new: other_engine and older_server do not always work."
        ),
        r"ERROR (3510|3121|1030)|[Tt]ablespace|DATA DIRECTORY|INDEX DIRECTORY": (
            "Make the tablespace (CREATE TABLESPACE), or the folder that DATA DIRECTORY names (innodb_directories), on "
            "the server for the restore."
        ),
        r"ERROR 3750|sql_require_primary_key": (
            "Grant the account SESSION_VARIABLES_ADMIN, or turn off sql_require_primary_key for the restore."
        ),
        r"ERROR 6125|restrict_fk_on_non_standard_key": "Turn off restrict_fk_on_non_standard_key for the restore.",
        r"ERROR (1118|1031|1005|1478|1286)|innodb_strict_mode": (
            "Compare innodb_strict_mode, innodb_page_size and the installed engines with those of the server that was "
            "dumped: this one has no such storage engine, or stricter rules."
        ),
        r"ERROR (1114|1021|3)\b|No space left|is full": "Make room on the server's disk.",
    }
)


class TableFeed:
    """The client program in one session, which makes and fills the tables of one database after the other.

    Starting it costs more than many a small database. Use it as a context manager: leaving the block kills it, unless
    `finish` has been called.
    """

    def __init__(self, settings: MySQLSettings, client: Client, session: tuple[str, ...], stop: StopToken) -> None:
        self._settings = settings
        self._client = client
        self._session = session
        self._stop = stop
        self._child: ChildInput | None = None

    def feed(self, text: Iterable[bytes], database: str, what: str) -> None:
        """Run statements in a database. Raises `RestoreFailed`, perhaps for what came before."""
        try:
            child = self._child = self._child or self._started()
            child.write(f"USE {quoted(database)};\n".encode())
            for block in text:
                child.write(block)
            child.write(b"\n")
        except RestoreFailed as error:
            ADVICE.give(error)
            if error.details:
                say_more(error, f"it had come to {what}, or to a database before it")
            raise

    def finish(self) -> None:
        """Wait until everything has been run. Raises `RestoreFailed`."""
        child, self._child = self._child, None
        try:
            if child:
                with child:
                    pass
        except RestoreFailed as error:
            ADVICE.give(error)
            raise

    def abort(self) -> None:
        """Kill the program if it runs."""
        child, self._child = self._child, None
        if child:
            child.abort()

    def _started(self) -> ChildInput:
        client = self._client
        session = ", ".join((client.dialect.restore_session, *self._session))
        with option_file(self._settings, client, f'init-command="{session}"') as (option, inherited, secrets):
            # No stall timeout: it may rebuild one table for hours, and take nothing meanwhile.
            return ChildInput(
                [str(client.path), option, *_CLIENT_OPTIONS, *client.dialect.client_options],
                name=f"{client.path.name} on {self._settings.location}",
                env=env_for_child(CHILD_ENVIRONMENT),
                pass_fds=inherited,
                secrets=secrets,
                stop=self._stop,
            )


def passed_over(blocks: Iterable[memoryview], parts: Iterable[tuple[int, int, str]]) -> Iterator[memoryview]:
    """The blocks of a dump without these parts of it, each from its first byte to that behind its last."""
    done = 0
    waiting = deque(parts)
    for block in blocks:
        at = 0
        while waiting and waiting[0][0] < done + len(block):
            start, end, _ = waiting[0]
            if start > done + at:
                yield block[at : start - done]
            if end > done + len(block):
                at = len(block)
                break
            at = max(at, end - done)
            waiting.popleft()
        if at < len(block):
            yield block[at:]
        done += len(block)


def invalid_dates_kept(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks of a dump whose session takes dates as the server had stored them, whether they exist or not."""
    held = b""
    rest = iter(blocks)
    for block in rest:
        held += block
        if len(held) >= _FIRST_LINES or _MODE in held:
            break
    # Behind its first lines, it is somebody's data.
    yield held[:_FIRST_LINES].replace(_MODE, _LENIENT_MODE, 1) + held[_FIRST_LINES:]
    yield from rest


def sequences_renamed(blocks: Iterable[bytes], dumped: str, restored: str) -> Iterator[bytes]:
    """The blocks of a dump in which defaults take their values from the sequences of the restored database.

    MariaDB qualifies a sequence in the definition of a column. A copy would count on in the sequence of the original.
    """
    # A line of CREATE TABLE begins so; rows begin with a parenthesis, and have no line breaks in them.
    begin = b"\n  `"
    pattern = re.compile(rb"(\n  `[^\n]* DEFAULT nextval\()%b\." % re.escape(quoted(dumped).encode()))
    new = quoted(restored).encode()
    held = b""
    for block in blocks:
        held += block
        cut = held.rfind(b"\n")
        if cut < 0 or not (held.startswith(begin, cut) or len(held) - cut < len(begin)):
            cut = len(held)
        yield pattern.sub(lambda found: found[1] + new + b".", held[:cut])
        held = held[cut:]
    yield held


def adapted(blocks: Iterable[memoryview], dumped: str, restored: str) -> Iterator[bytes]:
    """The blocks of a dump, made ready for any client and for the database's new name.

    MariaDB's dumps begin with a line that forbids the client to run commands of the shell, which others than its newer
    clients take for an error; our clients run in binary mode, where such commands do not exist. If the collation of
    the database was changed after triggers, routines or events were made, the dump sets the old one around them with
    ALTER DATABASE and the database's name, which is replaced.
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
