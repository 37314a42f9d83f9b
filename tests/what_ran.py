"""The table at the end of a run: what ran where, with the versions that servers and programs told of themselves.

Everything travels in the properties of reports, which pytest-xdist takes from its workers to where the table is
written; nothing is kept in between.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import pytest
from tests.servers import versions

COLUMNS = ("SOURCE", "CLIENT", "SINK")
#: What a test may note besides: figures, and the name of its cell in the matrix of sources and sinks.
_MORE = ("FIGURES", "CELL")
_MARK = "ran:"


@pytest.fixture
def ran(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Notes what a test ran with, for the table at the end: `ran(SOURCE=…, CLIENT=…, SINK=…, FIGURES=…)`."""

    def note(**columns: str) -> None:
        for name, value in columns.items():
            assert name in (*COLUMNS, "FIGURES")
            record_property(_MARK + name, value)

    return note


def pytest_configure(config: pytest.Config) -> None:
    """Let tests be marked as cells of the matrix."""
    config.addinivalue_line("markers", "cell(name): the test is one cell of the matrix of sources and sinks")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Name the cell of the matrix before anything of it is set up: one that is skipped is in the table, too."""
    if cell := item.get_closest_marker("cell"):
        item.user_properties.append((f"{_MARK}CELL", cell.args[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Note the servers that a test got from fixtures, unless it noted by itself what it runs with."""
    noted = _noted(item.user_properties)
    found: dict[str, set[str]] = {}
    for value in getattr(item, "funcargs", {}).values():
        for column, text in versions.of_fixture(value).items():
            found.setdefault(column, set()).add(text)
    for column, texts in found.items():
        if column not in noted:
            item.user_properties.append((_MARK + column, " + ".join(sorted(texts))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table."""
    reports = [
        (outcome, report)
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)
    ]
    lines = table(reports)
    if lines:
        terminalreporter.write_sep("=", "what ran where")
    for line in lines:
        terminalreporter.write_line(line)


def table(reports: Iterable[tuple[str, pytest.TestReport]]) -> list[str]:
    """Its lines, from reports with the outcomes that they are counted as; none where no test had a server."""
    rows: dict[tuple[str, ...], tuple[int, float]] = {}
    for outcome, report in reports:
        noted = _noted(report.user_properties)
        if noted and report.when in ("call", "setup"):
            more = _reason(report) if outcome == "skipped" else noted.get("FIGURES", "")
            row = (_what(report, noted), *(noted.get(column, "-") for column in COLUMNS), outcome, more)
            count, seconds = rows.get(row, (0, 0.0))
            rows[row] = (count + 1, seconds + report.duration)
    if not rows:
        return []
    cells: list[tuple[str, ...]] = [("TEST", *COLUMNS, "RESULT", "SECONDS", "")]
    cells += [
        (*row[:-2], f"{count} {row[-2]}", f"{seconds:.1f}", row[-1]) for row, (count, seconds) in sorted(rows.items())
    ]
    return list(_aligned(cells))


def _noted(properties: Iterable[tuple[str, object]]) -> dict[str, str]:
    return {name.removeprefix(_MARK): str(value) for name, value in properties if name.startswith(_MARK)}


def _what(report: pytest.TestReport, noted: dict[str, str]) -> str:
    """What a row is called: its cell, a plugin's own tests all together, or else the test."""
    if "CELL" in noted:
        return f"matrix: {noted['CELL']}"
    file, _, test = report.nodeid.partition("::")
    if file.startswith("plugins/"):
        return file.partition("/tests/")[0]
    test = re.sub(r"@[^@\]]*$", "", test)  # the group of the workers that it belongs to
    return test if "FIGURES" in noted else test.partition("[")[0]


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")


def _aligned(cells: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
