"""The kit finds each fault that it was made for: every test of it fails for some source that breaks that promise."""

import inspect
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core.tests.testing import broken_restores
from core.tests.testing import broken_sources as broken
from core.tests.testing.shelf import PASSWORD, ShelfLab, ShelfSource

from penstock.api import RestoreTarget, Source
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock.testing.kit import ConformanceKit, applicable
from penstock.testing.source_conformance import (
    Differences,
    NotApplicable,
    SourceConformance,
    SourceLab,
    Target,
    deviates,
)
from penstock.testing.traces import Traces, command_lines, programs_started

pytestmark = pytest.mark.slow

_GUARD = "test_no_test_is_replaced_silently"
_LEFT = {"test_nothing_is_left_of_a_dump"}
_BREAKS_OFF = {"test_a_restore_whose_input_breaks_off_is_not_completed"}
_PLANS = {"test_a_plan_of_a_restore_is_plain_data"}
_COSTS_ITSELF = "test_one_bad_object_costs_itself"
_STRICT = {"test_a_strict_restore_takes_everything_or_nothing"}
_SECRET = {"test_a_secret_of_the_dump_is_in_no_message"}

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
    (broken.ShowsObjectsInAnOutcome, {"test_an_outcome_is_plain_data"}),
    (broken.KeepsItsViewToItself, {"test_a_stream_can_be_opened_in_another_process"}),
    (broken_restores.LosesTheLastByte, {"test_what_was_dumped_comes_back"}),
    (broken_restores.KeepsBlocks, {"test_what_was_dumped_comes_back"}),
    (broken.LosesWhatDoesNotFit, {"test_a_stream_is_the_same_however_it_is_read"}),
    (broken.DumpsTheLiveFile, {"test_changes_during_a_dump_are_not_in_it"}),
    (broken.LocksItsOwnProcessOnly, {"test_changes_by_another_process_are_not_in_it"}),
    (broken.KeepsItsDumpOnItself, {"test_two_dumps_at_once_are_independent"}),
    (broken.ReadsOneStreamAtATime, {"test_streams_can_be_read_at_the_same_time"}),
    (broken.AttachesToTheLiveFile, {"test_a_stream_of_another_process_shows_the_same_view"}),
    (broken.EndsAfterOneRead, {"test_a_stream_is_the_same_however_it_is_read"}),
    (broken.CompressesItsStreams, {"test_a_stream_is_not_compressed"}),
    (broken.CompressesWithoutASign, {"test_a_stream_is_not_compressed"}),
    (broken.WritesTheCountIntoEachRow, {"test_a_small_change_changes_little_of_a_dump"}),
    (broken.CountsWrongly, {"test_exact_rows_are_those_of_the_database"}),
    (broken.PromisesOtherStreams, {"test_inspect_says_what_a_dump_would_hold"}),
    (broken.HasNoDeadline, {"test_a_server_that_never_answers_is_given_up"}),
    (broken.TakesAPasswordAsAParameter, {"test_a_password_in_a_url_is_refused"}),
    (broken.ShowsItsPasswordInItsLocation, {"test_secrets_show_nowhere"}),
    (broken.KeepsItsPassword, {"test_secrets_are_kept_as_secrets"}),
    (broken.TakesThePasswordItself, {"test_settings_refer_to_secrets"}),
    (broken_restores.StopsAtTheEndMarker, {"test_a_restore_takes_all_blocks_of_a_stream", *_BREAKS_OFF}),
    (broken_restores.LetsWhatItIsGivenBreakIt, {"test_what_is_not_a_dump_is_refused"}),
    (broken_restores.PutsEachStreamInPlaceAtOnce, {"test_nothing_is_left_of_a_restore_that_is_not_finished"}),
    (broken_restores.LeavesAProcessUnlessItIsFinished, {"test_nothing_is_left_of_a_restore_that_is_not_finished"}),
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
    (broken.HearsNoStop, {"test_a_stop_ends_a_wait_for_the_next_byte"}),
    (broken.AbortsOnce, {"test_abort_never_raises_and_may_be_repeated"}),
    (broken.LeavesAProcess, _LEFT),
    (broken.LeavesADescriptor, _LEFT),
    (broken.DumpsOnce, _LEFT),
    (broken.ShowsItsPassword, {"test_secrets_show_nowhere"}),
    (broken.RecordsItsPassword, {"test_secrets_show_nowhere"}),
    (broken.SaysItsPasswordAloud, {"test_secrets_are_in_no_command_line"}),
    (broken.AsksAloud, {"test_secrets_are_in_no_command_line"}),
    (broken.RepeatsWhatTheChildSays, {"test_what_a_child_says_of_secrets_is_in_no_error"}),
    (broken_restores.CleansWhenItLooks, {"test_looking_at_a_target_changes_nothing"}),
    (broken_restores.ClearsTheWayWhenItLooks, {"test_looking_at_a_target_changes_nothing"}),
    (broken_restores.PlansForAnotherTarget, _PLANS),
    (broken_restores.PlansWithoutAStream, _PLANS),
    (broken_restores.PlansObjects, _PLANS),
    (broken_restores.LeavesOutWithoutAReason, _PLANS),
    (broken_restores.PlansSomethingElseEachTime, _PLANS),
    (broken_restores.ForeseesNothing, {_COSTS_ITSELF}),
    (broken_restores.FailsForOneBadObject, {_COSTS_ITSELF}),
    (broken_restores.LeavesOutInSilence, {_COSTS_ITSELF}),
    (broken_restores.TellsWhatThePlanHasTold, {_COSTS_ITSELF}),
    (broken_restores.LosesTheRestOfTheStream, {_COSTS_ITSELF}),
    (broken_restores.LeavesOutWhatIsNearIt, {_COSTS_ITSELF}),
    (broken_restores.StopsReadingAtABadObject, {_COSTS_ITSELF}),
    (broken_restores.IsNeverStrict, _STRICT),
    (broken_restores.IsStrictTooLate, _STRICT),
    (broken_restores.DoesNotSayWhatIsTooMuch, _STRICT),
    (broken_restores.RepeatsTheServersWording, _SECRET),
    (broken_restores.ShowsTheStatementOfASecret, _SECRET),
    (broken_restores.WarnsOfWhatItIsGiven, _SECRET),
    (broken_restores.RepeatsWhatTheLoaderSays, {"test_what_a_child_says_of_secrets_is_in_no_error_of_a_restore"}),
    (broken.WarnsOfWhatTheChildSays, {"test_what_a_child_says_of_secrets_is_in_no_message"}),
    (broken.NeedsATerminal, {"test_it_works_without_standard_streams"}),
    (broken_restores.IgnoresOptions, {"test_an_unknown_target_option_is_refused"}),
    (broken_restores.WritesOverData, {"test_a_target_with_data_is_refused_unless_it_may_be_cleaned"}),
    (broken_restores.AddsToWhatItShouldClean, {"test_a_target_with_data_is_refused_unless_it_may_be_cleaned"}),
    (broken_restores.CompletesWhatBreaksOff, _BREAKS_OFF),
    (broken_restores.CallsABrokenRestoreDone, _BREAKS_OFF),
    (broken_restores.CommitsBeforeTheEnd, _BREAKS_OFF),
    (broken_restores.WritesAsItReads, {"test_a_failed_restore_leaves_the_target_as_it_was"}),
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
    change_command = NotApplicable("the generation is one of its settings: an instance's data never changes")
    unfinished = NotApplicable("it compares what it is given, and keeps nothing")

    def __init__(self) -> None:
        self._source = SyntheticSource(SyntheticSettings(size=200_000))

    @property
    def source(self) -> SyntheticSource:
        return self._source

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> Source:
        raise NotImplementedError

    def unreachable(self) -> Source:
        raise NotImplementedError

    def silent(self, host: str, port: int) -> NotApplicable:
        return NotApplicable("there is no server")

    def content(self) -> object:
        return [200_000]

    def change(self) -> None:
        applicable(self.change_command)

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

    @deviates("what was restored is counted by the instance, which another process does not share")
    def test_it_works_without_standard_streams(self, lab: SourceLab) -> None:
        """Nothing to look at."""

    @deviates("it writes nothing, so it has no target that could hold data")
    def test_a_target_with_data_is_refused_unless_it_may_be_cleaned(self, lab: SourceLab) -> None:
        lab.target().source.plan_restore([], RestoreTarget(clean=True))


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
    names = [name for name in dir(SourceConformance) if name.startswith("test_") and name != _GUARD]
    return {name: getattr(SourceConformance, name) for name in names}


def _failure(test: Callable[..., None], kind: type[ShelfSource], folder: Path) -> str | None:
    """What the test says when it fails, with any of its parameters; a skip is not a failure."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    for number, fixed in enumerate([{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [{}]):
        place = folder / f"{test.__name__}-{number}"
        given = {"lab": ShelfLab(kind, place), "tmp_path": place, **fixed}
        wanted = {name: given[name] for name in inspect.signature(test).parameters if name != "self"}
        try:
            test(SourceConformance(), **wanted)
        except (AssertionError, pytest.fail.Exception) as error:
            return str(error)
        except pytest.skip.Exception:
            continue
    return None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "expected"), _BROKEN, ids=[kind.__name__ for kind, _ in _BROKEN])
def test_a_broken_source_is_found_out_and_told_what_is_wrong(
    kind: type[ShelfSource], expected: set[str], tmp_path: Path
) -> None:
    said = {name: _failure(_tests()[name], kind, tmp_path) for name in expected}
    assert {name for name, failure in said.items() if failure is not None} == expected
    for name, failure in said.items():
        sentence = (failure or "").partition("\n")[0]
        assert len(sentence.split()) > 4, f"{name} says too little: {sentence}"
        assert not sentence.startswith(("assert ", "DID NOT")), f"{name} compares two values: {sentence}"
        assert PASSWORD not in (failure or ""), f"{name} shows the secret that it found"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        (broken.CompressesItsStreams, "test_a_stream_is_not_compressed", "is compressed, it begins as gzip does"),
        (broken.LocksItsOwnProcessOnly, "test_changes_by_another_process_are_not_in_it", "a change by another process"),
        (broken.DumpsTheLiveFile, "test_changes_during_a_dump_are_not_in_it", "which CONSISTENT rules out"),
        (
            broken.EndsAfterOneRead,
            "test_a_stream_is_the_same_however_it_is_read",
            "in large and in small pieces: .*differ",
        ),
        (broken.LetsOsErrorsThrough, "test_an_unreachable_server_is_said_so", "and let FileNotFoundError through"),
        (broken.HasNoDeadline, "test_a_server_that_never_answers_is_given_up", "every wait has a deadline"),
        (broken.ShowsItsPasswordInItsLocation, "test_secrets_show_nowhere", "the location shows secret number 0"),
        (
            broken.TakesPasswordsInUrls,
            "test_a_password_in_a_url_is_refused",
            "must raise UsageError, and raised nothing",
        ),
        (broken.TakesThePasswordItself, "test_settings_refer_to_secrets", "SecretRef, and these are not: password"),
        (broken.KeepsItsPassword, "test_secrets_are_kept_as_secrets", "keeps a secret as text"),
        (broken.CountsWrongly, "test_exact_rows_are_those_of_the_database", "main has 6000, not 1"),
        (
            broken.SaysItsPasswordAloud,
            "test_secrets_are_in_no_command_line",
            r"everybody on the host can read: .*\*\*\*",
        ),
    ],
)
def test_the_kit_says_what_is_wrong(kind: type[ShelfSource], name: str, says: str, tmp_path: Path) -> None:
    assert re.search(says, _failure(_tests()[name], kind, tmp_path) or "")


def test_every_test_of_the_kit_can_fail() -> None:
    assert set().union(*(expected for _, expected in _BROKEN)) == set(_tests())


def test_a_source_may_differ_by_what_its_lab_allows_and_by_no_more(tmp_path: Path) -> None:
    lab = ShelfLab(broken.SignsEveryDump, tmp_path)
    lab.differences = Differences(200, "a random signature at the end of the notes")
    SourceConformance().test_dumps_of_unchanged_data_are_the_same(lab)
    lab.differences = Differences(20, "too little")
    with pytest.raises(AssertionError, match=r"bytes differ, more than .*too little"):
        SourceConformance().test_dumps_of_unchanged_data_are_the_same(lab)


def test_what_a_lab_allows_to_differ_hides_no_early_end(tmp_path: Path) -> None:
    lab = ShelfLab(broken.EndsAfterOneRead, tmp_path)
    lab.differences = Differences(200, "a time stamp")
    with pytest.raises(AssertionError, match=r"large and in small pieces: .* bytes differ"):
        SourceConformance().test_a_stream_is_the_same_however_it_is_read(lab)


def test_a_lab_of_a_consistent_source_has_a_writer_in_another_process(tmp_path: Path) -> None:
    class Silent(ShelfLab):
        change_command = SourceLab.change_command  # type: ignore[assignment]
        silent = SourceLab.silent  # type: ignore[assignment]

    lab = Silent(ShelfSource, tmp_path)
    with pytest.raises(NotImplementedError, match="changes the data from another process"):
        SourceConformance().test_changes_by_another_process_are_not_in_it(lab)
    with pytest.raises(NotImplementedError, match=r"silent\(host, port\)"):
        SourceConformance().test_a_server_that_never_answers_is_given_up(lab)


@pytest.mark.parametrize("how", ["waits", "is refused"])
def test_a_source_whose_readers_lock_writers_out_is_consistent(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SourceConformance, "writers_wait", 0.2)
    command = {"waits": 'flock "$0" sh -c "echo later >>$0"', "is refused": 'flock -n "$0" sh -c "echo later >>$0"'}

    class LocksWritersOut(ShelfLab):
        @property
        def change_command(self) -> tuple[str, ...]:
            return ("sh", "-c", command[how], str(self.folder / "seed" / "main"))

    lab = LocksWritersOut(broken.LocksWritersOut, tmp_path)
    SourceConformance().test_changes_by_another_process_are_not_in_it(lab)


def test_only_processes_below_this_one_are_looked_at() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            lines = list(command_lines())
        finally:
            child.kill()
    assert "sleep 1000" in lines
    assert not [line for line in lines if "pytest" in line], "this process and those above it are not its children"


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["true", "one"], check=True),
        lambda: subprocess.run([Path("/bin/true"), b"one"], check=True),
        lambda: os.waitpid(os.posix_spawn("/bin/true", ["true", "one"], {}), 0),
        lambda: os.system("true one"),
    ],
)
def test_programs_that_are_soon_gone_are_heard_of(start: Callable[[], object]) -> None:
    with programs_started() as outer, programs_started() as inner:
        start()
    start()
    assert [line.removeprefix("/bin/") for line in outer] == ["true one"]
    assert inner == outer
    assert inner is not outer


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
        def test_a_plan_is_plain_data(self, lab: SourceLab) -> None:
            """Nothing."""

    class Leaves(SourceConformance):
        test_abort_never_raises_and_may_be_repeated = None  # type: ignore[assignment]

    class Again(Replaces, ConformanceKit):
        """Names the base of all kits, which makes no kit of it."""

    names = ("test_a_plan_is_plain_data", "test_abort_never_raises_and_may_be_repeated", "test_a_plan_is_plain_data")
    for suite, name in zip((Replaces, Leaves, Again), names, strict=True):
        with pytest.raises(AssertionError, match=f"replaces without @deviates: {name}"):
            suite().test_no_test_is_replaced_silently()


def test_what_a_backup_stands_on_is_never_replaced() -> None:
    class ClaimsMoreThanItHolds(SourceConformance):
        @deviates("readers lock writers out here")
        def test_changes_during_a_dump_are_not_in_it(self, lab: SourceLab) -> None:
            """Nothing."""

    with pytest.raises(AssertionError, match="a source that holds no view does not declare CONSISTENT"):
        ClaimsMoreThanItHolds().test_no_test_is_replaced_silently()
