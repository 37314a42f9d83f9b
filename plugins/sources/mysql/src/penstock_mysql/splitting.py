"""A dump program's text in two: what makes tables and fills them goes on at once, what comes after them is kept.

`mysqldump` and `mariadb-dump` write triggers behind each table, and events, routines and views at the end. What is in
there may need tables, accounts and routines of any database, so it is run when all of these are there, one by one.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.api import RestoreFailed
from penstock_mysql.events import free_delimiter

__all__ = ["KINDS", "Program", "Splitter"]

#: The kinds of programs, in the order in which they are made: events last, since they may run at once.
KINDS = ("function", "procedure", "package", "package body", "view", "trigger", "event", "statement")
_END_MARKER = b"-- Dump completed"
#: The end marker is within this many bytes of the end.
_TAIL_BYTES = 4096
#: No definition is larger (bytes).
_LARGEST = 1 << 30

# Rows have no line breaks in them, or begin a line with a parenthesis.
_ENTERS = re.compile(
    rb"\n(?=-- (?:Temporary|Dumping events|Dumping routines|Final view) |/\*!50003 |/\*!50106 |ALTER DATABASE )"
)
_LONGEST_ENTRY = 32
_LEAVES = re.compile(rb"-- (?:Table structure|Sequence structure|Dumping data) ")
_LINE_OF_COMMENT = re.compile(rb"--(?:[ \t][^\n]*)?\n")
_BLANK = re.compile(rb"\s*")
_DELIMITER = re.compile(rb"DELIMITER ([^\s]+)[^\n]*\n")
_SET = re.compile(rb"(?is)SET\s+(?:SESSION\s+)?(@{0,2}\w+)\s*=\s*(.*)")
_VERSIONED = re.compile(rb"/\*M?!\d*|\*/")
_ACCOUNT = rb"(?:'[^']*'|`(?:[^`]|``)*`|\"[^\"]*\"|[\w.%-]+)"
_DEFINER = re.compile(rb"(?is)\s*DEFINER\s*=\s*(%b(?:\s*@\s*%b)?)(?:\s*\(\))?" % (_ACCOUNT, _ACCOUNT))
_NAME = rb"(?:`(?:[^`]|``)*`|\"(?:[^\"]|\"\")*\"|[^\s(`\"]+)"
_MADE = re.compile(
    rb"(?is)^\s*CREATE\s.*?\b(VIEW|TRIGGER|PROCEDURE|FUNCTION|EVENT|PACKAGE\s+BODY|PACKAGE)\s+"
    rb"(?:IF\s+NOT\s+EXISTS\s+)?(%b)(?:\.(%b))?" % (_NAME, _NAME)
)
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Program:
    """One view, routine, trigger or event: its CREATE, in the bytes of its own character set.

    `context` holds the SETs that it needs, `alter` the ALTER DATABASE that gives the database the collation it was made
    under. `placeholder` makes something with a view's columns: what others are made of before it is there.
    """

    kind: str
    name: str
    statement: bytes
    context: tuple[bytes, ...] = ()
    alter: bytes = b""
    placeholder: bytes = b""

    @property
    def without_definer(self) -> bytes:
        """The statement for an account that may name no other."""
        head, rest = self.statement[:_HEAD_BYTES], self.statement[_HEAD_BYTES:]
        return _DEFINER.sub(b" ", head, count=1) + rest

    @property
    def text(self) -> str:
        """What makes it later, for the engine's own client."""
        create = self.statement.decode(errors="surrogateescape")
        lines = [f"{one.decode(errors='surrogateescape')};" for one in self.context]
        if self.kind in ("view", "statement"):
            return "\n".join([*lines, f"{create};"])
        end = free_delimiter(self.statement).decode()
        return "\n".join([*lines, f"DELIMITER {end}", f"{create}\n{end}", "DELIMITER ;"])


class Splitter:
    """Divides one dump; `programs` are complete when `tables` has ended."""

    def __init__(self, what: str) -> None:
        self.programs: list[Program] = []
        self._what = what
        self._placeholders: dict[str, bytes] = {}
        self._held = b""
        self._delimiter = b";"
        self._escapes = True
        self._temporary = False
        self._context: dict[str, bytes] = {}
        self._alter = b""

    def tables(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """What makes tables and fills them, as it comes. Raises `RestoreFailed` for half a dump."""
        tail = b""
        inside = False
        for block in blocks:
            tail = (tail + block[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            self._held += block
            while True:
                if inside:
                    inside = not self._read_programs()
                    if inside:
                        break
                found = _ENTERS.search(self._held)
                if found:
                    yield self._held[: found.end()]
                    self._held = self._held[found.end() :]
                    inside = True
                    self._temporary = False
                    continue
                cut = len(self._held) - _LONGEST_ENTRY
                if cut > 0:
                    yield self._held[:cut]
                    self._held = self._held[cut:]
                break
        if _END_MARKER not in tail:
            raise RestoreFailed(f"{self._what} does not end as a whole dump does")
        if not inside:
            yield self._held
        elif not _LINE_OF_COMMENT.fullmatch(self._held.strip() + b"\n") and self._held.strip():
            raise RestoreFailed(f"{self._what} ends within a statement")

    def _read_programs(self) -> bool:
        """Take whole statements; True where tables go on."""
        text, at = self._held, 0
        leaves = False
        while True:
            blank = _BLANK.match(text, at)
            at = blank.end() if blank else at
            if self._delimiter == b";" and text.startswith(b"--", at):
                line = _LINE_OF_COMMENT.match(text, at)
                if line is None:
                    break
                if _LEAVES.match(text, at):
                    leaves = True
                    break
                if len(line[0]) > 4:
                    self._temporary = line[0].startswith(b"-- Temporary ")
                at = line.end()
                continue
            if b"DELIMITER ".startswith(text[at : at + 10]):
                changed = _DELIMITER.match(text, at)
                if changed is None:
                    break
                self._delimiter = changed[1]
                at = changed.end()
                continue
            end = _end_of_statement(text, at, self._delimiter, escapes=self._escapes)
            if end is None:
                break
            self._take(text[at:end].rstrip())
            at = end + len(self._delimiter)
        self._held = text[at:]
        if len(self._held) > _LARGEST:
            raise RestoreFailed(f"{self._what} has a statement in it that is larger than any definition")
        return leaves

    def _take(self, statement: bytes) -> None:
        head = _VERSIONED.sub(b" ", statement[:_HEAD_BYTES]).strip()
        word = head[:8].upper()
        if word.startswith(b"SET"):
            self._take_setting(head)
        elif word.startswith(b"ALTER DA"):
            # The second one gives the database its own collation back.
            self._alter = b"" if self._alter else statement
        elif word.startswith(b"CREATE"):
            self._take_program(statement, head)
        elif statement and not word.startswith(b"DROP"):
            self.programs.append(Program("statement", _shown(head[:60]), statement, self._sets, self._alter))

    def _take_setting(self, head: bytes) -> None:
        found = _SET.fullmatch(head)
        if found is None or found[1].startswith(b"@"):
            return
        name = found[1].decode().lower()
        if found[2].startswith(b"@"):
            self._context.pop(name, None)
        else:
            self._context[name] = b"SET %b = %b" % (name.encode(), found[2].strip())
        self._escapes = b"NO_BACKSLASH_ESCAPES" not in self._context.get("sql_mode", b"")

    def _take_program(self, statement: bytes, head: bytes) -> None:
        found = _MADE.match(_DEFINER.sub(b" ", head, count=1))
        if self._temporary:
            name = re.search(rb"(?:VIEW|TABLE) (%b)" % _NAME, head)
            if name:
                self._placeholders[_plain(name[1])] = statement
            return
        if found is None:
            self.programs.append(Program("statement", _shown(head[:60]), statement, self._sets, self._alter))
            return
        kind = b" ".join(found[1].lower().split()).decode()
        name_ = _plain(found[3] or found[2])
        placeholder = self._placeholders.get(name_, b"") if kind == "view" else b""
        self.programs.append(Program(kind, name_, statement, self._sets, self._alter, placeholder))

    @property
    def _sets(self) -> tuple[bytes, ...]:
        return tuple(self._context.values())


def _end_of_statement(text: bytes, start: int, delimiter: bytes, *, escapes: bool) -> int | None:
    """Where the delimiter is that the engine's client would see; None if it is not there yet."""
    at = start
    pattern = _tokens(delimiter, escapes)
    while found := pattern.search(text, at):
        if found.lastgroup == "end":
            return found.start()
        if found.lastgroup == "open":
            return None
        at = found.end()
    return None


def _tokens(delimiter: bytes, escapes: bool) -> re.Pattern[bytes]:
    one, two = (rb"'[^'\\]*(?:\\.[^'\\]*)*'", rb'"[^"\\]*(?:\\.[^"\\]*)*"') if escapes else (rb"'[^']*'", rb'"[^"]*"')
    return re.compile(
        rb"%b|%b|`[^`]*`|/\*(?!M?!).*?\*/|--(?=\s)[^\n]*|#[^\n]*|(?P<end>%b)|(?P<open>['\"`]|/\*(?!M?!))"
        % (one, two, re.escape(delimiter)),
        re.DOTALL,
    )


def _plain(name: bytes) -> str:
    quote = name[:1]
    if quote in (b"`", b'"'):
        name = name[1:-1].replace(quote * 2, quote)
    return name.decode(errors="replace")


def _shown(head: bytes) -> str:
    return " ".join(head.decode(errors="replace").split())
