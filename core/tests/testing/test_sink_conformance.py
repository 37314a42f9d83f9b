"""The kit finds each fault that it was made for: every test of it fails for some sink that breaks that promise."""

import inspect
from collections.abc import Callable

import pytest
from core.tests.testing import broken_sinks as broken

from penstock.api import Sink
from penstock.testing import FaultySink, FlipBit, MemorySink, Truncate
from penstock.testing.sink_conformance import NotApplicable, SinkConformance, deviates

_GUARD = "test_no_test_is_replaced_silently"

_LOCKS = {"test_locks_are_lengthened_where_they_are_declared_and_nowhere_else"}
_STAYS = "test_what_is_locked_stays_as_it_was_and_says_until_when"
_OTHERS = "test_what_is_locked_keeps_nothing_else_from_being_deleted"

_BROKEN: list[tuple[Callable[[], Sink], set[str]]] = [
    (broken.KeepsTheBuffer, {"test_the_buffer_is_the_callers_again_after_a_put"}),
    (broken.HoldsTheBuffer, {"test_the_buffer_is_the_callers_again_after_a_put"}),
    (broken.TakesBytesOnly, {"test_every_kind_of_buffer_is_taken"}),
    (broken.ReadsAtMost8MiB, {"test_what_is_put_is_got", "test_a_range_of_a_large_object_is_whole"}),
    (
        broken.RefusesRangesPastTheEnd,
        {"test_ranges_give_the_bytes_that_exist", "test_ranges_of_an_empty_object_are_empty"},
    ),
    (broken.RefusesRangesOfEmptyObjects, {"test_ranges_of_an_empty_object_are_empty"}),
    (broken.TakesLengthZeroForNone, {"test_ranges_give_the_bytes_that_exist"}),
    (broken.LetsKeyErrorsThrough, {"test_a_missing_object_is_reported_with_its_key"}),
    (broken.ForgetsTheKeyOfErrors, {"test_a_missing_object_is_reported_with_its_key"}),
    (broken.TakesAFolderForAnObject, {"test_a_missing_object_is_reported_with_its_key"}),
    (broken.GivesABytearray, {"test_every_kind_of_buffer_is_taken"}),
    (broken.WritesOverTheStart, {"test_a_put_replaces_the_whole_object"}),
    (broken.IgnoresIfAbsent, {"test_put_if_absent_leaves_what_is_there", "test_put_if_absent_finds_an_empty_object"}),
    (broken.ForgivesTheSamePutTwice, {"test_put_if_absent_leaves_what_is_there"}),
    (broken.TakesAnEmptyObjectForNone, {"test_put_if_absent_finds_an_empty_object"}),
    (broken.LooksThenPuts, {"test_of_concurrent_puts_if_absent_exactly_one_wins"}),
    (broken.LocksWithinItsProcess, {"test_of_puts_if_absent_by_two_processes_exactly_one_wins"}),
    (broken.NeedsMoreThanItsSettings, {"test_of_puts_if_absent_by_two_processes_exactly_one_wins"}),
    (broken.ShowsHalfAnObject, {"test_a_reader_sees_the_old_object_or_the_new_one"}),
    (broken.DeletesBeforeItReplaces, {"test_a_reader_sees_the_old_object_or_the_new_one"}),
    (broken.ListsFoldersOnly, {"test_a_listing_gives_exactly_what_starts_with_the_prefix"}),
    (broken.ListsOnePage, {"test_a_listing_of_thousands_of_objects_gives_each_once"}),
    (broken.ListsTheEndOfAPageTwice, {"test_a_listing_of_thousands_of_objects_gives_each_once"}),
    (broken.ListsAMarker, {"test_an_empty_sink_lists_nothing"}),
    (broken.TellsLocalTime, {"test_times_are_utc"}),
    (broken.HidesDotFiles, {"test_odd_keys_are_kept_apart"}),
    (broken.TakesAnyKey, {"test_invalid_keys_are_refused"}),
    (broken.RaisesItsOwnForKeys, {"test_invalid_keys_are_refused"}),
    (broken.MissesWhatItDeletes, {"test_a_delete_removes_one_object_and_may_be_repeated"}),
    (broken.DeletesByPrefix, {"test_a_delete_removes_one_object_and_may_be_repeated"}),
    (broken.SharesStateBetweenThreads, {"test_threads_do_not_disturb_each_other"}),
    (broken.IsNowhere, {"test_it_says_where_it_is"}),
    (broken.ClosesOnce, {"test_it_may_be_closed_twice"}),
    (broken.DeclaresLocksThatItHasNot, _LOCKS),
    (broken.LocksWhatIsNotThere, _LOCKS),
    (broken.RefusesAShorterLock, _LOCKS),
    (broken.HidesWhatIsLocked, {_STAYS, _OTHERS}),
    (broken.HidesWhatIsLockedAndSaysNothing, {_STAYS, _OTHERS}),
    (broken.SaysNothingOfLocks, {_STAYS, _OTHERS}),
    (broken.StopsAtTheFirstLock, {_OTHERS}),
    (broken.NamesTheLastLockAlone, {_OTHERS}),
    (broken.DoesNotSayUntilWhen, {_STAYS, _OTHERS}),
    (broken.TakesALockForADenial, {_STAYS, _OTHERS}),
    (broken.LocksForGood, {"test_a_lock_that_has_ended_keeps_nothing"}),
    (broken.ListsFiveThousand, {"test_a_listing_of_thousands_of_objects_gives_each_once"}),
    (broken.CreatesAtTheTarget, {"test_an_object_that_is_put_if_absent_is_seen_whole_or_not_at_all"}),
    (broken.ListsUnfinishedUploads, {"test_a_listing_shows_no_unfinished_upload"}),
    (broken.DeletesAllBelowThem, {"test_many_are_deleted_at_once_and_nothing_else"}),
    (broken.ReadsTheKeysTwice, {"test_many_are_deleted_at_once_and_nothing_else"}),
    (broken.CanDoMoreThanItsClass, {"test_what_it_can_do_is_among_what_its_class_may_be_able_to"}),
    (broken.ChangesItsMind, {"test_what_it_can_do_is_among_what_its_class_may_be_able_to"}),
    (broken.HasNoConnections, {"test_it_says_how_many_requests_at_once_are_worthwhile"}),
    (broken.LeavesAnObjectBehind, {"test_a_preflight_passes_and_leaves_nothing"}),
    (broken.ShowsItsPasswordInItsLocation, {"test_it_shows_no_secret"}),
    (broken.ShowsItsPasswordInItsRepr, {"test_it_shows_no_secret"}),
    (broken.KeepsASecretAsText, {"test_secrets_are_settings_that_say_where_they_are_found"}),
    (broken.TakesPasswordsInUrls, {"test_a_url_with_a_password_is_refused_and_not_repeated"}),
    (broken.RepeatsPasswordsOfUrls, {"test_a_url_with_a_password_is_refused_and_not_repeated"}),
    (broken.RaisesWhatItsSdkRaises, {"test_a_service_that_never_answers_is_given_up_by_the_deadline"}),
    (broken.HasNoDeadline, {"test_a_service_that_never_answers_is_given_up_by_the_deadline"}),
    (broken.TakesSilenceForSuccess, {"test_a_service_that_never_answers_is_given_up_by_the_deadline"}),
    (broken.WaitsForItsRequestsWhenClosed, {"test_closing_does_not_wait_for_a_request_that_hangs"}),
    (broken.SleepsThroughAStop, {"test_a_stop_ends_the_waits_between_attempts"}),
    (broken.ReportsNoRetry, {"test_a_stop_ends_the_waits_between_attempts"}),
    (lambda: FaultySink(MemorySink(), FlipBit("put", nth=1)), {"test_what_is_put_is_got"}),
    (lambda: FaultySink(MemorySink(), Truncate("get", keep=5)), {"test_what_is_put_is_got"}),
]


class _Impatient(SinkConformance):
    patience = 0.5


def _tests() -> dict[str, Callable[..., None]]:
    names = [name for name in dir(SinkConformance) if name.startswith("test_") and name != _GUARD]
    return {name: getattr(SinkConformance, name) for name in names}


def _given(sink: Sink) -> dict[str, object]:
    """The fixtures of the kit."""
    roles: dict[str, object] = dict.fromkeys(("sink", "sibling", "silent", "refusing", "locking"), sink)
    return {**roles, "end_locks": getattr(sink, "end_locks", NotApplicable("it locks nothing"))}


def _failure(test: Callable[..., None], make: Callable[[], Sink]) -> str | None:
    """What the test says when it fails, with any of its parameters."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    for fixed in [{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [{}]:
        sink = make()
        given = {**_given(sink), **fixed}
        wanted = {name: given[name] for name in inspect.signature(test).parameters if name != "self"}
        try:
            test(_Impatient(), **wanted)
        except (AssertionError, pytest.fail.Exception) as error:
            return str(error)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(_BROKEN)), ids=lambda number: getattr(_BROKEN[number][0], "__name__", ""))
def test_a_broken_sink_is_found_out_and_told_what_is_wrong(number: int) -> None:
    make, expected = _BROKEN[number]
    said = {name: _failure(_tests()[name], make) for name in expected}
    assert {name for name, failure in said.items() if failure is not None} == expected
    for name, failure in said.items():
        sentence = (failure or "").partition("\n")[0]
        assert len(sentence.split()) > 4, f"{name} says too little: {sentence}"
        assert not sentence.startswith(("assert ", "DID NOT")), f"{name} compares two values: {sentence}"
        assert broken.PASSWORD not in (failure or ""), f"{name} shows the secret that it found"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (broken.CreatesAtTheTarget, "if_absent_is_seen_whole", "got 100000 bytes of an object of 200000 while it was"),
        (
            broken.ListsFiveThousand,
            "listing_of_thousands",
            "of 5100 objects ended after 5000: 100 are missing",
        ),
        (broken.LocksWithinItsProcess, "two_processes", "both of two processes were told that they made slots/0"),
        (broken.ShowsItsPasswordInItsRepr, "shows_no_secret", "holds the secret password"),
        (broken.ListsUnfinishedUploads, "unfinished", "a listing shows packs/00/a.part, which nobody put"),
        (
            broken.RaisesWhatItsSdkRaises,
            "never_answers",
            "raised builtins.ConnectionResetError, which is not a Sink",
        ),
        (broken.HasNoDeadline, "never_answers", "get has not ended after 0.5 seconds: it has no deadline"),
        (broken.ShowsItsPasswordInItsLocation, "shows_no_secret", "holds the secret password"),
        (broken.TakesPasswordsInUrls, "a_url_with", "memory://user:…@host/place is accepted"),
        (broken.KeepsASecretAsText, "secrets_are_settings", "kept as text: access_token. A secret is a field of type"),
        (broken.HasNoConnections, "how_many", "connections is 0"),
        (broken.HidesWhatIsLocked, _STAYS, "after delete of a locked object lacks packs/00/a, where there are 1"),
        (broken.SaysNothingOfLocks, _STAYS, "delete of a locked object must raise ObjectLocked, and raised nothing"),
        (broken.DoesNotSayUntilWhen, _STAYS, "delete does not say until when packs/00/a is locked"),
        (broken.NamesTheLastLockAlone, _OTHERS, "names packs/00/6, and not packs/00/2, packs/00/6"),
        (broken.CanDoMoreThanItsClass, "among_what", r"capabilities\(\) gives conditional-put, which possible_capab"),
    ],
)
def test_the_kit_says_what_is_wrong(make: Callable[[], Sink], name: str, says: str) -> None:
    (test,) = [one for full, one in _tests().items() if name in full]
    given = _given(make())
    wanted = {parameter: given[parameter] for parameter in inspect.signature(test).parameters if parameter != "self"}
    with pytest.raises((AssertionError, pytest.fail.Exception), match=says) as caught:
        test(_Impatient(), **wanted)
    assert broken.PASSWORD not in str(caught.value)


def test_every_test_of_the_kit_can_fail() -> None:
    assert set().union(*(expected for _, expected in _BROKEN)) == set(_tests())


def test_a_replaced_test_is_noticed() -> None:
    class Replaces(SinkConformance):
        def test_times_are_utc(self, sink: Sink) -> None:
            """Nothing."""

        def test_one_more(self) -> None:
            """Additions are fine."""

    class Inherits(Replaces):
        pass

    for suite in (Replaces, Inherits):
        with pytest.raises(AssertionError, match="replaces without @deviates: test_times_are_utc"):
            suite().test_no_test_is_replaced_silently()


def test_a_test_may_be_replaced_openly() -> None:
    class Replaces(SinkConformance):
        @deviates("the storage keeps no times")
        def test_times_are_utc(self, sink: Sink) -> None:
            """Nothing."""

    Replaces().test_no_test_is_replaced_silently()


def test_the_guard_itself_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="cannot be replaced"):
        type("Sly", (SinkConformance,), {_GUARD: lambda self: None})
