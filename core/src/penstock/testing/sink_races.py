# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sinks that is about threads and processes that use one storage at the same time."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar

import pytest

from penstock.api import Capability, ObjectExists, Sink
from penstock.testing import sink_trials as trials
from penstock.testing.kit import NotApplicable, applicable, must_work
from penstock.testing.sink_checks import check_bytes, check_listing, check_range, check_size
from penstock.testing.sink_processes import elsewhere

__all__ = ["RaceTests"]


class RaceTests:
    """Tests of who wins, and of what others see meanwhile."""

    #: None: another process that has the settings has the storage. Otherwise why not, as of storage in this process.
    shared: ClassVar[NotApplicable | None] = None

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

    def test_an_object_that_is_put_if_absent_is_seen_whole_or_not_at_all(self, sink: Sink, sibling: Sink) -> None:
        data = os.urandom(200_000)
        for turn in range(20):
            key = f"grants/{turn}"
            with trials.watched(partial(trials.wrong_sizes, sibling, key, data)) as wrong:
                sink.put(key, data, if_absent=True)
            assert not wrong, f"{', '.join(sorted(wrong))}: write it aside, then link it into its place"

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
