"""SIGKILL at any moment: what was there stays sound, nothing half done is shown, and a rerun is the resume."""

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from core.tests.engine.engine_process import start
from core.tests.repository.folder_sink import FolderSink
from core.tests.repository.lab import KIB, MIB, Lab
from tests.soak import long, times

from penstock.repository import Access
from penstock.repository.snapshots import list_snapshots
from penstock.testing import SyntheticSettings, SyntheticSource

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

SIZE = 48 * MIB
#: Bytes a second: slow enough to be met in the middle.
PACE = 16 * MIB


class Host:
    """One host, and the folder that it backs up into: a copy of an empty repository.

    All of them have its keys. So a stream is cut into the same chunks each time, and the sizes of what two runs store
    are compared without an allowance for chance.
    """

    def __init__(self, folder: Path, empty: Path) -> None:
        shutil.copytree(empty, folder)
        self.folder = folder
        self.empty = empty
        self.sink = FolderSink(folder)
        owner = Access.from_key_file((folder / "owner.key").read_bytes(), "owner.key")
        self.lab = Lab(folder / "cache", self.sink, owner)

    def next(self) -> "Host":
        """Another one, which begins with nothing."""
        return Host(self.folder / "next", self.empty)

    def start(self, *, pace: int | None = None, puts: int | None = None) -> "subprocess.Popen[str]":
        return start("backup", self.folder, SIZE, memory=64 * MIB, pace=pace, puts=puts)

    def run(self) -> None:
        """To its end, as fast as it goes."""
        with self.start() as process:
            process.communicate(timeout=300)
        assert process.returncode == 0

    def puts(self) -> int:
        return sum(1 for _ in self.sink.list())

    def die_after_puts(self, puts: int) -> None:
        """A run that is killed in the middle of the next put."""
        with self.start(puts=puts) as process:
            process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL

    def kill_after_seconds(self, seconds: float) -> bool:
        """A run that is killed from outside, that long after it has begun to move bytes; False when it was faster."""
        with self.start(pace=PACE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(seconds)
            process.kill()
        return process.returncode == -signal.SIGKILL

    def assert_nothing_is_shown_or_broken(self) -> None:
        assert list_snapshots(self.lab.open()) == []
        assert self.lab.check(cache=self.lab.cache).findings == ()
        assert self.lab.check().findings == ()

    def assert_resumes(self, whole: int) -> None:
        """A rerun brings it to what an undisturbed run takes, so nothing that had landed was stored once more."""
        self.run()
        objects = self.puts()
        # Sessions, index objects and directories of the runs that were killed.
        assert self.sink.size <= whole + 64 * KIB * objects
        assert self.lab.check(cache=self.lab.cache).findings == ()
        target = SyntheticSource(SyntheticSettings(size=SIZE))
        self.lab.restore(into=target, cache=self.lab.cache)
        assert target.taken == {"synthetic/0.bin": SIZE}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository without a snapshot, and the key of its owner."""
    folder = tmp_path_factory.mktemp("empty")
    lab = Lab(folder / "cache", FolderSink(folder))
    (folder / "owner.key").write_bytes(lab.owner.to_key_file())
    return folder


@pytest.fixture
def host(tmp_path: Path, empty: Path) -> Host:
    return Host(tmp_path / "host", empty)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty: Path) -> tuple[int, int]:
    host = Host(tmp_path_factory.mktemp("undisturbed") / "host", empty)
    before = host.puts()
    host.run()
    return host.sink.size, host.puts() - before


@pytest.fixture
def whole(undisturbed: tuple[int, int]) -> int:
    """Bytes that a repository takes after one run that nobody killed."""
    return undisturbed[0]


@pytest.fixture
def puts(undisturbed: tuple[int, int]) -> int:
    """How many objects such a run puts there: its session, packs, their index, three parts of a snapshot, the head."""
    return undisturbed[1]


@pytest.mark.parametrize(
    "left",
    [1, 2, pytest.param(4, marks=pytest.mark.slow), 5, pytest.param(7, marks=pytest.mark.slow)],
    ids=["head", "last part", "first part", "index", "pack"],
)
def test_a_killed_backup_shows_nothing_and_is_resumed(host: Host, whole: int, puts: int, left: int) -> None:
    host.die_after_puts(puts - left)
    host.assert_nothing_is_shown_or_broken()
    assert 16 * MIB < host.sink.size < whole
    host.assert_resumes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("lose_cache", [False, True], ids=["cache kept", "cache lost"])
def test_a_backup_that_is_killed_again_and_again_is_resumed(host: Host, whole: int, lose_cache: bool) -> None:
    # Its session is new in each run; what else had landed is not put again.
    for puts in (0, 1, 2, 2, 3):
        host.die_after_puts(puts)
        host.assert_nothing_is_shown_or_broken()
        if lose_cache:
            shutil.rmtree(host.lab.cache, ignore_errors=True)
    host.assert_resumes(whole)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=long(60)) for seed in range(4)])
def test_a_crash_loop_never_shows_or_breaks_anything(host: Host, whole: int, seed: int) -> None:
    """Killed from outside at times that nobody chose, with the cache there or not; whatever comes first is resumed."""
    chance = random.Random(seed)
    killed = 0
    for _ in range(times(20)):
        if chance.random() < 0.3:
            shutil.rmtree(host.lab.cache, ignore_errors=True)
        if not host.kill_after_seconds(chance.uniform(0, 3)):
            # It has ended before, which resumed all that there was. The next loop begins with nothing.
            assert len(list_snapshots(host.lab.open())) == 1
            assert host.lab.check().findings == ()
            host = host.next()
            continue
        killed += 1
        if list_snapshots(host.lab.open()):  # the kill hit it between its last put and its exit
            assert host.lab.check().findings == ()
            host = host.next()
        else:
            host.assert_nothing_is_shown_or_broken()
    assert killed > 0
    host.assert_resumes(whole)
