"""Several writers at the same time: nobody locks, and nobody spoils what another does."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, BytesStream, Lab, noise

from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_writer

SHARED = noise(12 * MIB)


def at_once(*works: Callable[[], object]) -> list[BaseException]:
    """Run all on threads of their own; what they raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by the thread that may fail a test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def meet(barrier: threading.Barrier) -> Callable[[bytes], BytesStream]:
    """Streams that wait for one another after each MiB, so that their backups run side by side."""

    class Meeting(BytesStream):
        def readinto(self, buffer: memoryview, /) -> int:
            barrier.wait(300)
            return super().readinto(buffer)

    return Meeting


@pytest.mark.slow
def test_two_writers_with_caches_of_their_own_both_commit_what_they_read(lab: Lab, tmp_path: Path) -> None:
    writers = [add_writer(lab.repository, name, domain="main") for name in ("one", "two")]
    contents = [noise(2 * MIB, number) + SHARED for number in range(2)]
    opener = meet(threading.Barrier(2))
    errors = at_once(
        *(
            lambda number=number: lab.backup(
                BytesSource({"d": contents[number]}, opener=opener),
                name=f"host-{number}",
                by=lab.open(writers[number]),
                cache=tmp_path / f"cache-{number}",
            )
            for number in range(2)
        )
    )
    assert errors == []
    for number in range(2):
        assert lab.restored(f"latest:host-{number}") == {"d": contents[number]}
    assert lab.check().findings == ()
    # What both stored at the same time is there twice; who comes later finds it.
    assert lab.backup({"d": SHARED}, cache=tmp_path / "cache-0").stored < 64 * KIB


@pytest.mark.slow
def test_two_writers_may_share_a_cache(lab: Lab) -> None:
    contents = [noise(2 * MIB, number) + SHARED for number in range(2)]
    opener = meet(threading.Barrier(2))
    errors = at_once(
        *(
            lambda number=number: lab.backup(BytesSource({"d": contents[number]}, opener=opener), name=f"shop-{number}")
            for number in range(2)
        )
    )
    assert errors == []
    for number in range(2):
        assert lab.restored(f"latest:shop-{number}") == {"d": contents[number]}
    assert lab.check(cache=lab.cache).findings == ()


@pytest.mark.slow
def test_checks_and_restores_are_not_disturbed_by_writers(lab: Lab, tmp_path: Path) -> None:
    lab.backup({"d": SHARED[: 2 * MIB]})
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(8):
                lab.backup({"d": noise(MIB, number)}, name="other", cache=tmp_path / "writer")
        finally:
            done.set()

    def watch() -> None:
        while not done.is_set():
            assert lab.check(read_data=False, cache=tmp_path / "watcher").findings == ()
            target = BytesSource({})
            lab.restore("latest:shop", into=target, cache=tmp_path / "watcher")
            assert target.restored == {"d": SHARED[: 2 * MIB]}

    assert at_once(write, watch) == []
    assert len(list_snapshots(lab.open())) == 9
