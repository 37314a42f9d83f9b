"""Where tables say that they are stored: general tablespaces (MySQL), DATA DIRECTORY and INDEX DIRECTORY.

A server takes such a table only where the tablespace exists, and the folder is one that it may use. So a dump records
what its tables name, and a restore takes out what its server refuses: the table and its rows are worth more.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

__all__ = ["CreateTables", "Place", "RecordedSpace", "changed", "places_of", "without"]

_BEGIN = b"\nCREATE TABLE `"
_END = b";\n"
#: No CREATE TABLE is longer (bytes).
_LONGEST = 16 << 20
#: They exist in every server.
_OWN_SPACES = {"innodb_system", "innodb_file_per_table", "innodb_temporary"}

_QUOTED = rb"'(?:[^'\\]|\\.|'')*'"
_NAME = rb"`(?:[^`]|``)*`"
_TOKEN = re.compile(
    rb"(?P<space>\s*/\*!\d* TABLESPACE (?P<name>%b)(?: STORAGE \w+)? \*/|\s+TABLESPACE ?=? ?(?P<partition>%b))"
    rb"|(?P<folder>\s+(?:DATA|INDEX) DIRECTORY ?= ?(?P<path>%b))|%b|%b" % (_NAME, _NAME, _QUOTED, _QUOTED, _NAME),
    re.DOTALL,
)
_TABLE = re.compile(rb"CREATE TABLE (%b)" % _NAME)
_ENGINE = re.compile(rb"\n\)[^\n]*? ENGINE ?= ?(\w+)")

Kind = Literal["tablespace", "folder"]


@dataclass(frozen=True, slots=True)
class RecordedSpace:
    """A general tablespace as a dump records it; `block_size` in bytes, 0 for that of the server."""

    name: str
    file: str = ""
    block_size: int = 0
    encrypted: bool = False

    @property
    def file_name(self) -> str:
        """Of its file, in the server's data folder: other folders may be missing on another server."""
        found = re.fullmatch(r"(?:.*/)?([^/\\\0]+\.ibd)", self.file, re.DOTALL)
        return found[1] if found else f"{re.sub(r'[^A-Za-z0-9_-]', '_', self.name)}.ibd"

    def statement(self, file: str) -> str:
        """What makes it; `file` is the quoted `file_name`."""
        name = "`{}`".format(self.name.replace("`", "``"))
        size = f" FILE_BLOCK_SIZE = {self.block_size}" if self.block_size else ""
        encrypted = " ENCRYPTION = 'Y'" if self.encrypted else ""
        return f"CREATE TABLESPACE {name} ADD DATAFILE {file}{size}{encrypted}"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """That a table is stored in a tablespace or a folder, `value`; as a dump has it."""

    kind: Kind
    value: str
    table: str
    engine: str

    @property
    def scope(self) -> Self:
        """What decides whether a server takes it: InnoDB keeps databases apart in a folder, others do not."""
        return self if self.kind == "folder" and self.engine != "InnoDB" else type(self)(self.kind, self.value, "", "")


def places_of(statement: bytes) -> Iterator[Place]:
    """What a CREATE TABLE names, each once."""
    table = _TABLE.match(statement)
    engine = _ENGINE.search(statement)
    seen = set()
    for found in _TOKEN.finditer(statement):
        if what := _named(found):
            kind, value = what
            one = Place(kind, value, _plain(table[1]) if table else "", engine[1].decode() if engine else "")
            if one not in seen:
                seen.add(one)
                yield one


def without(statement: bytes, refused: Collection[Place]) -> bytes:
    """The CREATE TABLE without what names a place of which the `scope` is `refused`."""
    places = {(one.kind, one.value) for one in places_of(statement) if one.scope in refused}

    def kept(found: re.Match[bytes]) -> bytes:
        what = _named(found)
        return b"" if what in places else found[0]

    return _TOKEN.sub(kept, statement) if places else statement


class CreateTables:
    """Gives each CREATE TABLE of a dump, which passes in blocks, to `change`, and passes on what that returns."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self._change = change
        self._held = b""
        self._inside = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        """What is known to be whole by now."""
        held = self._held + block
        while True:
            if not self._inside:
                at = held.find(_BEGIN)
                # What may be the beginning of one stays until the next block has come.
                cut = at + 1 if at >= 0 else max(len(held) - len(_BEGIN) + 1, 0)
                yield held[:cut]
                held = held[cut:]
                if at < 0:
                    break
                self._inside = True
            end = held.find(_END)
            if end < 0 and len(held) <= _LONGEST:
                break
            # The line break behind it may begin the next one.
            end = end + 1 if end >= 0 else len(held)
            yield self._change(held[:end])
            held = held[end:]
            self._inside = False
        self._held = held

    def end(self) -> bytes:
        """What was held back."""
        return self._held


def changed(blocks: Iterable[bytes], change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """The blocks of a dump with each CREATE TABLE as `change` returns it."""
    passing = CreateTables(change)
    for block in blocks:
        yield from passing.feed(block)
    yield passing.end()


def _named(found: re.Match[bytes]) -> tuple[Kind, str] | None:
    if name := found["name"] or found["partition"]:
        value = _plain(name)
        return None if value in _OWN_SPACES else ("tablespace", value)
    if path := found["path"]:
        text = re.sub(rb"\\(.)|'(')", lambda one: one[1] or one[2], path[1:-1], flags=re.DOTALL)
        # The servers write one folder with a slash at its end for a table, and without one for a partition.
        return "folder", text.decode(errors="replace").rstrip("/") or "/"
    return None


def _plain(name: bytes) -> str:
    return name[1:-1].replace(b"``", b"`").decode(errors="replace")
