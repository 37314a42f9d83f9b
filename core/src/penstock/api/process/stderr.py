"""What a child writes to stderr: kept in part, and shown without secrets."""

import re
from collections.abc import Sequence
from typing import IO
from urllib.parse import quote

from penstock.api.process.drain import Drain
from penstock.api.secrets import Secret

__all__ = ["STDERR_BYTES", "STDERR_LINES", "STDERR_LINE_BYTES", "Stderr"]

#: How much of stderr is kept, and how much of that is shown at most.
STDERR_BYTES = 16 * 1024
STDERR_LINES = 20
#: Of a line that has more, such as a statement that names ten thousand tables, only the beginning is kept and shown.
STDERR_LINE_BYTES = 2000

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Stderr(Drain):
    """The drained stderr of a child, of which the last lines are shown without `secrets`."""

    def __init__(self, pipe: IO[bytes], secrets: Sequence[Secret], name: str) -> None:
        self._hidden = _patterns(secrets)
        self._longest = max(map(len, self._hidden), default=0)
        # A secret that begins in what is shown of a line is kept whole, and so is one that goes on in the next line.
        self._head = STDERR_LINE_BYTES + self._longest
        self._end = self._longest + len("\r\n")
        self._line = bytearray()
        self._lost = False
        super().__init__(pipe, STDERR_BYTES + self._longest, name)

    def last_lines(self) -> tuple[str, ...]:
        """The last lines, complete after `finish()`; control characters are replaced, empty lines left out."""
        kept = bytes(self.tail + self._line)
        tail = kept[-self._keep :]
        lost = self._lost or len(tail) < len(kept)
        covered = _covered(tail, self._hidden)
        lines: list[str] = []
        end = 0
        for number, raw in enumerate(tail.splitlines(keepends=True)):
            start, end = end, end + len(raw)
            # When the beginning is lost, the first bytes may be the rest of a secret that no longer matches, and of the
            # first line nobody knows how much of it is there.
            if lost and number == 0:
                continue
            begin = max(start, self._longest if lost else 0)
            text = _masked(tail, covered, begin, min(end, start + STDERR_LINE_BYTES)).decode("utf-8", "replace")
            if len(raw) > STDERR_LINE_BYTES:
                text += " …"
            lines += (_UNPRINTABLE.sub("?", line).rstrip() for line in text.splitlines())
        return tuple(line for line in lines if line)[-STDERR_LINES:]

    def _take(self, block: bytes) -> None:
        for part in block.splitlines(keepends=True):
            self._line += part
            if len(self._line) > self._head + self._end:
                del self._line[self._head : -self._end]
            if part.endswith((b"\n", b"\r")):
                self.tail += self._line
                self._line.clear()
        self._lost = self._lost or len(self.tail) > self._keep
        del self.tail[: -self._keep]


def _patterns(secrets: Sequence[Secret]) -> tuple[bytes, ...]:
    """What to hide: each secret as it is, and as a URL in an error message would show it."""
    texts = [secret.reveal() for secret in secrets]
    texts += [quote(text, safe="") for text in texts]
    return tuple({text.encode("utf-8", "surrogateescape") for text in texts if text})


def _covered(text: bytes, patterns: Sequence[bytes]) -> bytearray:
    """A byte for each of `text`: 1 where any of `patterns` covers it, also where they overlap."""
    covered = bytearray(len(text))
    for pattern in patterns:
        at = text.find(pattern)
        while at >= 0:
            covered[at : at + len(pattern)] = b"\1" * len(pattern)
            at = text.find(pattern, at + 1)
    return covered


def _masked(text: bytes, covered: bytes | bytearray, begin: int, end: int) -> bytes:
    """`text` from byte `begin` to `end`, with `***` for whatever is covered."""
    runs = re.compile(rb"\x00+|\x01+").finditer(covered, begin, end)
    return b"".join(b"***" if covered[run.start()] else text[run.start() : run.end()] for run in runs)
