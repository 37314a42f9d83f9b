import io
import json
import sys

import pytest

from penstock.api import Event, EventKind
from penstock.cli.output.console import Output
from penstock.cli.output.progress import JsonProgress, PlainProgress
from penstock.cli.output.units import amount, count, duration, moment, printable, table


def progress(done: int, total: int | None = None) -> Event:
    return Event(EventKind.PROGRESS, "backup", "shop", "a.dump", done, total)


class Clock:
    """A time that tests set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("penstock.cli.output.progress.time.monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 40, "1.0 TiB"), (None, "?")],
)
def test_amounts(size: int | None, text: str) -> None:
    assert amount(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.9, "9.9 s"), (59.7, "60 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_moments() -> None:
    assert count(1, "stream") == "1 stream"
    assert count(1200, "row") == "1,200 rows"
    assert count(2, "repository", "repositories") == "2 repositories"
    assert moment("2025-03-01T02:00:17Z") == "2025-03-01 02:00:17"


def test_a_hostile_name_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == "a?[2Jb c?d"
    (_, row) = table(("NAME",), [("x\x1b]0;owned\x07y",)])
    assert row == "x?]0;owned?y"


def test_tables_are_aligned_also_with_wide_characters() -> None:
    assert table(("A", "N"), [("表", "1"), ("abc", "22")], right=(1,)) == ["A     N", "表    1", "abc  22"]


def test_a_log_gets_phases_and_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    shown = PlainProgress(lines.append)
    shown.take(Event(EventKind.STARTED, "backup", "shop"))
    for _ in range(240):
        clock.now += 0.1
        shown.take(progress(round((clock.now - 1000) * 1024**2), 48 * 1024**2))
    shown.take(Event(EventKind.NOTE, "backup", "shop", message="not used: packs/aa"))
    shown.take(Event(EventKind.COMPLETED, "backup", "shop", message="snapshot x"))
    assert [line.split(",")[0] for line in lines] == [
        "backup shop: started",
        "backup shop: 10.0 MiB of about 48.0 MiB",
        "backup shop: 20.0 MiB of about 48.0 MiB",
        "backup shop: not used: packs/aa",
        "backup shop: completed in 24 s",
    ]
    assert lines[1].endswith(", 1.0 MiB/s, about 38 s left")


def test_an_estimate_that_was_too_small_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    shown = PlainProgress(lines.append)
    shown.take(Event(EventKind.STARTED, "backup", "shop"))
    clock.now += 20
    shown.take(progress(2048, 1024))
    assert lines[1] == "backup shop: 2.0 KiB, 102 B/s"


def test_json_events_are_lines_at_most_one_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    shown = JsonProgress(lines.append)
    for _ in range(30):
        clock.now += 0.1
        shown.take(progress(10))
    assert 3 <= len(lines) <= 4
    assert json.loads(lines[0])["event"]["stream"] == "a.dump"


def test_an_event_of_failure_quotes_nothing() -> None:
    lines: list[str] = []
    for shown in (PlainProgress(lines.append), JsonProgress(lines.append)):
        shown.take(Event(EventKind.FAILED, "backup", "shop", message="SEKRET"))
    assert len(lines) == 2
    assert "SEKRET" not in "".join(lines)


def test_json_holds_what_was_done_before_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    from penstock.api import PartialFailure

    output = Output(json=True)
    output.result({"backups": [1]}, lambda _: ["never shown"])
    output.warning("careful")
    output.failure(PartialFailure("half", details=("one",)))
    out, err = capsys.readouterr()
    assert json.loads(out)["backups"] == [1]
    assert json.loads(out)["error"]["details"] == ["one"]
    assert json.loads(err) == {"warning": "careful"}


def test_quiet_keeps_warnings_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(quiet=True)
    with output.progress() as listen:
        listen(Event(EventKind.STARTED, "backup", "shop"))
        output.note("unheard")
        output.warning("heard")
    output.result({"a": 1}, lambda document: [f"a is {document['a']}"])
    out, err = capsys.readouterr()
    assert out == "a is 1\n"
    assert err == "penstock: warning: heard\n"


def test_a_closed_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    Output().warning("nobody hears")
