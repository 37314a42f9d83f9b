"""Numbers and texts as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["Prose", "age", "amount", "count", "duration", "moment", "printable", "rows", "table", "wrapped"]

_DAY = 86_400
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def amount(size: float | None) -> str:
    """Bytes: `0 B`, `4.2 MiB`; `?` if unknown."""
    if size is None:
        return "?"
    for unit in _UNITS:
        if size < 1023.95 or unit == _UNITS[-1]:
            return f"{int(size)} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 stream`, `2 streams`, `1,200 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rows(number: int | None, *, exact: bool) -> str:
    """`1,200`; an estimate as `~1,200`; nothing if unknown."""
    return "" if number is None else f"{'' if exact else '~'}{number:,}"


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def age(stamp: str) -> str:
    """How long ago that was: `2 h 05 min`, `3 days`; `no time` for what is yet to come, or no time at all."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    except (ValueError, TypeError):
        return "no time"
    if seconds < 0:
        return "no time"
    return duration(seconds) if seconds < 2 * _DAY else count(int(seconds // _DAY), "day")


def moment(stamp: str) -> str:
    """An ISO 8601 time in UTC, easier on the eye: `2025-03-01 02:00:17`."""
    return stamp.replace("T", " ").removesuffix("Z").partition(".")[0]


def printable(text: str) -> str:
    """`text` without control characters: names come from databases and repositories, which may be hostile."""
    return "".join(" " if char in "\t\n\r" else char if char.isprintable() else "?" for char in text)


class Prose(str):
    """A line that may be wrapped at words where it is shown, unlike one of a table or a statement."""

    __slots__ = ()


def wrapped(line: str, width: int) -> list[str]:
    """`line` as lines of at most `width` cells, broken at spaces only; those that follow are indented by two more.

    A word that is longer, such as a path, keeps a line to itself: whoever copies it gets all of it.
    """
    from rich.cells import cell_len

    if cell_len(line) <= width:
        return [line]
    if not line.strip():
        return [""]
    indent = " " * (len(line) - len(line.lstrip(" ")))
    lines: list[str] = []
    current = indent
    for word in line.split():
        joined = f"{current}{word}" if not current.strip() else f"{current} {word}"
        if current.strip() and cell_len(joined) > width:
            lines.append(current)
            current = f"{indent}  {word}"
        else:
            current = joined
    return [*lines, current]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of aligned columns; the columns `right` are right-aligned."""
    # Not rich.table, whose import takes a fifth of the time of a short command.
    from rich.cells import cell_len

    cells = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        padded = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - cell_len(cell))
            padded.append(space + cell if column in right else cell + space)
        lines.append("  ".join(padded).rstrip())
    return lines
