import errno
import io
import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from penstock.api import Event, EventKind, Interrupted
from penstock.cli.output import views
from penstock.cli.output.console import Output
from penstock.cli.output.pace import Phase
from penstock.cli.output.progress import JsonProgress, PlainProgress
from penstock.cli.output.terminal import TerminalProgress, line
from penstock.cli.output.units import amount, count, duration, moment, printable, table, wrapped


def progress(done: int, total: int | None = None) -> Event:
    return Event(EventKind.PROGRESS, "backup", "shop", "a.dump", done, total)


class Clock:
    """A time that tests set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("penstock.cli.output.progress.time.monotonic", lambda: self.now)
        monkeypatch.setattr("penstock.cli.output.pace.time.monotonic", lambda: self.now)


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


def event(kind: EventKind, **fields: Any) -> Event:
    return Event(kind, "restore", "shop", **fields)


def test_each_phase_counts_from_its_own_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    shown = PlainProgress(lines.append)
    shown.take(event(EventKind.STARTED))
    for phase in ("verifying", "restoring"):
        shown.take(event(EventKind.PHASE, phase=phase, total=40 << 20))
        clock.now += 20
        shown.take(event(EventKind.PROGRESS, phase=phase, done=20 << 20, total=40 << 20))
    assert lines == [
        "restore shop: started",
        "restore shop: verifying",
        "restore shop: verifying: 20.0 MiB of about 40.0 MiB, 1.0 MiB/s, about 20 s left",
        "restore shop: restoring",
        "restore shop: restoring: 20.0 MiB of about 40.0 MiB, 1.0 MiB/s, about 20 s left",
    ]


def test_retries_are_told_at_most_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    shown = PlainProgress(lines.append)
    for number in range(1, 22):
        shown.take(event(EventKind.RETRY, message="packs/aa: no answer", retries=number))
        clock.now += 1
    assert lines == [
        "restore shop: tried again: packs/aa: no answer (once so far)",
        "restore shop: tried again: packs/aa: no answer (11 times so far)",
        "restore shop: tried again: packs/aa: no answer (21 times so far)",
    ]


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (
            120,
            (
                "restore shop: restoring a.dump  ━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   25 %  30 s left"
                "  10.0 MiB of about 40.0 MiB  1.0 MiB/s"
            ),
        ),
        (95, "restore shop: restoring a.dump   25 %  30 s left  10.0 MiB of about 40.0 MiB  1.0 MiB/s"),
        (80, "restore shop: restoring a.dump   25 %  30 s left  10.0 MiB of about 40.0 MiB"),
        (60, "restore shop: restoring a.dump  ━━╌╌╌╌╌╌╌╌   25 %  30 s left"),
        (40, "restore shop: restori…   25 %  30 s left"),
        (20, " 25 %  30 s left"),
    ],
)
def test_percentage_and_remaining_time_survive_on_a_narrow_terminal(width: int, text: str) -> None:
    at = event(EventKind.PROGRESS, done=10 << 20, total=40 << 20)
    assert line("restore shop: restoring a.dump", Phase("restoring", 1000), at, 1010, width) == text
    assert cell_len(text) <= width


def test_a_bar_begins_at_nothing_and_knows_no_more_than_it_is_told() -> None:
    begun = event(EventKind.PHASE, total=40 << 20)
    assert line("restore", Phase("restoring", 1000), begun, 1000, 50) == "restore  " + "╌" * 30 + "    0 %"
    unknown = event(EventKind.PROGRESS, done=1 << 20, retries=2)
    assert line("restore", Phase("restoring", 1000), unknown, 1010, 50) == "restore  1.0 MiB  102.4 KiB/s  2 retries"


def test_a_terminal_is_shown_phases_and_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    with TerminalProgress(notes=True) as shown:
        shown.take(event(EventKind.STARTED))
        shown.take(event(EventKind.PHASE, phase="restoring", total=100))
        shown.take(event(EventKind.NOTE, message="worth knowing"))
        shown.take(event(EventKind.RETRY, message="no answer", retries=1))
        shown.take(event(EventKind.PROGRESS, phase="restoring", stream="a\x1b[2J", done=50, total=100))
    text = stderr.getvalue()
    assert "restore shop: worth knowing\n" in text
    assert "restore shop: tried again: no answer\n" in text
    assert "restore shop: restoring a?[2J" in text
    assert " 50 %" in text


def test_json_events_say_which_run_when_and_in_which_phase() -> None:
    lines: list[str] = []
    at = datetime(2025, 3, 1, 2, 0, 17, 250_000, tzinfo=UTC)
    JsonProgress(lines.append).take(event(EventKind.PHASE, run="ab" * 16, time=at, phase="verifying", retries=3))
    assert json.loads(lines[0])["event"] == {
        "kind": "phase",
        "operation": "restore",
        "run": "ab" * 16,
        "time": "2025-03-01T02:00:17.250Z",
        "subject": "shop",
        "phase": "verifying",
        "stream": "",
        "stream_done": 0,
        "done": 0,
        "total": None,
        "retries": 3,
        "message": "",
        "figures": {},
    }


def test_a_warning_in_the_middle_is_said_once_in_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    warning = event(EventKind.WARNING, message="careful")
    for output in (Output(), Output(quiet=True), Output(json=True)):
        with output.progress() as listen:
            listen(warning)
    plain, quiet, json_line = capsys.readouterr().err.splitlines()
    assert plain == quiet == "penstock: warning: restore shop: careful"
    assert json.loads(json_line)["event"]["kind"] == "warning"


def test_a_result_of_many_is_told_at_once_and_kept_for_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.item("backups", {"name": "a"}, lambda document: [one["name"] for one in document["backups"]])
    assert capsys.readouterr().out == "a\n"
    output = Output(json=True)
    output.item("backups", {"name": "a"}, lambda _: ["never shown"])
    output.item("backups", {"name": "b"}, lambda _: ["never shown"])
    output.failure(Interrupted("interrupted by Ctrl-C"))
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["backups"]] == ["a", "b"]


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


def test_a_terminal_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    stderr = Gone()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = TerminalProgress(notes=True)
    with shown:
        shown.take(event(EventKind.STARTED))
        shown.take(event(EventKind.NOTE, message="nobody hears"))
        shown.take(event(EventKind.RETRY, message="no answer", retries=1))
    shown.abandon()


class Terminal(io.StringIO):
    """A stream that says it is a terminal; COLUMNS says how wide."""

    def isatty(self) -> bool:
        return True


@pytest.mark.slow
@given(st.lists(st.text("ab é漢", max_size=12)).map(" ".join), st.integers(1, 60))
@example("  ", 1)
def test_wrapping_loses_no_word_and_breaks_none(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert " ".join(lines).split() == text.split()
    for one in lines:
        # Longer than the width only where a single word is.
        assert cell_len(one) <= width or len(one.split()) == 1


def test_errors_and_hints_are_wrapped_at_words_for_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Interrupted(
        "the store of the backups does not answer",
        hint="Run penstock check --read-data and look at /srv/a/very/long/path/that/nobody/wants/broken.",
        details=("  indented detail that is longer than a line of this terminal",),
    )
    monkeypatch.setenv("COLUMNS", "40")
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        monkeypatch.setattr(sys, "stderr", stream)
        Output().failure(error)
        Output().warning("the clock of this host and that of the store differ")
    assert terminal.getvalue().splitlines() == [
        "penstock: error: the store of the",
        "  backups does not answer",
        "    indented detail that is longer than",
        "      a line of this terminal",
        "hint: Run penstock check --read-data and",
        "  look at",
        "  /srv/a/very/long/path/that/nobody/wants/broken.",
        "penstock: warning: the clock of this",
        "  host and that of the store differ",
    ]
    assert len(file.getvalue().splitlines()) == 4


def test_the_view_of_a_plan_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = {
        "kind": "view", "name": "public.orders_of_the_day", "database": "shop", "lost": True, "statement": None,
        "reason": "function public.today() does not exist, and nothing in the dump makes it",
    }  # fmt: skip
    plan = {
        "snapshot": "ab" * 16, "target": "postgresql://db.example.org:5432/shop_of_the_north_and_the_south",
        "streams": ["a", "b"], "size": 5 << 30, "steps": [{"action": "make the database shop and fill it"}],
        "needs": [{"kind": "extension", "name": "postgis", "met": False, "note": "left out with all that needs it"}],
        "left_out": [left_out],
    }  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    stdout = Terminal()
    monkeypatch.setattr(sys, "stdout", stdout)
    Output().result(plan, views.planned)
    assert stdout.getvalue().splitlines() == [
        "Snapshot abababab would be restored to",
        "  postgresql://db.example.org:5432/shop_of_the_north_and_the_south: 2 streams,",
        "  5.0 GiB",
        "  make the database shop and fill it",
        "Needed:",
        "  extension postgis: missing: left out with all that needs it",
        "Left out:",
        "  shop: view public.orders_of_the_day: function public.today() does not exist,",
        "    and nothing in the dump makes it",
        "Nothing was changed.",
    ]


def test_where_nothing_is_counted_the_time_moves() -> None:
    finishing = event(EventKind.PHASE, phase="finishing")
    assert (
        line("restore: finishing", Phase("finishing", 1000), finishing, 1001, 80) == "restore: finishing  1.0 s so far"
    )
    assert (
        line("restore: finishing", Phase("finishing", 1000), finishing, 1090, 40) == "restore: finishing  90 s so far"
    )
    full = event(EventKind.PROGRESS, done=40 << 20, total=40 << 20)
    assert (
        line("restore: restoring", Phase("restoring", 1000), full, 1012, 40) == "restore: restoring  100 %  12 s so far"
    )
    label = "restore 6949f0e6: restoring big.db"
    assert line(label, Phase("restoring", 1000), full, 1012, 40) == "restoring big.db  100 %  12 s so far"


def test_what_is_left_out_is_one_line_each_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with TerminalProgress(notes=True) as shown:
        shown.take(event(EventKind.LEFT_OUT, message="left out: view v: no\nfunction f"))
        shown.take(event(EventKind.LEFT_OUT, message="left out: view w: no function g"))
    assert "restore shop: left out: view v: no function f\n" in stderr.getvalue()
    assert "restore shop: left out: view w: no function g\n" in stderr.getvalue()


def test_a_snapshot_of_the_future_is_not_shown_as_the_latest() -> None:
    def entry(finished: str, ahead: bool) -> dict[str, Any]:
        rest = {"source": "sqlite", "host": "db1", "signer": "db1", "streams": 1, "size": 1, "stored": 1}
        return {"id": "ab" * 16, "backup": "shop", "started": finished, "finished": finished, **rest} | {
            "from_the_future": ahead
        }

    sound, ahead = entry("2020-01-01T00:00:00Z", False), entry("2999-01-01T00:00:00Z", True)
    told = list(views.snapshots({"snapshots": [sound, ahead]}))
    assert "days old." in told[-2]
    assert told[-1] == "Never taken for the latest: 1 snapshot dated in the future."
    assert list(views.snapshots({"snapshots": [ahead]}))[-1] == told[-1]
