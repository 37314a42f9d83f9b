# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sinks that is about listings."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import ClassVar

from penstock.api import Sink
from penstock.testing import sink_trials as trials
from penstock.testing.kit import NotApplicable, applicable
from penstock.testing.sink_checks import check_listing

__all__ = ["ListingTests"]


class ListingTests:
    """Tests of which objects are listed, and when."""

    #: How many objects of 0 bytes a listing is tried with. More than services and SDKs are known to stop at: 1,000 and
    #: 5,000. Where that costs too much, a class says how many it can afford, and why, or gives a `NotApplicable`.
    many_objects: ClassVar[int | NotApplicable] = 5_100

    def test_a_listing_gives_exactly_what_starts_with_the_prefix(self, sink: Sink) -> None:
        objects = {"packs/00/a": 1, "packs/00/b": 2, "packs/0b": 3, "packs/10/a": 4, "packs-x": 5, "index/a": 6}
        for key, size in objects.items():
            sink.put(key, bytes(size))
        for prefix in ("", "p", "packs", "packs/", "packs/0", "packs/00", "packs/00/a", "packs/00/aa", "q"):
            wanted = {key: size for key, size in objects.items() if key.startswith(prefix)}
            check_listing(sink.list(prefix), wanted, f"with the prefix {prefix!r}")

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
