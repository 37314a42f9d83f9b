"""The drawing of a repository's growth: valid, readable by whoever cannot see it, and true to its figures."""

from datetime import date, timedelta
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from penstock.cli.output.growth import growth

SVG = "{http://www.w3.org/2000/svg}"


def nights(*figures: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Of so many days after the first, with what lasts and the sizes of dumps."""
    first = date(2026, 2, 20)
    return [
        {"day": (first + timedelta(days=day)).isoformat(), "lasting": lasting, "size": size}
        for day, lasting, size in figures
    ]


def drawn(of_nights: list[dict[str, Any]], of: str = "main") -> ElementTree.Element:
    return ElementTree.fromstring(growth(of_nights, of).encode())


def lines(root: ElementTree.Element) -> dict[str, list[tuple[float, float]]]:
    """The points of the two lines, by the class of each."""
    found = {}
    for line in root.iter(f"{SVG}polyline"):
        points = [point.split(",") for point in line.attrib["points"].split()]
        found[line.attrib["class"]] = [(float(x), float(y)) for x, y in points]
    return found


def texts(root: ElementTree.Element) -> list[str]:
    return [str(one.text) for one in root.iter(f"{SVG}text")]


def test_two_lines_grow_as_the_figures_do() -> None:
    root = drawn(nights((0, 1000, 4000), (1, 500, 4000), (3, 500, 4000)))
    stored, dumps = (lines(root)[f"line {name}"] for name in ("stored", "dumps"))
    for line in (stored, dumps):
        assert all(left[0] <= right[0] and left[1] >= right[1] for left, right in pairwise(line))
    assert [x for x, _ in stored] == [x for x, _ in dumps]
    # Two days between the second and the third, one between the first and the second.
    days = [x for x, _ in stored]
    assert days[2] - days[1] == pytest.approx(2 * (days[1] - days[0]), abs=0.2)
    # 2000 of 12000 bytes.
    zero = max(float(line.attrib["y1"]) for line in root.iter(f"{SVG}line") if line.attrib["class"] == "grid")
    assert zero - stored[-1][1] == pytest.approx((zero - dumps[-1][1]) / 6, abs=0.2)
    assert {"2026-02-20", "2026-02-23", "stored: 2.0 KiB", "dumps together: 11.7 KiB"} <= set(texts(root))


def test_it_is_told_to_whoever_cannot_see_it() -> None:
    root = drawn(nights((0, 1 << 20, 1 << 21), (9, 0, 1 << 21)))
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert title.text == "Growth of main"
    assert description.text == "From 2026-02-20 to 2026-03-01, 1.0 MiB were stored for dumps of 4.0 MiB in all."
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], description.attrib["id"]]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a"b&c', "a\x00b\x1b[31m", "café"])
def test_a_hostile_name_is_text(name: str) -> None:
    root = drawn(nights((0, 1, 1)), name)
    assert not list(root.iter(f"{SVG}script"))
    assert texts(root)[0].startswith("Growth of ")
    assert not {"\x00", "\x1b"} & set(texts(root)[0])


@pytest.mark.parametrize("figures", [(), ((0, 0, 0),), ((0, 5, 3),), ((0, 1 << 60, 1 << 62), (4000, 1, 1))])
def test_every_number_of_nights_is_drawn_within_the_picture(figures: tuple[tuple[int, int, int], ...]) -> None:
    root = drawn(nights(*figures))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    points = [point for line in lines(root).values() for point in line]
    assert bool(points) == bool(figures)
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert len(texts(root)) < 25
    if not figures:
        assert "No snapshots yet." in texts(root)
