"""A full disk, a file size limit, a killed writer, a folder of someone else: real ones."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.api import SinkDenied, SinkError, SinkFull
from penstock_filesystem import FilesystemSettings, FilesystemSink

_SMALL_DISK_BYTES = 1024 * 1024


def _sink(path: Path) -> FilesystemSink:
    return FilesystemSink(FilesystemSettings(path=path))


def _bytes_aside(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / ".unfinished~").glob("*"))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-small-disk-"))
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK_BYTES}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
        if done is None or done.returncode != 0:
            reason = "tmpfs: cannot mount one here" + (f": {done.stderr.strip()}" if done else "")
            if "tmpfs" in os.environ.get("PENSTOCK_TEST_REQUIRE", "").replace(",", " ").split():
                pytest.fail(reason)
            pytest.skip(reason)
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    finally:
        folder.rmdir()


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_full_disk_is_said_and_leaves_nothing_behind(small_disk: Path, if_absent: bool) -> None:
    sink = _sink(small_disk)
    half = os.urandom(_SMALL_DISK_BYTES // 2)
    sink.put("packs/first", half)
    for _ in range(3):
        with pytest.raises(SinkFull, match="No space left") as caught:
            sink.put("packs/second", os.urandom(_SMALL_DISK_BYTES * 3 // 4), if_absent=if_absent)
        assert caught.value.key == "packs/second"
        assert caught.value.hint
    with pytest.raises(SinkFull):
        sink.put("packs/first", os.urandom(_SMALL_DISK_BYTES * 3 // 4))
    assert _bytes_aside(small_disk) == 0
    assert [found.key for found in sink.list()] == ["packs/first"]
    assert sink.get("packs/first") == half
    sink.delete("packs/first")
    sink.put("packs/second", os.urandom(_SMALL_DISK_BYTES * 3 // 4), if_absent=if_absent)


def test_an_object_over_the_file_size_limit_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.put("a", b"1")
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, most))
    try:
        with pytest.raises(SinkError, match="File too large"):
            sink.put("a", bytes(100 * 1024))
        with pytest.raises(SinkError, match="File too large"):
            sink.put("b", bytes(100 * 1024), if_absent=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert _bytes_aside(tmp_path) == 0
    assert [(found.key, found.size) for found in sink.list()] == [("a", 1)]


_WRITER = """
import sys
from pathlib import Path
from penstock_filesystem import FilesystemSettings, FilesystemSink

sink = FilesystemSink(FilesystemSettings(path=Path(sys.argv[1])))
number = 0
while True:
    data = bytes([number % 251]) * (64 * 1024 + number * 4099 % 500_000)
    sink.put("packs/replaced", data)
    sink.put(f"packs/{sys.argv[2]}/{number}", data, if_absent=True)
    if number == 0:
        print("ready", flush=True)
    number += 1
"""


@pytest.mark.slow
def test_a_killed_writer_never_leaves_a_partial_object(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    seen = 0
    for attempt in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(attempt)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.03 + attempt * 0.007)
            writer.send_signal(signal.SIGKILL)
        assert writer.returncode == -signal.SIGKILL
        for found in sink.list():
            data = sink.get(found.key)
            number = int(found.key.rpartition("/")[2]) if found.key != "packs/replaced" else None
            assert len(data) == found.size
            assert data == data[:1] * len(data), f"{found.key} is a mixture of two objects"
            if number is None:
                assert any(len(data) == 64 * 1024 + n * 4099 % 500_000 for n in range(data[0], 100_000, 251))
            else:
                assert data == bytes([number % 251]) * (64 * 1024 + number * 4099 % 500_000)
            seen += 1
    assert seen > 12, "the writers were killed before they wrote anything"


_AS_NOBODY = """
import os, sys
from pathlib import Path
from penstock.api import PenstockError
from penstock_filesystem import FilesystemSettings, FilesystemSink

sink = FilesystemSink(FilesystemSettings(path=Path(sys.argv[1])))
# Only now: nobody may not be allowed to read the modules that are still to be imported.
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for call in (lambda: sink.put("b", b""), lambda: sink.get("a"), lambda: list(sink.list()), lambda: sink.delete("a")):
    try:
        call()
    except PenstockError as error:
        print(type(error).__name__)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="root: only root can become another user")
def test_a_folder_of_another_user_is_denied() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        _sink(Path(folder)).put("a", b"1")
        command = [sys.executable, "-c", _AS_NOBODY, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        # The list is readable (0755); the object (0600) and any change of the folder are not.
        assert done.stdout.split() == [SinkDenied.__name__] * 3
        assert _sink(Path(folder)).get("a") == b"1"
