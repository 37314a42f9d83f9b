# ruff: noqa: D102 - the names of the tests are what they promise
"""What every sink must do, as tests.

The author of a sink writes one fixture, and two more for a sink over a network:

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

The tests are adversarial: they look for what storage is known to get wrong. A subclass may add tests, but not replace
one, unless it says why with `deviates`; its documentation should then say so too. What does not apply to a sink, or
costs it too much, it says with `NotApplicable`; that is a skip by name.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar

import pytest

from penstock.api import Capability, Interrupted, ObjectExists, ObjectMissing, Sink, SinkError, StopToken
from penstock.testing import sink_trials as trials
from penstock.testing.keys import INVALID_KEYS, ODD_KEYS
from penstock.testing.kit import ConformanceKit, NotApplicable, applicable, deviates, must_raise, must_work
from penstock.testing.sink_checks import check_bytes, check_listing, check_range, check_size
from penstock.testing.sink_processes import elsewhere

__all__ = ["NotApplicable", "SinkConformance", "deviates"]

_BIG = 17 * 1024 * 1024  # over the part sizes and buffers of common SDKs: 5, 8 and 16 MiB


class SinkConformance(ConformanceKit):
    """The tests; see the module. `sibling` may be overridden with another instance on the same storage."""

    #: How many objects of 0 bytes a listing is tried with. More than services and SDKs are known to stop at: 1,000 and
    #: 5,000. Where that costs too much, a class says how many it can afford, and why, or gives a `NotApplicable`.
    many_objects: ClassVar[int | NotApplicable] = 5_100
    #: None: another process that has the settings has the storage. Otherwise why not, as of storage in this process.
    shared: ClassVar[NotApplicable | None] = None
    #: Seconds that a call may take which should end at once, or with a deadline of a few seconds, on a busy machine.
    patience: ClassVar[float] = 30

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

    @pytest.mark.parametrize("size", [0, 1, 4095, 1024 * 1024 + 1, _BIG])
    def test_what_is_put_is_got(self, sink: Sink, size: int) -> None:
        data = os.urandom(size)
        with must_work(f"put, get, stat and list of an object of {size} bytes"):
            sink.put("packs/00/a", data)
            check_bytes(sink.get("packs/00/a"), data, "get of what was put")
            check_size(sink.stat("packs/00/a"), size)
            check_listing(sink.list(), {"packs/00/a": size}, "with one object")

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_every_kind_of_buffer_is_taken(self, sink: Sink, kind: type[bytes | bytearray | memoryview]) -> None:
        data = kind(b"0123456789")
        with must_work(f"put of a {kind.__name__}, and of a memoryview of a part of it,"):
            sink.put("a", data)
            sink.put("b", memoryview(data)[2:5])
        check_bytes(sink.get("a"), b"0123456789", f"get of what was put as a {kind.__name__}")
        check_bytes(sink.get("b"), b"234", "get of what was put as a memoryview of a part of a buffer")

    def test_the_buffer_is_the_callers_again_after_a_put(self, sink: Sink) -> None:
        buffer = bytearray(b"first")
        sink.put("a", buffer)
        buffer[:] = b"other"
        check_bytes(sink.get("a"), b"first", "get of what was put from a buffer that has changed since")
        try:
            buffer.extend(b"!")
            with memoryview(buffer) as view:
                sink.put("b", view, if_absent=True)
                buffer[:] = b"again!"
            buffer.clear()
        except BufferError:
            pytest.fail("put holds on to the buffer that it was given, which belongs to the caller when it returns")
        check_bytes(sink.get("b"), b"other!", "get of what was put from a buffer that has changed since")

    def test_ranges_give_the_bytes_that_exist(self, sink: Sink) -> None:
        data = os.urandom(1000)
        sink.put("a", data)
        for start in (0, 1, 500, 999, 1000, 1001, 10**12):
            for length in (None, 0, 1, 499, 500, 1000, 1001, 10**12):
                end = None if length is None else start + length
                check_range(sink, "a", start, length, data[start:end])

    def test_ranges_of_an_empty_object_are_empty(self, sink: Sink) -> None:
        sink.put("empty", b"")
        for start, length in ((0, None), (0, 0), (0, 1), (1, None), (5, 7)):
            check_range(sink, "empty", start, length, b"")

    def test_a_range_of_a_large_object_is_whole(self, sink: Sink) -> None:
        data = os.urandom(_BIG)
        sink.put("a", data)
        for start, length in ((0, 10), (5 * 2**20 - 3, 9), (1, _BIG - 2), (_BIG - 3, 100), (2**20, 8 * 2**20 + 1)):
            check_range(sink, "a", start, length, data[start : start + length])

    def test_a_missing_object_is_reported_with_its_key(self, sink: Sink) -> None:
        sink.put("packs/00/here", b"x")
        calls: dict[str, Callable[[str], object]] = {
            "get": sink.get,
            "range": lambda key: sink.get(key, start=0, length=0),
            "stat": sink.stat,
        }
        for key in ("gone", "packs/00/gone", "packs/00", "packs/00/her", "packs/00/here-too", "packs/00/here/x"):
            for name, call in calls.items():
                with must_raise(ObjectMissing, f"{name} of {key}, which does not exist,") as raised:
                    call(key)
                error = raised.error
                assert error.key == key, f"the ObjectMissing of {name} carries the key {error.key!r}, not {key!r}"
                assert key in str(error), f"the ObjectMissing of {name} does not name the key {key}: {error}"

    def test_a_put_replaces_the_whole_object(self, sink: Sink, sibling: Sink) -> None:
        for data in (b"x" * 1000, b"short", b"", b"longer again"):
            sink.put("a", data)
            check_bytes(sibling.get("a"), data, "get of an object that was replaced")
            check_size(sibling.stat("a"), len(data))

    def test_put_if_absent_leaves_what_is_there(self, sink: Sink, sibling: Sink) -> None:
        sink.put("grants/a", b"first", if_absent=True)
        for writer in (sink, sibling):
            for data in (b"second", b"first", b""):
                with must_raise(ObjectExists, "put(if_absent=True) of an object that exists") as raised:
                    writer.put("grants/a", data, if_absent=True)
                key = raised.error.key
                assert key == "grants/a", f"the ObjectExists of a put carries the key {key!r}, not 'grants/a'"
        check_bytes(sink.get("grants/a"), b"first", "get after refused puts with if_absent")
        sink.delete("grants/a")
        with must_work("put(if_absent=True) of an object that was deleted"):
            sibling.put("grants/a", b"third", if_absent=True)
        check_bytes(sink.get("grants/a"), b"third", "get of what was put with if_absent")

    def test_put_if_absent_finds_an_empty_object(self, sink: Sink) -> None:
        sink.put("a", b"")
        with must_raise(ObjectExists, "put(if_absent=True) of an object that exists and is empty"):
            sink.put("a", b"x", if_absent=True)
        check_bytes(sink.get("a"), b"", "get of an empty object after a refused put")

    def test_of_concurrent_puts_if_absent_exactly_one_wins(self, sink: Sink, sibling: Sink) -> None:
        writers = 12
        with ThreadPoolExecutor(writers) as pool:
            for turn in range(10):
                key = f"slots/{turn}"
                start = threading.Barrier(writers)

                def put(number: int, key: str = key, start: threading.Barrier = start) -> bytes | None:
                    data = bytes([number]) * 20_000
                    start.wait()
                    try:
                        (sink, sibling)[number % 2].put(key, data, if_absent=True)
                    except ObjectExists:
                        return None
                    return data

                winners = [data for data in pool.map(put, range(writers)) if data is not None]
                assert len(winners) == 1, f"{len(winners)} writers were told that they made {key}"
                check_bytes(sink.get(key), winners[0], "get of what the one successful put stored")

    def test_of_puts_if_absent_by_two_processes_exactly_one_wins(self, sink: Sink) -> None:
        if self.shared is not None:
            applicable(self.shared)
        if Capability.CONDITIONAL_PUT not in sink.capabilities():
            pytest.skip("not applicable: the sink does not declare CONDITIONAL_PUT")
        with elsewhere(type(sink), sink.settings) as other:
            for turn in range(20):
                key, mine, theirs = f"slots/{turn}", b"here" * 5_000, b"elsewhere" * 5_000
                other.begin(key, theirs)
                try:
                    sink.put(key, mine, if_absent=True)
                    won = True
                except ObjectExists:
                    won = False
                others = other.won()
                assert won != others, (
                    f"{'both' if won else 'neither'} of two processes were told that they made {key}: "
                    "CONDITIONAL_PUT says that the storage decides, which no lock of one process does"
                )
                check_bytes(sink.get(key), mine if won else theirs, "get of what the one successful put stored")

    def test_a_reader_sees_the_old_object_or_the_new_one(self, sink: Sink, sibling: Sink) -> None:
        versions = [bytes([number]) * (100_000 + number * 50_000) for number in range(4)]
        sink.put("a", versions[0])
        done = threading.Event()

        def read() -> int:
            count = 0
            while not (done.is_set() and count):
                data = sibling.get("a")
                assert data in versions, (
                    f"a reader got {len(data)} bytes that nobody put, while the object was replaced"
                )
                size = sibling.stat("a").size
                assert size in {len(version) for version in versions}, f"stat gave {size}, the size of no version"
                count += 1
            return count

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(4)]
            try:
                for turn in range(60):
                    sink.put("a", versions[turn % 4])
            finally:
                done.set()
            with must_work("get and stat of an object that is replaced meanwhile"):
                assert all(reader.result() for reader in readers)
        check_bytes(sink.get("a"), versions[59 % 4], "get of what was put last")

    def test_a_listing_gives_exactly_what_starts_with_the_prefix(self, sink: Sink) -> None:
        objects = {"packs/00/a": 1, "packs/00/b": 2, "packs/0b": 3, "packs/10/a": 4, "packs-x": 5, "index/a": 6}
        for key, size in objects.items():
            sink.put(key, bytes(size))
        for prefix in ("", "p", "packs", "packs/", "packs/0", "packs/00", "packs/00/a", "packs/00/aa", "q"):
            wanted = {key: size for key, size in objects.items() if key.startswith(prefix)}
            check_listing(sink.list(prefix), wanted, f"with the prefix {prefix!r}")

    def test_an_object_that_is_put_if_absent_is_seen_whole_or_not_at_all(self, sink: Sink, sibling: Sink) -> None:
        data = os.urandom(200_000)
        for turn in range(20):
            key = f"grants/{turn}"
            with trials.watched(partial(trials.wrong_sizes, sibling, key, data)) as wrong:
                sink.put(key, data, if_absent=True)
            assert not wrong, f"{', '.join(sorted(wrong))}: write it aside, then link it into its place"

    def test_a_listing_shows_no_unfinished_upload(self, sink: Sink, sibling: Sink) -> None:
        keys = {f"packs/0{turn}/a" for turn in range(6)}
        data = os.urandom(3_000_000)

        def strange() -> Iterator[str]:
            for info in sibling.list():
                if info.key not in keys:
                    yield f"a listing shows {info.key}, which nobody put: an unfinished upload?"
                elif info.size != len(data):
                    yield f"a listing shows {info.key} with {info.size} of {len(data)} bytes"

        with trials.watched(strange) as wrong:
            for key in sorted(keys):
                sink.put(key, data, if_absent=True)
        assert not wrong, ", ".join(sorted(wrong))

    def test_a_listing_of_thousands_of_objects_gives_each_once(self, sink: Sink) -> None:
        many = applicable(self.many_objects)
        keys = [f"packs/{number % 7:02x}/{number:05}" for number in range(many)]
        with ThreadPoolExecutor(sink.connections) as pool:
            list(pool.map(lambda key: sink.put(key, b""), keys))
        listed = [info.key for info in sink.list("packs/")]
        missing, more = set(keys) - set(listed), len(listed) - len(set(listed))
        assert not missing, f"a listing of {many} objects ended after {len(listed)}: {len(missing)} are missing"
        assert not more, f"a listing of {many} objects gave {more} of them twice"
        third = dict.fromkeys((key for key in keys if key.startswith("packs/03")), 0)
        check_listing(sink.list("packs/03"), third, "with the prefix 'packs/03'")
        # Prune deletes while it lists.
        for info in sink.list("packs/03"):
            sink.delete(info.key)
        gone = keys[:1_001]  # one more than services take at once
        sink.delete_many(gone)
        kept, left = set(keys) - set(gone) - set(third), {info.key for info in sink.list()}
        assert not left - kept, f"{len(left - kept)} of {len(gone)} deleted objects are still listed"
        assert not kept - left, f"{len(kept - left)} objects are gone that nobody deleted"

    def test_an_empty_sink_lists_nothing(self, sink: Sink) -> None:
        check_listing(sink.list(), {}, "of an empty sink")
        check_listing(sink.list("packs/"), {}, "with a prefix in an empty sink")

    def test_times_are_utc(self, sink: Sink) -> None:
        sink.put("a", b"x")
        for how, info in [*(("list", info) for info in sink.list()), ("stat", sink.stat("a"))]:
            in_utc = info.modified is None or info.modified.utcoffset() == timedelta(0)
            assert in_utc, f"{how} gives the time {info.modified!r}, which is not one with the zone UTC"

    def test_odd_keys_are_kept_apart(self, sink: Sink) -> None:
        for key in ODD_KEYS:
            sink.put(key, key.encode(), if_absent=True)
        check_listing(sink.list(), {key: len(key) for key in ODD_KEYS}, "of odd and valid keys")
        for key in ODD_KEYS:
            check_bytes(sink.get(key), key.encode(), f"get of {key}")
            found = sink.stat(key).key
            assert found == key, f"stat of {key} tells of an object {found}"
            sink.delete(key)
        check_listing(sink.list(), {}, "after all objects were deleted")

    def test_invalid_keys_are_refused(self, sink: Sink) -> None:
        sink.put("in/a", b"x")
        for key in INVALID_KEYS:
            for if_absent in (False, True):
                with must_raise(SinkError, f"put with the invalid key {key!r}"):
                    sink.put(key, b"y", if_absent=if_absent)
            for call in (sink.get, sink.stat):
                with must_raise(SinkError, f"{call.__name__} of the invalid key {key!r}"):
                    call(key)
        check_listing(sink.list(), {"in/a": 1}, "after puts with invalid keys")

    def test_a_delete_removes_one_object_and_may_be_repeated(self, sink: Sink, sibling: Sink) -> None:
        for key in ("a/b", "a/bc", "a/c"):
            sink.put(key, b"x")
        for key in ("a/b", "a/b", "never/was", "a", "a/b/c"):
            with must_work(f"delete of {key}, whether it exists or not,"):
                sink.delete(key)
                sibling.delete(key)
        with must_raise(ObjectMissing, "get of a deleted object"):
            sink.get("a/b")
        check_listing(sibling.list(), {"a/bc": 1, "a/c": 1}, "after deletes of other objects")
        with must_work("a delete of one object by eight threads at once"), ThreadPoolExecutor(8) as pool:
            list(pool.map(sink.delete, ["a/bc"] * 8))
        check_listing(sink.list(), {"a/c": 1}, "after deletes of other objects")

    def test_many_are_deleted_at_once_and_nothing_else(self, sink: Sink) -> None:
        keys = [f"packs/00/{number}" for number in range(20)]
        for key in [*keys, "packs/00/20", "packs/0"]:
            sink.put(key, b"x")
        with must_work("delete_many of keys that a generator gives, of which some do not exist,"):
            sink.delete_many(key for key in [*keys, "packs/00/gone", *keys[3:5]])
        check_listing(sink.list(), {"packs/0": 1, "packs/00/20": 1}, "after delete_many of other objects")
        with must_work("delete_many of no keys"):
            sink.delete_many([])
        with must_raise(SinkError, "delete_many of an invalid key"):
            sink.delete_many(["../out"])

    def test_threads_do_not_disturb_each_other(self, sink: Sink) -> None:
        def work(number: int) -> None:
            for turn in range(8):
                key, data = f"packs/{number:02x}/{turn}", os.urandom(1000 * number + turn)
                sink.put(key, data, if_absent=True)
                check_bytes(sink.get(key), data, "get of one object beside eleven other threads")
                check_range(sink, key, turn, 10, data[turn : turn + 10])
                check_size(sink.stat(key), len(data))
                check_listing(sink.list(f"packs/{number:02x}/"), {key: len(data)}, "beside eleven other threads")
                sink.delete(key)

        with must_work("calls of twelve threads, each with keys of its own,"), ThreadPoolExecutor(12) as pool:
            list(pool.map(work, range(12)))

    def test_locks_are_lengthened_where_they_are_declared_and_nowhere_else(self, sink: Sink) -> None:
        sink.put("packs/00/a", b"x")
        soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
        if Capability.OBJECT_LOCK not in sink.capabilities():
            assert sink.retention is None, f"retention is {sink.retention} without OBJECT_LOCK, where it is None"
            with must_raise(SinkError, "retain without OBJECT_LOCK") as refused:
                sink.retain("packs/00/a", later)
            key = refused.error.key
            assert key == "packs/00/a", f"the error of retain carries the key {key!r}, not 'packs/00/a'"
            return
        assert sink.retention, f"retention is {sink.retention} with OBJECT_LOCK: it says how long a put locks"
        assert sink.retention > timedelta(0), f"retention is {sink.retention}: it says how long a put locks"
        for until in (later, soon, later):
            with must_work("retain to an earlier or a later time, which never shortens a lock,"):
                sink.retain("packs/00/a", until)
            check_bytes(sink.get("packs/00/a"), b"x", "get of a locked object")
        with must_raise(ObjectMissing, "retain of an object that does not exist"):
            sink.retain("packs/00/gone", later)

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
