"""The kit finds each fault that it was made for: every test of it fails for some source that breaks that promise."""

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core.tests.testing import broken_sources as broken
from core.tests.testing.shelf import ShelfLab, ShelfSource

from penstock.api import RestoreTarget, Source
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock.testing.source_conformance import (
    Differences,
    NotApplicable,
    SourceConformance,
    SourceLab,
    Target,
    deviates,
)
from penstock.testing.traces import Traces

pytestmark = pytest.mark.slow

_LEFT = {"test_nothing_is_left_of_a_dump"}
_BREAKS_OFF = {"test_a_restore_whose_input_breaks_off_is_not_completed"}

_BROKEN: list[tuple[type[ShelfSource], set[str]]] = [
    (broken.HasABadName, {"test_the_host_takes_the_class"}),
    (broken.IsNowhere, {"test_it_says_where_it_is"}),
    (broken.IgnoresUnknownSettings, {"test_unknown_settings_are_refused"}),
    (broken.LetsSettingsBeChanged, {"test_unknown_settings_are_refused"}),
    (broken.TakesPasswordsInUrls, {"test_a_password_in_a_url_is_refused"}),
    (broken.QuotesTheUrl, {"test_a_password_in_a_url_is_refused"}),
    (broken.KnowsNoVersion, {"test_inspect_names_engine_and_versions"}),
    (broken.EstimatesByDumping, {"test_inspect_starts_no_dump"}),
    (broken.LetsOsErrorsThrough, {"test_an_unreachable_server_is_said_so"}),
    (broken.SaysBrokenForUnreachable, {"test_an_unreachable_server_is_said_so"}),
    (broken.GivesOneNameTwice, {"test_every_stream_has_a_valid_name_of_its_own"}),
    (broken.LeavesTheFolder, {"test_every_stream_has_a_valid_name_of_its_own"}),
    (broken.PutsObjectsIntoAttributes, {"test_a_plan_is_plain_data"}),
    (broken.KeepsItsViewToItself, {"test_a_stream_can_be_opened_in_another_process"}),
    (broken.LosesTheLastByte, {"test_what_was_dumped_comes_back"}),
    (broken.KeepsBlocks, {"test_what_was_dumped_comes_back"}),
    (broken.LosesWhatDoesNotFit, {"test_a_stream_is_the_same_however_it_is_read"}),
    (broken.DumpsTheLiveFile, {"test_changes_during_a_dump_are_not_in_it"}),
    (broken.SignsEveryDump, {"test_dumps_of_unchanged_data_are_the_same"}),
    (
        broken.TakesEndOfFileForSuccess,
        {
            "test_a_stream_closed_before_its_end_has_failed",
            "test_a_child_that_is_killed_half_way_fails_the_dump",
            "test_a_child_that_fails_after_all_of_its_output_fails_the_dump",
        },
    ),
    (broken.ForgivesAnExitStatus, {"test_a_child_that_fails_after_all_of_its_output_fails_the_dump"}),
    (broken.LooksForNoEnd, {"test_output_that_breaks_off_with_success_fails_the_dump"}),
    (broken.WaitsForEver, {"test_a_child_that_stalls_fails_the_dump_in_time"}),
    (broken.DoesNotTellAStall, {"test_a_child_that_stalls_fails_the_dump_in_time"}),
    (broken.AbortsNothing, {"test_abort_frees_a_thread_that_waits"}),
    (broken.AbortsOnce, {"test_abort_never_raises_and_may_be_repeated"}),
    (broken.LeavesAProcess, _LEFT),
    (broken.LeavesADescriptor, _LEFT),
    (broken.DumpsOnce, _LEFT),
    (broken.ShowsItsPassword, {"test_secrets_show_nowhere"}),
    (broken.RecordsItsPassword, {"test_secrets_show_nowhere"}),
    (broken.SaysItsPasswordAloud, {"test_secrets_are_in_no_command_line"}),
    (broken.RepeatsWhatTheChildSays, {"test_what_a_child_says_of_secrets_is_in_no_error"}),
    (broken.CleansWhenItLooks, {"test_looking_at_a_target_changes_nothing"}),
    (broken.IgnoresOptions, {"test_an_unknown_target_option_is_refused"}),
    (broken.WritesOverData, {"test_a_target_with_data_is_refused_unless_it_may_be_cleaned"}),
    (broken.AddsToWhatItShouldClean, {"test_a_target_with_data_is_refused_unless_it_may_be_cleaned"}),
    (broken.CompletesWhatBreaksOff, _BREAKS_OFF),
    (broken.CallsABrokenRestoreDone, _BREAKS_OFF),
    (broken.CommitsBeforeTheEnd, _BREAKS_OFF),
    (broken.WritesAsItReads, {"test_a_failed_restore_leaves_the_target_as_it_was"}),
]


class TestShelf(SourceConformance):
    """The source that the broken ones are built on breaks no promise."""

    @pytest.fixture
    def lab(self, tmp_path: Path) -> SourceLab:
        return ShelfLab(ShelfSource, tmp_path)


class SyntheticLab(SourceLab):
    """A source without a child process and without a secret says so; it also shows where a real one would deviate."""

    secrets = NotApplicable("made-up data is nobody's secret")
    program = NotApplicable("the bytes are made up in this process")

    def __init__(self) -> None:
        self._source = SyntheticSource(SyntheticSettings(size=200_000))

    @property
    def source(self) -> SyntheticSource:
        return self._source

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> Source:
        raise NotImplementedError

    def unreachable(self) -> Source:
        raise NotImplementedError

    def content(self) -> object:
        return [200_000]

    def change(self) -> None:
        raise NotImplementedError

    def target(self) -> Target:
        target = SyntheticSource()
        return Target(target, lambda: list(target.taken.values()))


class TestSyntheticSource(SourceConformance):
    @pytest.fixture
    def lab(self) -> SourceLab:
        return SyntheticLab()

    @deviates("nothing has to be reached")
    def test_an_unreachable_server_is_said_so(self, lab: SourceLab) -> None:
        assert lab.source.inspect().size_estimate == 200_000

    @deviates("the generation is one of its settings: an instance's data never changes")
    def test_changes_during_a_dump_are_not_in_it(self, lab: SourceLab) -> None:
        assert lab.source.settings.model_config["frozen"]

    @deviates("it writes nothing, so it has no target that could hold data")
    def test_a_target_with_data_is_refused_unless_it_may_be_cleaned(self, lab: SourceLab) -> None:
        lab.target().source.check_target([], RestoreTarget(clean=True))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What never comes is not waited for; what broken sources leave is cleaned up."""
    monkeypatch.setattr(SourceConformance, "patience", 2.5)
    monkeypatch.setattr(Traces, "settle", 0.3)
    yield
    while ShelfSource.children:
        ShelfSource.children.pop().abort()
    while broken.LeavesAProcess.left:
        process = broken.LeavesAProcess.left.pop()
        process.kill()
        process.wait()
    while broken.LeavesADescriptor.left:
        os.close(broken.LeavesADescriptor.left.pop())


def _tests() -> dict[str, Callable[..., None]]:
    return {name: test for name, test in vars(SourceConformance).items() if name.startswith("test_")}


def _fails(test: Callable[..., None], kind: type[ShelfSource], folder: Path) -> bool:
    """Whether the test fails, with any of its parameters; a skip is no failure."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    for number, fixed in enumerate([{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [{}]):
        place = folder / f"{test.__name__}-{number}"
        given = {"lab": ShelfLab(kind, place), "tmp_path": place, **fixed}
        wanted = {name: given[name] for name in inspect.signature(test).parameters if name != "self"}
        try:
            test(SourceConformance(), **wanted)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - a broken source raises whatever it likes
            return True
    return False


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "expected"), _BROKEN, ids=[kind.__name__ for kind, _ in _BROKEN])
def test_a_broken_source_is_found_out(kind: type[ShelfSource], expected: set[str], tmp_path: Path) -> None:
    assert {name for name in expected if _fails(_tests()[name], kind, tmp_path)} == expected


def test_every_test_of_the_kit_can_fail() -> None:
    assert set().union(*(expected for _, expected in _BROKEN)) == set(_tests())


def test_a_source_may_differ_by_what_its_lab_allows_and_by_no_more(tmp_path: Path) -> None:
    lab = ShelfLab(broken.SignsEveryDump, tmp_path)
    lab.differences = Differences(200, "a random signature at the end of the notes")
    SourceConformance().test_dumps_of_unchanged_data_are_the_same(lab)
    lab.differences = Differences(20, "too little")
    with pytest.raises(AssertionError, match=r"bytes differ, more than .*too little"):
        SourceConformance().test_dumps_of_unchanged_data_are_the_same(lab)


def test_what_does_not_apply_is_a_skip_that_says_why() -> None:
    with pytest.raises(pytest.skip.Exception, match="not applicable: the bytes are made up in this process"):
        SourceConformance().test_a_child_that_stalls_fails_the_dump_in_time(SyntheticLab(), Path())
    with pytest.raises(ValueError, match="say why"):
        NotApplicable(" ")


def test_a_lab_without_a_seed_is_refused(tmp_path: Path) -> None:
    lab = ShelfLab(ShelfSource, tmp_path)
    (tmp_path / "seed" / "main").write_text("little\n")
    with pytest.raises(AssertionError, match="too small to break off half-way"):
        SourceConformance().test_abort_never_raises_and_may_be_repeated(lab)


def test_a_replaced_test_of_this_kit_is_noticed_too() -> None:
    class Replaces(SourceConformance):
        def test_secrets_show_nowhere(self, lab: SourceLab) -> None:
            """Nothing."""

    class Leaves(SourceConformance):
        test_a_plan_is_plain_data = None  # type: ignore[assignment]

    for suite, name in ((Replaces, "test_secrets_show_nowhere"), (Leaves, "test_a_plan_is_plain_data")):
        with pytest.raises(AssertionError, match=f"replaces without @deviates: {name}"):
            suite().test_no_test_is_replaced_silently()
