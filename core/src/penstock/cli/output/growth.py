"""A drawing of how a repository grew, as SVG: two lines over the days, for light and dark pages."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import accumulate
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from penstock.cli.output.units import amount, printable

__all__ = ["growth"]

_WIDTH, _HEIGHT = 760, 380
#: Of the area of the lines.
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 740, 72, 330
#: Distances between marks on the axes, at most so many of them.
_MOST_MARKS = 6
_STYLE = """
    text { font: 12px sans-serif; fill: #333; }
    .title { font-size: 15px; font-weight: bold; }
    .grid { stroke: #8886; stroke-width: 1; }
    .line, circle { fill: none; stroke-width: 2; }
    .stored { stroke: #0969a8; }
    .dumps { stroke: #b4530a; stroke-dasharray: 6 3; }
    @media (prefers-color-scheme: dark) {
      text { fill: #ddd; }
      .stored { stroke: #58b4f0; }
      .dumps { stroke: #f0a050; }
    }
"""


class _Point(NamedTuple):
    day: date
    stored: int
    dumps: int


def growth(nights: Sequence[Mapping[str, Any]], of: str) -> str:
    """The document; `nights` as in that of `stats`, `of` names what is shown.

    One line is what is stored for the snapshots that are kept, the other the sum of the sizes of their dumps.
    """
    return "\n".join(_document(_points(nights), printable(of))) + "\n"


def _points(nights: Sequence[Mapping[str, Any]]) -> list[_Point]:
    days = [date.fromisoformat(one["day"]) for one in nights]
    stored = accumulate(one["lasting"] for one in nights)
    dumps = accumulate(one["size"] for one in nights)
    return [_Point(*point) for point in zip(days, stored, dumps, strict=True)]


def _document(points: Sequence[_Point], of: str) -> Iterator[str]:
    title = f"Growth of {of}"
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-labelledby="title description">'
    )
    yield f'  <title id="title">{escape(title)}</title>'
    yield f'  <desc id="description">{escape(_told(points))}</desc>'
    yield f"  <style>{_STYLE}  </style>"
    yield f'  <text class="title" x="{_LEFT}" y="24">{escape(title)}</text>'
    if points:
        yield from _legend(points[-1])
        yield from _Chart(points).drawn()
    else:
        yield f'  <text x="{_LEFT}" y="{_TOP}">No snapshots yet.</text>'
    yield "</svg>"


def _told(points: Sequence[_Point]) -> str:
    """The drawing in words, for whoever cannot see it."""
    if not points:
        return "There are no snapshots yet."
    last = points[-1]
    return (
        f"From {points[0].day} to {last.day}, {amount(last.stored)} were stored for dumps of {amount(last.dumps)} "
        "in all."
    )


def _legend(last: _Point) -> Iterator[str]:
    said = (("stored", f"stored: {amount(last.stored)}"), ("dumps", f"dumps together: {amount(last.dumps)}"))
    for number, (name, text) in enumerate(said):
        x = _LEFT + 250 * number
        yield f'  <line class="line {name}" x1="{x}" y1="46" x2="{x + 28}" y2="46"/>'
        yield f'  <text x="{x + 36}" y="50">{escape(text)}</text>'


class _Chart:
    def __init__(self, points: Sequence[_Point]) -> None:
        self._points = points
        self._first = points[0].day.toordinal()
        self._days = points[-1].day.toordinal() - self._first
        most = max(point.dumps for point in points), max(point.stored for point in points)
        self._step = _step(max(*most, 1))
        self._marks = -(-max(*most, 1) // self._step)

    def drawn(self) -> Iterator[str]:
        """Axes and lines."""
        for number in range(self._marks + 1):
            y = self._y(number * self._step)
            yield f'  <line class="grid" x1="{_LEFT}" y1="{y}" x2="{_RIGHT}" y2="{y}"/>'
            yield f'  <text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{amount(number * self._step)}</text>'
        for day in self._days_shown():
            anchor = "end" if day == self._days and day else "start" if day == 0 else "middle"
            text = date.fromordinal(self._first + day).isoformat()
            yield f'  <text x="{self._x(day)}" y="{_BOTTOM + 22}" text-anchor="{anchor}">{text}</text>'
        yield f'  <text x="{(_LEFT + _RIGHT) // 2}" y="{_HEIGHT - 6}" text-anchor="middle">day (UTC)</text>'
        for name in ("dumps", "stored"):
            places = [(point.day.toordinal() - self._first, getattr(point, name)) for point in self._points]
            drawn = " ".join(f"{self._x(day)},{self._y(size)}" for day, size in [*places, (self._days, places[-1][1])])
            yield f'  <polyline class="line {name}" points="{drawn}"/>'
            yield f'  <circle class="{name}" cx="{self._x(self._days)}" cy="{self._y(places[-1][1])}" r="2.5"/>'

    def _days_shown(self) -> list[int]:
        if not self._days:
            return [0]
        marks = min(self._days, _MOST_MARKS - 1)
        return sorted({round(self._days * number / marks) for number in range(marks + 1)})

    def _x(self, day: int) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * day / max(1, self._days), 1)

    def _y(self, size: int) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * size / (self._marks * self._step), 1)


def _step(most: int) -> int:
    """A round number of bytes: 1, 2, 5, 10, 20, 50, 100, 200 or 500 of a unit."""
    unit = 1
    while True:
        for digits in (1, 2, 5, 10, 20, 50, 100, 200, 500):
            if digits * unit * (_MOST_MARKS - 1) >= most:
                return digits * unit
        unit *= 1024
