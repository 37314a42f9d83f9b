"""The SQL script that pg_restore makes of an archive, cut into statements: read, never given to psql.

Where a statement ends is decided as psql does (`psqlscan.l` of PostgreSQL): a semicolon counts outside of quotes,
comments, parentheses and the bodies of SQL functions. Which object a statement belongs to is said by the comment that
pg_restore puts before each entry of the archive.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.api import RestoreFailed

__all__ = ["CopyRows", "Entry", "Script", "Statement"]

#: No single statement of a dump is that long: an object's definition is at most 1 GiB in the server (bytes).
_LONGEST = 256 << 20
#: As many words tell what a statement makes.
_FIRST_WORDS = 4

_LETTER = rb"A-Za-z_\x80-\xff"
_TOKEN = re.compile(
    rb"""
    (?P<space>   \s+ )
  | (?P<comment> --[^\n]*(?:\n|\Z) | /\*.*?\*/ )
  | (?P<meta>    \\[^\n]*(?:\n|\Z) )                    # a command of psql, such as \restrict
  | (?P<end>     ; )
  | (?P<open>    \( )
  | (?P<close>   \) )
  | (?P<quoted>  [eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'
               | '[^']*(?:''[^']*)*'
               | "[^"]*(?:""[^"]*)*"
               | \$(?P<tag>(?:[%(letter)s][%(letter)s0-9]*)?)\$.*?\$(?P=tag)\$ )
  | (?P<cut>     (?: [eE]?' | " | /\* | \$(?:[%(letter)s][%(letter)s0-9]*)?\$ ).*\Z    # its end is not read yet
               | \$(?:[%(letter)s][%(letter)s0-9]*)?\Z )
  | (?P<word>    [%(letter)s][%(letter)s0-9$]* )
  | (?P<other>   [^\s'"\\;()%(letter)s] )
    """
    % {b"letter": _LETTER},
    re.VERBOSE | re.DOTALL,
)
#: A text of a server whose standard_conforming_strings is off: backslashes count in every quote.
_OLD_TOKEN = re.compile(
    _TOKEN.pattern.replace(rb"[eE]'[^'\\]*", rb"[eE]?'[^'\\]*"),
    re.VERBOSE | re.DOTALL,
)
_OLD_STRINGS = re.compile(rb"SET standard_conforming_strings = '?off'?\Z")
_HEADER = re.compile(
    rb"-- (?:Data for |Statistics for )?Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); "
    rb"Schema: (?P<schema>.*?); Owner: (?P<owner>.*?)(?:; Tablespace: .*)?\n"
)
_COPY = re.compile(rb"COPY\s.*\sFROM\s+stdin\Z", re.DOTALL | re.IGNORECASE)
_ROWS_END = b"\\.\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an archive: `kind` is pg_dump's word in capitals, `schema` is empty where it has none."""

    kind: str
    name: str
    schema: str

    @property
    def title(self) -> str:
        """Its name as people write it."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its semicolon; `entry` is None before the first entry."""

    text: bytes
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class CopyRows:
    """A `COPY ... FROM stdin`, and the rows that follow it: blocks of lines, to be exhausted before the next statement.

    Each block is valid until the next is asked for.
    """

    text: bytes
    entry: Entry | None
    rows: Iterator[bytes]


class Script:
    """Iterates over the statements of a script. Raises `RestoreFailed` for what pg_restore does not write."""

    def __init__(self, blocks: Iterable[memoryview]) -> None:
        self._blocks = iter(blocks)
        self._buffer = bytearray()
        self._position = 0
        self._ended = False
        self._entry: Entry | None = None
        self._token = _TOKEN

    def __iter__(self) -> Iterator[Statement | CopyRows]:
        while (text := self._statement()) is not None:
            if _COPY.match(text):
                rows = self._rows()
                yield CopyRows(text, self._entry, rows)
                for _ in rows:  # what was not taken
                    pass
                continue
            if _OLD_STRINGS.match(text):
                self._token = _OLD_TOKEN
            yield Statement(text, self._entry)

    def _statement(self) -> bytes | None:
        """The next statement, or None at the end of the script."""
        nesting = _Nesting()
        begun = False
        while (token := self._next()) is not None:
            kind = token.lastgroup
            if not begun and kind in ("space", "comment", "meta", "end"):
                if found := _HEADER.fullmatch(token[0]):
                    self._entry = _entry(found)
                self._forget()
                continue
            begun = True  # at the very beginning of the buffer: all before it is forgotten
            if kind == "meta":
                raise RestoreFailed("the archive's script has a command of psql within a statement")
            if nesting.ends(token):
                text = bytes(self._buffer[: token.start()])
                self._forget()
                return text
        if begun:
            raise RestoreFailed("the archive's script ends within a statement")
        return None

    def _next(self) -> "re.Match[bytes] | None":
        """The next token, with as much read as it takes to be sure of its end; None at the end of the script."""
        while True:
            token = self._token.match(self._buffer, self._position)
            if token is not None and (token.end() < len(self._buffer) or self._ended) and token.lastgroup != "cut":
                self._position = token.end()
                return token
            if self._ended:
                if self._position < len(self._buffer):
                    raise RestoreFailed("the archive's script cannot be parsed")
                return None
            if len(self._buffer) > _LONGEST:
                raise RestoreFailed(f"a statement of the archive's script exceeds {_LONGEST} bytes")
            self._read()

    def _read(self) -> bool:
        """Read one more block; False at the end."""
        for block in self._blocks:
            if block:
                self._buffer += block
                return True
        self._ended = True
        return False

    def _forget(self) -> None:
        """Drop what is before the position."""
        del self._buffer[: self._position]
        self._position = 0

    def _rows(self) -> Iterator[bytes]:
        """The lines of a COPY, up to the one that ends them, which is taken too."""
        while (newline := self._buffer.find(b"\n", self._position)) < 0:
            if not self._read():
                raise RestoreFailed("the archive's script ends before the rows of a table")
        self._position = newline + 1
        self._forget()
        while True:
            # An end line at the very beginning, or after any other.
            if self._buffer.startswith(_ROWS_END):
                self._position = len(_ROWS_END)
                self._forget()
                return
            end = self._buffer.find(b"\n" + _ROWS_END)
            if end >= 0:
                rows = bytes(self._buffer[: end + 1])
                self._position = end + 1 + len(_ROWS_END)
                self._forget()
                yield rows
                return
            # What may be the beginning of the end line stays: at most "\n\\.".
            last = self._buffer.rfind(b"\n", 0, max(0, len(self._buffer) - len(_ROWS_END)))
            if last >= 0:
                rows = bytes(self._buffer[: last + 1])
                self._position = last + 1
                self._forget()
                yield rows
            if not self._read():
                raise RestoreFailed("the archive's script ends within the rows of a table")


class _Nesting:
    """How deep in parentheses and in the bodies of SQL functions a statement is."""

    def __init__(self) -> None:
        self._depth = 0
        self._bodies = 0
        self._words: list[bytes] = []

    def ends(self, token: "re.Match[bytes]") -> bool:
        """Whether the token ends the statement."""
        match token.lastgroup:
            case "end":
                return not self._depth and not self._bodies
            case "open":
                self._depth += 1
            case "close":
                self._depth = max(0, self._depth - 1)
            case "word":
                self._word(token[0].upper())
        return False

    def _word(self, word: bytes) -> None:
        if len(self._words) < _FIRST_WORDS:
            self._words.append(word)
        if self._depth or not self._makes_routine():
            return
        if word == b"BEGIN" or (self._bodies and word == b"CASE"):
            self._bodies += 1
        elif word == b"END" and self._bodies:
            self._bodies -= 1

    def _makes_routine(self) -> bool:
        """Whether it makes a function or procedure, whose body may have semicolons."""
        words = [word for word in self._words if word not in (b"OR", b"REPLACE")]
        return words[:2] in ([b"CREATE", b"FUNCTION"], [b"CREATE", b"PROCEDURE"])


def _entry(found: "re.Match[bytes]") -> Entry:
    kind, name, schema = (found[part].decode(errors="replace") for part in ("kind", "name", "schema"))
    return Entry(kind, name, "" if schema == "-" else schema)
