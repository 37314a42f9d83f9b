"""What the text of a dump program shows as it passes: what a restore must know, and rows that no server takes back."""

import json
import re
from dataclasses import dataclass

from penstock.api import LeftOut, StreamOutcome
from penstock_mysql.expressions import Expression, expressions_of
from penstock_mysql.tablespaces import CreateTables, Place, places_of

__all__ = ["FRAME", "LARGEST_ROW", "Watch"]

#: What a statement takes beside its row, at most (bytes).
FRAME = 1024
#: What max_allowed_packet can be raised to leaves for a row (bytes).
LARGEST_ROW = (1 << 30) - FRAME
#: Tables of which it is recorded where they are stored.
_PLACES = 1000
#: Generated columns of which it is recorded what they are.
_EXPRESSIONS = 500
#: Rows have some length, and are recorded, from here on (bytes).
_RECORDED_ROW = 1 << 20
_INSERT = b"\nINSERT INTO "
_TABLE = re.compile(rb"`(?:[^`]|``)*`")
#: A name of 64 characters, each of them quoted or of four bytes, and what stands before it.
_CARRIED = 600


@dataclass(frozen=True, slots=True)
class _Row:
    """A statement with a row that is too large: its bytes in the stream, `end` excluded."""

    start: int
    end: int
    table: str


class Watch:
    """Sees the text of one database in blocks."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._rows: list[_Row] = []
        self._places: list[Place] = []
        self._expressions: list[Expression] = []
        self._tables = CreateTables(self._see_table)
        self._done = 0
        self._carried = b""
        self._line_bytes = self._longest = 0
        #: Of the statement at hand: where it begins, and its table.
        self._insert = (0, "a table")

    def see(self, block: memoryview) -> None:
        """The next block."""
        # In parts, so that a line of more than a mebibyte is in several of them, however it comes.
        for at in range(0, len(block), _RECORDED_ROW):
            self._see(bytes(block[at : at + _RECORDED_ROW]))

    def _see(self, block: bytes) -> None:
        for _ in self._tables.feed(block):
            pass
        first = block.find(b"\n")
        length = self._line_bytes + (first if first >= 0 else len(block))
        if first >= 0 and length > LARGEST_ROW:
            # The dump programs begin another INSERT for a row as long as that: there is nothing else in it.
            start, table = self._insert
            self._rows.append(_Row(start, self._done + first + 1, table))
        elif first >= 0:
            self._longest = max(self._longest, length)
        last = block.rfind(b"\n")
        self._line_bytes = len(block) - last - 1 if last >= 0 else length
        text = self._carried + block
        if (at := text.rfind(_INSERT)) >= 0:
            found = _TABLE.match(text, at + len(_INSERT))
            table = found[0][1:-1].replace(b"``", b"`").decode(errors="replace") if found else "a table"
            self._insert = (self._done - len(self._carried) + at + 1, table)
        self._carried = text[-_CARRIED:]
        self._done += len(block)

    def outcome(self) -> StreamOutcome:
        """What was seen, when all has passed."""
        attributes = {"longest_row": str(self._longest)} if self._longest > _RECORDED_ROW else {}
        if self._places:
            found = [[one.kind, one.value, one.table, one.engine] for one in self._places]
            attributes["places"] = json.dumps(found, ensure_ascii=False)
        if self._expressions:
            texts = [[one.table, one.columns, one.text] for one in self._expressions]
            attributes["expressions"] = json.dumps(texts, ensure_ascii=False)
        if self._rows:
            ranges = [[one.start, one.end, one.table] for one in self._rows]
            attributes["too_large"] = json.dumps(ranges, ensure_ascii=False)
        size = f"{LARGEST_ROW + FRAME >> 20} MiB"
        reason = (
            f"it takes more than {size} in a dump, and no server takes it back: binary data takes twice its size. It "
            "is in the snapshot, and a restore leaves it out"
        )
        return StreamOutcome(
            attributes, left_out=tuple(LeftOut("row of", one.table, reason, "", self._database) for one in self._rows)
        )

    def _see_table(self, statement: bytes) -> bytes:
        self._expressions += [*expressions_of(statement)][: _EXPRESSIONS - len(self._expressions)]
        self._places += [*places_of(statement)][: _PLACES - len(self._places)]
        return statement
