# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sinks that is about what a sink says of itself, and how its calls end."""

import threading
import time
from typing import ClassVar

from penstock.api import Interrupted, Sink, SinkError, StopToken
from penstock.testing import sink_trials as trials
from penstock.testing.kit import NotApplicable, applicable, must_work

__all__ = ["ConductTests"]


class ConductTests:
    """Tests of a sink as a part of a program."""

    #: Seconds that a call may take which should end at once, or with a deadline of a few seconds, on a busy machine.
    patience: ClassVar[float] = 30

    def test_what_it_can_do_is_among_what_its_class_may_be_able_to(self, sink: Sink) -> None:
        found, possible = sink.capabilities(), sink.possible_capabilities
        more = sorted(found - possible)
        assert not more, f"capabilities() gives {', '.join(more)}, which possible_capabilities does not have"
        assert sink.capabilities() == found, "capabilities() gives something else when it is asked again"

    def test_it_says_how_many_requests_at_once_are_worthwhile(self, sink: Sink) -> None:
        count = sink.connections
        assert isinstance(count, int), f"connections is {count!r}, not a number"
        assert count >= 1, f"connections is {count}: pools of the core would have no thread"

    def test_a_preflight_passes_and_leaves_nothing(self, sink: Sink) -> None:
        sink.preflight()
        left = [info.key for info in sink.list()]
        assert not left, f"the preflight left {', '.join(left)}, which a listing shows"
        sink.put("a", b"x")
        sink.preflight()

    def test_it_says_where_it_is(self, sink: Sink) -> None:
        location = sink.location
        assert isinstance(location, str), f"location is {location!r}, not a text"
        assert location, "location is empty: it says in logs and errors which storage is meant"
        assert location.isprintable(), f"location cannot be printed: {location!a}"

    def test_it_shows_no_secret(self, sink: Sink) -> None:
        sink.put("a", b"x")
        shown = trials.revealed(sink, sink.location, repr(sink), repr(sink.settings), repr(vars(sink)))
        assert not shown, f"location, repr or what repr shows of the instance holds the secret {', '.join(shown)}"

    def test_secrets_are_settings_that_say_where_they_are_found(self, sink: Sink) -> None:
        plain = trials.plain_secrets(type(sink.settings))
        assert not plain, f"kept as text: {', '.join(plain)}. A secret is a field of type SecretRef"

    def test_a_url_with_a_password_is_refused_and_not_repeated(self, sink: Sink) -> None:
        wrong = trials.refuses_passwords(type(sink))
        assert not wrong, "; ".join(wrong)

    def test_a_service_that_never_answers_is_given_up_by_the_deadline(self, silent: Sink | NotApplicable) -> None:
        calls = trials.calls_of(applicable(silent))
        wrong = trials.wrong_errors(trials.outcomes(calls, self.patience))
        assert not wrong, "; ".join(wrong)

    def test_closing_does_not_wait_for_a_request_that_hangs(self, silent: Sink | NotApplicable) -> None:
        sink = applicable(silent)
        hanging = threading.Thread(target=trials.outcomes, args=({"get": lambda: sink.get("a")}, 60), daemon=True)
        hanging.start()
        hanging.join(0.2)
        (end,) = trials.outcomes({"close": sink.close}, self.patience).values()
        assert end is None, f"close, while a request hangs, must return at once: it {end}"

    def test_a_stop_ends_the_waits_between_attempts(self, refusing: Sink | NotApplicable) -> None:
        sink = applicable(refusing)
        sink.stop, sink.report = stop, heard = StopToken(), trials.FirstRetry()
        ended: dict[str, BaseException | str | None] = {}
        call = {"get": lambda: sink.get("a")}
        thread = threading.Thread(target=lambda: ended.update(trials.outcomes(call, 2 * self.patience)), daemon=True)
        thread.start()
        latest = time.monotonic() + self.patience
        while thread.is_alive() and not heard.retried.wait(0.05):
            assert time.monotonic() < latest, "it goes on trying, and tells `report` of no retry"
        stop.stop()
        thread.join(self.patience)
        assert not thread.is_alive(), "a wait between two attempts outlives the token `stop`"
        end = ended["get"]
        assert isinstance(end, (Interrupted, SinkError)), f"after a stop, get ended with {end!r}"

    def test_it_may_be_closed_twice(self, sink: Sink) -> None:
        sink.put("a", b"x")
        with must_work("close, and close again,"):
            sink.close()
            sink.close()
