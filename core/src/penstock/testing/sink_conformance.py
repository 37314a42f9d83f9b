"""What every sink must do, as tests.

The author of a sink writes one fixture, and two more for a sink over a network, or for one that locks objects:

    class TestMySink(SinkConformance):
        @pytest.fixture
        def sink(self) -> Iterator[Sink]:
            sink = MySink(...)      # an empty one
            yield sink
            sink.close()

        @pytest.fixture
        def silent(self, silent_port: int) -> Sink:
            return MySink(f"http://127.0.0.1:{silent_port}", deadline=2)

        @pytest.fixture
        def refusing(self, closed_port: int) -> Sink:
            return MySink(f"http://127.0.0.1:{closed_port}", deadline=300)

        @pytest.fixture
        def locking(self) -> Sink:
            return MySink(..., object_lock_days=1)

        @pytest.fixture
        def end_locks(self, ...) -> EndLocks:
            return ...              # ends the locks of the keys that it is given, as an administrator does

The tests are adversarial: they look for what storage is known to get wrong. A subclass may add tests, but not replace
one, unless it says why with `deviates`; its documentation should then say so too. What does not apply to a sink, or
costs it too much, it says with `NotApplicable`; that is a skip by name.
"""

from collections.abc import Iterator

import pytest

from penstock.api import Capability, Sink
from penstock.testing import sink_trials as trials
from penstock.testing.kit import ConformanceKit, NotApplicable, deviates
from penstock.testing.sink_conduct import ConductTests
from penstock.testing.sink_listings import ListingTests
from penstock.testing.sink_locks import EndLocks, LockTests
from penstock.testing.sink_objects import ObjectTests
from penstock.testing.sink_races import RaceTests

__all__ = ["EndLocks", "NotApplicable", "SinkConformance", "deviates"]


class SinkConformance(ObjectTests, LockTests, RaceTests, ListingTests, ConductTests, ConformanceKit):
    """All tests of a sink; see the module. `sibling` may be overridden with another instance on the same storage."""

    @pytest.fixture
    def sink(self) -> Iterator[Sink]:
        """An empty sink. To be overridden."""
        raise NotImplementedError("a subclass of SinkConformance has a fixture `sink` that gives an empty sink")

    @pytest.fixture
    def sibling(self, sink: Sink) -> Sink:
        """Another instance on the same storage, as another host would have. `sink` itself, unless overridden."""
        return sink

    @pytest.fixture
    def silent_port(self) -> Iterator[int]:
        """The port of a server on 127.0.0.1 that takes connections and never answers."""
        with trials.server_that_never_answers() as port:
            yield port

    @pytest.fixture
    def closed_port(self) -> int:
        """A port of 127.0.0.1 that refuses connections."""
        return trials.closed_port()

    @pytest.fixture
    def silent(self) -> Sink | NotApplicable:
        """A sink at `silent_port`, with a deadline of a second or two. To be overridden where there is a network."""
        return NotApplicable("no fixture `silent`: the sink has no network in between")

    @pytest.fixture
    def refusing(self) -> Sink | NotApplicable:
        """A sink at `closed_port`, with a deadline of minutes. To be overridden where there is a network."""
        return NotApplicable("no fixture `refusing`: the sink has no network in between")

    @pytest.fixture
    def locking(self, sink: Sink) -> Sink | NotApplicable:
        """An empty sink that locks what is put. `sink`, if that does; to be overridden where the class can."""
        if Capability.OBJECT_LOCK in sink.capabilities():
            return sink
        if Capability.OBJECT_LOCK in sink.possible_capabilities:
            return NotApplicable("no fixture `locking`, although the class may declare OBJECT_LOCK")
        return NotApplicable("the sink locks no objects")

    @pytest.fixture
    def end_locks(self) -> EndLocks | NotApplicable:
        """A function that ends the locks of the keys that it is given. To be overridden together with `locking`."""
        return NotApplicable("no fixture `end_locks`: nobody can end the locks before their time")
