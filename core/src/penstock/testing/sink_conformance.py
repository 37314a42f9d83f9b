# ruff: noqa: D102 - the names of the tests are what they promise
"""What every sink must do, as tests.

The author of a sink writes one fixture:

    class TestMySink(SinkConformance):
        @pytest.fixture
        def sink(self) -> Iterator[Sink]:
            sink = MySink(...)      # an empty one
            yield sink
            sink.close()

The tests are adversarial: they look for what storage is known to get wrong. A subclass may add tests, but not replace
one, unless it says why with `deviates`; its documentation should then say so too.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from penstock.api import Capability, ObjectExists, ObjectMissing, Sink, SinkError
from penstock.testing.keys import INVALID_KEYS, ODD_KEYS
from penstock.testing.kit import ConformanceKit, deviates

__all__ = ["SinkConformance", "deviates"]

_BIG = 17 * 1024 * 1024  # over the part sizes and buffers of common SDKs: 5, 8 and 16 MiB


class SinkConformance(ConformanceKit):
    """The tests; see the module. `sibling` may be overridden with another instance on the same storage."""

    @pytest.fixture
    def sink(self) -> Iterator[Sink]:
        """An empty sink. To be overridden."""
        raise NotImplementedError("a subclass of SinkConformance has a fixture `sink` that gives an empty sink")

    @pytest.fixture
    def sibling(self, sink: Sink) -> Sink:
        """Another instance on the same storage, as another host would have. `sink` itself, unless overridden."""
        return sink

    @pytest.mark.parametrize("size", [0, 1, 4095, 1024 * 1024 + 1, _BIG])
    def test_what_is_put_is_got(self, sink: Sink, size: int) -> None:
        data = os.urandom(size)
        sink.put("packs/00/a", data)
        assert sink.get("packs/00/a") == data
        assert sink.stat("packs/00/a").size == size
        assert [(found.key, found.size) for found in sink.list()] == [("packs/00/a", size)]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_every_kind_of_buffer_is_taken(self, sink: Sink, kind: type[bytes | bytearray | memoryview]) -> None:
        data = kind(b"0123456789")
        sink.put("a", data)
        sink.put("b", memoryview(data)[2:5])
        assert sink.get("a") == b"0123456789"
        assert sink.get("b") == b"234"
        assert type(sink.get("a")) is bytes

    def test_the_buffer_is_the_callers_again_after_a_put(self, sink: Sink) -> None:
        buffer = bytearray(b"first")
        sink.put("a", buffer)
        buffer[:] = b"other"
        assert sink.get("a") == b"first"
        buffer.extend(b"!")  # raises BufferError while anyone holds on to it
        with memoryview(buffer) as view:
            sink.put("b", view, if_absent=True)
            buffer[:] = b"again!"
        buffer.clear()
        assert sink.get("b") == b"other!"

    def test_ranges_give_what_there_is(self, sink: Sink) -> None:
        data = os.urandom(1000)
        sink.put("a", data)
        for start in (0, 1, 500, 999, 1000, 1001, 10**12):
            for length in (None, 0, 1, 499, 500, 1000, 1001, 10**12):
                end = None if length is None else start + length
                assert sink.get("a", start=start, length=length) == data[start:end], (start, length)

    def test_ranges_of_an_empty_object_are_empty(self, sink: Sink) -> None:
        sink.put("empty", b"")
        for start, length in ((0, None), (0, 0), (0, 1), (1, None), (5, 7)):
            assert sink.get("empty", start=start, length=length) == b""

    def test_a_range_of_a_large_object_is_whole(self, sink: Sink) -> None:
        data = os.urandom(_BIG)
        sink.put("a", data)
        for start, length in ((0, 10), (5 * 2**20 - 3, 9), (1, _BIG - 2), (_BIG - 3, 100), (2**20, 8 * 2**20 + 1)):
            assert sink.get("a", start=start, length=length) == data[start : start + length], (start, length)

    def test_a_missing_object_is_said_with_its_key(self, sink: Sink) -> None:
        sink.put("packs/00/here", b"x")
        calls: dict[str, Callable[[str], object]] = {
            "get": sink.get,
            "range": lambda key: sink.get(key, start=0, length=0),
            "stat": sink.stat,
        }
        for key in ("gone", "packs/00/gone", "packs/00", "packs/00/her", "packs/00/here-too", "packs/00/here/x"):
            for name, call in calls.items():
                with pytest.raises(ObjectMissing) as caught:
                    call(key)
                assert caught.value.key == key, name
                assert key in str(caught.value), name

    def test_a_put_replaces_the_whole_object(self, sink: Sink, sibling: Sink) -> None:
        for data in (b"x" * 1000, b"short", b"", b"longer again"):
            sink.put("a", data)
            assert sibling.get("a") == data
            assert sibling.stat("a").size == len(data)

    def test_put_if_absent_leaves_what_is_there(self, sink: Sink, sibling: Sink) -> None:
        sink.put("grants/a", b"first", if_absent=True)
        for writer in (sink, sibling):
            for data in (b"second", b"first", b""):
                with pytest.raises(ObjectExists) as caught:
                    writer.put("grants/a", data, if_absent=True)
                assert caught.value.key == "grants/a"
        assert sink.get("grants/a") == b"first"
        sink.delete("grants/a")
        sibling.put("grants/a", b"third", if_absent=True)
        assert sink.get("grants/a") == b"third"

    def test_put_if_absent_finds_an_empty_object(self, sink: Sink) -> None:
        sink.put("a", b"")
        with pytest.raises(ObjectExists):
            sink.put("a", b"x", if_absent=True)
        assert sink.get("a") == b""

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
                assert sink.get(key) == winners[0]

    def test_a_reader_sees_the_old_object_or_the_new_one(self, sink: Sink, sibling: Sink) -> None:
        versions = [bytes([number]) * (100_000 + number * 50_000) for number in range(4)]
        sink.put("a", versions[0])
        done = threading.Event()

        def read() -> int:
            count = 0
            while not (done.is_set() and count):
                data = sibling.get("a")
                assert data in versions, f"{len(data)} bytes that nobody put"
                assert sibling.stat("a").size in {len(version) for version in versions}
                count += 1
            return count

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(4)]
            try:
                for turn in range(60):
                    sink.put("a", versions[turn % 4])
            finally:
                done.set()
            assert all(reader.result() for reader in readers)
        assert sink.get("a") == versions[59 % 4]

    def test_a_listing_gives_exactly_what_starts_with_the_prefix(self, sink: Sink) -> None:
        objects = {"packs/00/a": 1, "packs/00/b": 2, "packs/0b": 3, "packs/10/a": 4, "packs-x": 5, "index/a": 6}
        for key, size in objects.items():
            sink.put(key, bytes(size))
        for prefix in ("", "p", "packs", "packs/", "packs/0", "packs/00", "packs/00/a", "packs/00/aa", "q"):
            found = [(info.key, info.size) for info in sink.list(prefix)]
            assert sorted(found) == sorted(item for item in objects.items() if item[0].startswith(prefix)), prefix

    def test_a_listing_of_over_a_thousand_objects_gives_each_once(self, sink: Sink) -> None:
        keys = [f"packs/{number % 7:02x}/{number:04}" for number in range(1100)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: sink.put(key, b"x"), keys))
        assert sorted(info.key for info in sink.list("packs/")) == sorted(keys)
        third = sorted(key for key in keys if key.startswith("packs/03"))
        assert sorted(info.key for info in sink.list("packs/03")) == third
        # Prune deletes while it lists.
        for info in sink.list("packs/"):
            sink.delete(info.key)
        assert list(sink.list()) == []

    def test_an_empty_sink_lists_nothing(self, sink: Sink) -> None:
        assert list(sink.list()) == []
        assert list(sink.list("packs/")) == []

    def test_times_are_utc(self, sink: Sink) -> None:
        sink.put("a", b"x")
        (listed,) = sink.list()
        for info in (listed, sink.stat("a")):
            assert info.modified is None or info.modified.utcoffset() == timedelta(0)

    def test_odd_keys_are_kept_apart(self, sink: Sink) -> None:
        for key in ODD_KEYS:
            sink.put(key, key.encode(), if_absent=True)
        assert sorted(info.key for info in sink.list()) == sorted(ODD_KEYS)
        for key in ODD_KEYS:
            assert sink.get(key) == key.encode()
            assert sink.stat(key).key == key
            sink.delete(key)
        assert list(sink.list()) == []

    def test_invalid_keys_are_refused(self, sink: Sink) -> None:
        sink.put("in/a", b"x")
        for key in INVALID_KEYS:
            for if_absent in (False, True):
                with pytest.raises(SinkError):
                    sink.put(key, b"y", if_absent=if_absent)
            for call in (sink.get, sink.stat):
                with pytest.raises(SinkError):
                    call(key)
        assert [info.key for info in sink.list()] == ["in/a"]

    def test_a_delete_removes_one_object_and_may_be_repeated(self, sink: Sink, sibling: Sink) -> None:
        for key in ("a/b", "a/bc", "a/c"):
            sink.put(key, b"x")
        for key in ("a/b", "a/b", "never/was", "a", "a/b/c"):
            sink.delete(key)
            sibling.delete(key)
        with pytest.raises(ObjectMissing):
            sink.get("a/b")
        assert sorted(info.key for info in sibling.list()) == ["a/bc", "a/c"]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(sink.delete, ["a/bc"] * 8))
        assert [info.key for info in sink.list()] == ["a/c"]

    def test_threads_do_not_disturb_each_other(self, sink: Sink) -> None:
        def work(number: int) -> None:
            for turn in range(8):
                key, data = f"packs/{number:02x}/{turn}", os.urandom(1000 * number + turn)
                sink.put(key, data, if_absent=True)
                assert sink.get(key) == data
                assert sink.get(key, start=turn, length=10) == data[turn : turn + 10]
                assert sink.stat(key).size == len(data)
                assert {info.key for info in sink.list(f"packs/{number:02x}/")} == {key}
                sink.delete(key)

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(work, range(12)))

    def test_locks_are_lengthened_where_they_are_declared_and_nowhere_else(self, sink: Sink) -> None:
        sink.put("packs/00/a", b"x")
        soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
        if Capability.OBJECT_LOCK not in sink.capabilities():
            assert sink.retention is None
            with pytest.raises(SinkError) as refused:
                sink.retain("packs/00/a", later)
            assert refused.value.key == "packs/00/a"
            return
        assert sink.retention is not None
        assert sink.retention > timedelta(0)
        for until in (later, soon, later):
            sink.retain("packs/00/a", until)
            assert sink.get("packs/00/a") == b"x"
        with pytest.raises(ObjectMissing):
            sink.retain("packs/00/gone", later)

    def test_it_says_where_it_is(self, sink: Sink) -> None:
        assert isinstance(sink.location, str)
        assert sink.location
        assert "\n" not in sink.location

    def test_it_may_be_closed_twice(self, sink: Sink) -> None:
        sink.put("a", b"x")
        sink.close()
        sink.close()
