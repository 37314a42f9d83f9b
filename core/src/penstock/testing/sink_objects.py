# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sinks that is about objects: put, got, replaced, deleted and locked."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from penstock.api import Capability, ObjectExists, ObjectMissing, Sink, SinkError
from penstock.testing.keys import INVALID_KEYS, ODD_KEYS
from penstock.testing.kit import must_raise, must_work
from penstock.testing.sink_checks import check_bytes, check_listing, check_range, check_size

__all__ = ["ObjectTests"]

_BIG = 17 * 1024 * 1024  # over the part sizes and buffers of common SDKs: 5, 8 and 16 MiB


class ObjectTests:
    """Tests of one object at a time, and of keys."""

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
