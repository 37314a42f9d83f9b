"""Streams of one dump are written by several workers and committed at once; a worker that dies costs one try."""

import os
import shutil
import threading
from pathlib import Path
from typing import Literal

import pytest
from core.tests.engine.workplaces import Cursed, FolderWorkplace, SlowSource
from core.tests.repository.folder_sink import FolderSink
from core.tests.repository.lab import MIB, Lab

from penstock.api import Capability, DumpFailed, DumpStream, EventKind, StreamSpec, UsageError
from penstock.api.errors import WorkerDied
from penstock.engine import BackupResult, backup
from penstock.engine.dumping.side_by_side import Jobs
from penstock.engine.dumping.units import units_of
from penstock.repository.snapshots import list_snapshots
from penstock.testing import SyntheticSettings, SyntheticSource

#: They start processes.
pytestmark = pytest.mark.slow

STREAMS = 5


class Works:
    """A repository in a folder, and a source of five streams of 20 MiB each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sink = FolderSink(folder / "repository")
        self.lab = Lab(folder / "cache", self.sink)
        self.workers: set[int] = set()
        self.settings = SyntheticSettings(size=20 * MIB, streams=STREAMS, compressible=0.1)

    def workplace(self, cursed: Cursed | None = None) -> FolderWorkplace:
        return FolderWorkplace(self.folder / "repository", self.lab.owner.to_key_file(), self.settings, cursed)

    def backup(
        self,
        jobs: int = 2,
        executor: Literal["threads", "processes"] = "processes",
        cursed: Cursed | None = None,
        source: SyntheticSource | None = None,
        memory: int = 256 * MIB,
    ) -> BackupResult:
        return backup(
            self.lab.open(),
            source or SlowSource(self.settings, cursed),
            name="shop",
            source_type="synthetic",
            cache_dir=self.lab.cache,
            memory=memory,
            compression=1,
            jobs=Jobs(jobs, executor, self.workplace(cursed), self.workers.add),
            listener=self.lab.events.append,
        )

    def cursed(self, how: str, times: int = 1) -> Cursed:
        return Cursed(self.folder, "synthetic/3.bin", how, times)

    def is_whole(self) -> None:
        source = SyntheticSource(self.settings)
        self.lab.restore("latest", into=source)
        assert source.taken == {f"synthetic/{number}.bin": 20 * MIB for number in range(STREAMS)}
        assert self.lab.check(read_data=True).findings == ()


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_streams_are_written_side_by_side_and_committed_at_once(
    works: Works, executor: Literal["threads", "processes"]
) -> None:
    result = works.backup(2, executor)
    works.is_whole()
    (entry,) = list_snapshots(works.lab.open())
    assert (entry.head.streams, entry.head.size, result.read) == (STREAMS, STREAMS * 20 * MIB, STREAMS * 20 * MIB)
    if executor == "processes":
        assert len(works.workers) == 2
        assert os.getpid() not in works.workers
    else:
        assert works.workers == set()
    again = works.backup(2, executor)
    assert again.stored < MIB / 4
    assert works.backup(1).stored < MIB / 4, "and one worker alone finds it too"
    works.is_whole()
    told = [event for event in works.lab.events if event.operation == "backup"]
    progress = [event for event in told if event.kind is EventKind.PROGRESS]
    assert all(event.stream_done <= event.done <= STREAMS * 20 * MIB for event in progress)
    assert {event.stream for event in progress} == set(entry_names())
    assert max(event.done for event in progress) == STREAMS * 20 * MIB


def entry_names() -> list[str]:
    return [f"synthetic/{number}.bin" for number in range(STREAMS)]


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_worker_that_dies_costs_its_stream_a_second_try(works: Works, how: str) -> None:
    result = works.backup(cursed=works.cursed(how))
    works.is_whole()
    assert result.retries == 1
    (retry,) = [event for event in works.lab.events if event.kind is EventKind.RETRY]
    assert "synthetic/3.bin is read again" in retry.message
    dumps = [event for event in works.lab.events if event.kind is EventKind.PHASE and event.phase == "dumping"]
    assert len(dumps) == 1, "under the same view"


def test_a_stream_that_kills_every_worker_fails_the_dump(works: Works) -> None:
    with pytest.raises(WorkerDied, match="was killed by SIGKILL") as caught:
        works.backup(cursed=works.cursed("kill", times=2))
    assert caught.value.exit_code == 70
    assert list_snapshots(works.lab.open()) == []
    works.backup()
    works.is_whole()


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_stream_that_fails_fails_the_dump_and_ends_the_others(
    works: Works, executor: Literal["threads", "processes"]
) -> None:
    with pytest.raises(DumpFailed, match=r"synthetic/3.bin: as it was told to"):
        works.backup(executor=executor, cursed=works.cursed("fail"))
    assert list_snapshots(works.lab.open()) == []
    assert no_threads_left()


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_dump_that_only_the_moment_spoilt_begins_again(
    works: Works, executor: Literal["threads", "processes"]
) -> None:
    assert works.backup(executor=executor, cursed=works.cursed("spoilt")).retries == 1
    works.is_whole()


def test_an_error_that_does_not_come_through_a_pipe_is_named(works: Works) -> None:
    with pytest.raises(RuntimeError, match="_NotPicklable in a worker"):
        works.backup(cursed=works.cursed("odd"))


def no_threads_left() -> bool:
    return not [one for one in threading.enumerate() if one.name.startswith(("penstock-lane", "penstock-stream"))]


def test_a_dump_of_one_stream_is_written_without_workers(works: Works) -> None:
    works.settings = SyntheticSettings(size=20 * MIB, streams=1)
    works.backup(4)
    assert works.workers == set()


def test_the_source_limits_how_many_streams_are_open_at_once(works: Works) -> None:
    class Narrow(SlowSource):
        @property
        def most_streams(self) -> int:
            return 1

    works.backup(4, source=Narrow(works.settings))
    assert works.workers == set()
    works.is_whole()


def test_a_source_whose_streams_belong_to_one_process_has_threads(works: Works) -> None:
    class Here(SlowSource):
        def capabilities(self) -> frozenset[Capability]:
            return frozenset({Capability.CONCURRENT_STREAMS})

        def attach(self, spec: StreamSpec) -> DumpStream:
            threads.add(threading.current_thread().name)
            return super().attach(spec)

    threads = set[str]()
    works.backup(4, source=Here(works.settings))
    assert works.workers == set()
    assert len(threads) > 1
    works.is_whole()


def test_a_source_whose_streams_cannot_be_read_at_once_has_one_worker(works: Works) -> None:
    class Alone(SlowSource):
        def capabilities(self) -> frozenset[Capability]:
            return frozenset()

    works.backup(4, source=Alone(works.settings))
    assert works.workers == set()
    works.is_whole()


@pytest.mark.parametrize(("jobs", "memory"), [(4, 255 * MIB), (0, 256 * MIB), (2, 64 * MIB)])
def test_too_many_jobs_for_the_memory_are_refused_before_anything(works: Works, jobs: int, memory: int) -> None:
    before = {info.key for info in works.sink.list()}
    with pytest.raises(UsageError, match="jobs"):
        works.backup(jobs, memory=memory)
    assert {info.key for info in works.sink.list()} == before


def test_what_all_workers_come_upon_is_told_once(works: Works) -> None:
    works.backup()
    (key, *_) = works.lab.keys(works.lab.at.index)
    works.sink.put(key, b"changed")
    shutil.rmtree(works.lab.cache)
    works.settings = SyntheticSettings(size=20 * MIB, streams=STREAMS, generation=1, compressible=0.1)
    result = works.backup()
    assert len([one for one in result.warnings if key in one]) == 1
    assert len(set(result.warnings)) == len(result.warnings)


def specs(*sizes: int | None) -> tuple[StreamSpec, ...]:
    return tuple(StreamSpec(str(number), "raw", size_estimate=size) for number, size in enumerate(sizes))


@pytest.mark.parametrize(
    ("sizes", "workers", "expected"),
    [
        ([100 * MIB] * 3, 2, [[0], [1], [2]]),
        ([MIB, 900 * MIB, MIB], 2, [[1], [0, 2]]),
        ([None] * 3, 2, [[0], [1], [2]]),
        ([None] * 32, 2, [[2 * one, 2 * one + 1] for one in range(16)]),
        ([1024] * 10_000, 2, [list(range(10_000))]),
        ([0, 0], 2, [[0, 1]]),
        ([20 * MIB] * 3, 2, [[0, 1, 2]]),
        ([20 * MIB] * 4, 2, [[0], [1], [2], [3]]),
        ([None, MIB], 2, [[0], [1]]),
        ([100 * MIB] * 3, 1, [[0, 1, 2]]),
    ],
)
def test_small_streams_share_a_unit(sizes: list[int | None], workers: int, expected: list[list[int]]) -> None:
    units = units_of(specs(*sizes), workers)
    assert [[number for number, _ in unit.streams] for unit in units] == expected
