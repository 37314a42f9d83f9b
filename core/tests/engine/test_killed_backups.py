"""SIGKILL at any moment: what was there stays sound, nothing half done is shown, and a rerun is the resume."""

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from core.tests.engine.engine_process import start
from core.tests.repository.folder_sink import FolderSink
from core.tests.repository.lab import KIB, MIB, Lab

from penstock.repository.snapshots import list_snapshots
from penstock.testing import SyntheticSettings, SyntheticSource

SIZE = 48 * MIB
#: Bytes a second: slow enough to be met in the middle.
PACE = 40 * MIB


class Host:
    """One host, and the folder that it backs up into."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.sink = FolderSink(folder)
        self.lab = Lab(folder / "cache", self.sink)
        (folder / "owner.key").write_bytes(self.lab.owner.to_key_file())

    def start(self, pace: int | None = PACE) -> "subprocess.Popen[str]":
        return start("backup", self.folder, SIZE, memory=64 * MIB, pace=pace)

    def run(self) -> None:
        """To its end, as fast as it goes."""
        with self.start(pace=None) as process:
            process.communicate(timeout=120)
        assert process.returncode == 0

    def puts(self) -> int:
        return sum(1 for _ in self.sink.list())

    def kill_after_puts(self, puts: int) -> None:
        before = self.puts()
        with self.start() as process:
            while process.poll() is None and self.puts() < before + puts:
                time.sleep(0.002)
            process.kill()

    def kill_after_seconds(self, seconds: float) -> None:
        with self.start() as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(seconds)
            process.kill()

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


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes that a repository takes after one run that nobody killed."""
    host = Host(tmp_path_factory.mktemp("undisturbed") / "host")
    host.run()
    return host.sink.size


def test_a_killed_backup_shows_nothing_and_is_resumed(host: Host, whole: int) -> None:
    host.kill_after_puts(3)
    host.assert_nothing_is_shown_or_broken()
    assert 16 * MIB < host.sink.size < whole
    host.assert_resumes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("lose_cache", [False, True], ids=["cache kept", "cache lost"])
def test_a_backup_that_is_killed_again_and_again_is_resumed(host: Host, whole: int, lose_cache: bool) -> None:
    chance = random.Random(1)
    for puts in (0, 1, 2, 3):
        host.kill_after_puts(puts)
        host.assert_nothing_is_shown_or_broken()
    for _ in range(3):
        if lose_cache:
            shutil.rmtree(host.lab.cache)
        host.kill_after_seconds(chance.uniform(0, 0.3))
        host.assert_nothing_is_shown_or_broken()
    if lose_cache:
        shutil.rmtree(host.lab.cache)
    host.assert_resumes(whole)
