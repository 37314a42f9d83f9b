"""What is particular to files; what every sink must do is in test_conformance.py."""

import errno
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock.api import (
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    SinkDenied,
    SinkError,
    SinkFull,
    UsageError,
)
from penstock.repository import Repository
from penstock_filesystem import FilesystemSettings, FilesystemSink, placing

_UNFINISHED = ".unfinished~"


def _sink(path: Path) -> FilesystemSink:
    return FilesystemSink(FilesystemSettings(path=path))


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _watch_syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are synced from now on, in order."""
    synced: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    return synced


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///srv/backups/x", "/srv/backups/x"),
        ("file:///srv/my%20backups/100%25", "/srv/my backups/100%"),
        ("file:///srv/caf%C3%A9%3F%23", "/srv/café?#"),
        ("FILE:///srv/x/", "/srv/x/"),
        ("file:/srv/x", "/srv/x"),
    ],
)
def test_a_url_names_a_folder(url: str, path: str) -> None:
    assert FilesystemSink.settings_from_url(url) == {"path": path}


@pytest.mark.parametrize(
    "url",
    [
        "file://relative",
        "file://relative/path",
        "file://host/srv/x",
        "file://localhost/srv",
        "file:relative",
        "file:",
        "file://",
        "file:///srv?x=1",
        "file:///srv#x",
        "file:///srv/%00",
        "file:///srv/%ff",
        "file://[bad",
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        FilesystemSink.settings_from_url(url)


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(ValueError, match="must be absolute"):
        FilesystemSettings(path=Path("backups"))


def test_the_location_is_the_folder(tmp_path: Path) -> None:
    assert _sink(tmp_path).location == str(tmp_path)


def test_making_a_sink_touches_nothing(tmp_path: Path) -> None:
    _sink(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()


def test_put_makes_folders_that_only_the_owner_may_enter(tmp_path: Path) -> None:
    sink = _sink(tmp_path / "new" / "repository")
    sink.put("packs/00/a", b"x")
    for folder in ("new", "new/repository", "new/repository/packs", "new/repository/packs/00"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700, folder
    assert stat.S_IMODE((tmp_path / "new/repository/packs/00/a").stat().st_mode) == 0o600


def test_reading_where_no_folder_is_says_so(tmp_path: Path) -> None:
    sink = _sink(tmp_path / "none")
    for read in (sink.get, sink.stat):
        with pytest.raises(ObjectMissing, match=r"penstock\.json: .*no folder .*/none"):
            read("penstock.json")
    assert list(sink.list()) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_vanished_is_an_error_and_not_an_absence(tmp_path: Path, replaced: bool) -> None:
    root = tmp_path / "volume"
    sink = _sink(root)
    sink.put("a", b"1")
    root.rename(tmp_path / "unmounted")
    if replaced:
        root.mkdir()
    calls: list[Callable[[], object]] = [
        lambda: sink.get("a"),
        lambda: sink.stat("a"),
        lambda: list(sink.list()),
        lambda: sink.delete("a"),
        lambda: sink.put("b", b"2"),
    ]
    for call in calls:
        with pytest.raises(SinkError, match="is gone or was replaced") as caught:
            call()
        assert not isinstance(caught.value, ObjectMissing)
    assert root.exists() == replaced
    assert not replaced or not any(root.iterdir())


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    sink = _sink(tmp_path / "file")
    with pytest.raises(SinkError, match="is not a folder"):
        sink.put("a", b"1")
    with pytest.raises(SinkError, match="is not a folder"):
        sink.get("a")


def test_a_folder_is_not_an_object(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.put("packs/a", b"1")
    for if_absent in (False, True):
        with pytest.raises(SinkError) as caught:
            sink.put("packs", b"2", if_absent=if_absent)
        assert not isinstance(caught.value, ObjectExists)
        with pytest.raises(SinkError):
            sink.put("packs/a/b", b"2", if_absent=if_absent)
    with pytest.raises(ObjectMissing):
        sink.get("packs/a/b")
    assert _files(tmp_path) == {"packs/a"}


def test_files_that_no_key_can_name_are_passed_over(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.put("a/b", b"1")
    for name in (".DS_Store", "lost+found", "a/Thumbs.db", f"{_UNFINISHED}/1-2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "a" / "fifo")
    assert [found.key for found in sink.list()] == ["a/b"]


def test_what_can_be_read_through_a_link_is_listed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "packs").symlink_to(tmp_path / "elsewhere")
    sink = _sink(tmp_path / "repository")
    sink.put("packs/a", b"1")
    assert sink.get("packs/a") == b"1"
    assert [found.key for found in sink.list("packs/")] == ["packs/a"]


def test_a_listing_of_a_missing_folder_is_empty(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.put("a", b"1")
    for prefix in ("packs/", "packs/0", "a/"):
        assert list(sink.list(prefix)) == []


def test_an_object_with_a_time_outside_the_calendar_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have room for it, and whoever may write to the folder may set it."""
    sink = _sink(tmp_path)
    sink.put("a/b", b"1")
    real = Path.stat

    def later(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        return os.stat_result((*found[:8], 1 << 50, *found[9:10])) if path.name == "b" else found

    monkeypatch.setattr(Path, "stat", later)
    found = sink.stat("a/b")
    assert (found.size, found.modified) == (1, None)


def test_a_negative_range_is_refused(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.put("a", b"1")
    for start, length in ((-1, None), (0, -1)):
        with pytest.raises(SinkError, match="negative"):
            sink.get("a", start=start, length=length)


def test_a_folder_that_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SinkError, match=r"loop.* cannot be read") as caught:
        list(_sink(tmp_path / "loop").list())
    assert not isinstance(caught.value, ObjectMissing)


@pytest.mark.parametrize(("number", "fine"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_does_not_sync_folders_is_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fine: bool
) -> None:
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    sink = _sink(tmp_path)
    if fine:
        sink.put("packs/a", b"1")
        assert sink.get("packs/a") == b"1"
    else:
        with pytest.raises(SinkError, match=os.strerror(number)):
            sink.put("packs/a", b"1")


def test_a_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    sink = _sink(tmp_path / "inside")
    sink.put("a", b"1")
    (tmp_path / "outside").write_bytes(b"secret")
    calls: list[Callable[[], object]] = [
        lambda: sink.get("../outside"),
        lambda: sink.stat("../outside"),
        lambda: sink.delete("../outside"),
        lambda: sink.put("../outside", b""),
        lambda: list(sink.list("../")),
        lambda: sink.get(str(tmp_path / "outside")),
        lambda: sink.get(f"{_UNFINISHED}/x"),
    ]
    for call in calls:
        with pytest.raises(SinkError, match="not a valid key"):
            call()
    assert (tmp_path / "outside").read_bytes() == b"secret"


def test_nothing_is_left_aside_after_a_put(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.put("a", b"1")
    sink.put("b", b"1", if_absent=True)
    with pytest.raises(ObjectExists):
        sink.put("a", b"2", if_absent=True)
    assert _files(tmp_path) == {"a", "b"}


@pytest.mark.parametrize("if_absent", [False, True])
def test_closing_removes_what_a_put_that_hangs_has_written(
    if_absent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = _sink(tmp_path)
    sink.put("packs/a", b"1")
    hangs, goes_on, fsync = threading.Event(), threading.Event(), os.fsync

    def hang(descriptor: int) -> None:
        hangs.set()
        assert goes_on.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hang)
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(sink.put, "packs/b", b"2" * 100, if_absent=if_absent)
        try:
            assert hangs.wait(60)
            assert len(list((tmp_path / _UNFINISHED).iterdir())) == 1
            sink.close()
            assert _files(tmp_path) == {"packs/a"}
        finally:
            goes_on.set()
        with pytest.raises(SinkError):
            put.result()
    assert _files(tmp_path) == {"packs/a"}


def test_a_put_after_the_end_leaves_nothing(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.close()
    with pytest.raises(SinkError, match="the sink was closed"):
        sink.put("packs/a", b"1")
    assert _files(tmp_path) == set()


def test_what_killed_writers_left_is_removed_when_it_is_a_day_old(tmp_path: Path) -> None:
    aside = tmp_path / _UNFINISHED
    aside.mkdir()
    for name, hours in (("1-old", 25), ("2-young", 23)):
        (aside / name).write_bytes(b"partial")
        then = time.time() - hours * 3600
        os.utime(aside / name, (then, then))
    _sink(tmp_path).put("a", b"1")
    assert _files(tmp_path) == {"a", f"{_UNFINISHED}/2-young"}


@pytest.mark.parametrize("call", ["write", "fsync", "link", "rename"])
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, SinkFull),
        (errno.EDQUOT, SinkFull),
        (errno.EACCES, SinkDenied),
        (errno.EPERM, SinkDenied),
        (errno.EROFS, SinkDenied),
        (errno.EIO, SinkError),
        (errno.EXDEV, SinkError),
    ],
)
def test_a_refusal_of_the_system_is_translated_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[SinkError]
) -> None:
    def refuse(*args: object, **more: object) -> int:
        raise OSError(number, os.strerror(number))

    sink = _sink(tmp_path)
    sink.put("packs/before", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace" if call == "rename" else call, refuse)
        if call == "link":  # what has no links is asked for a rename
            patched.setattr(placing, "rename_new", refuse)
        with pytest.raises(SinkError, match=os.strerror(number)) as caught:
            sink.put("packs/a", b"2", if_absent=call == "link")
    assert type(caught.value) is error
    assert caught.value.key == "packs/a"
    assert isinstance(caught.value.__cause__, OSError)
    assert _files(tmp_path) == {"packs/before"}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_links(*args: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    sink = _sink(tmp_path)
    outcomes: list[str] = []

    def put(who: int) -> None:
        try:
            sink.put("a", f"{who}".encode() * 10_000, if_absent=True)
            outcomes.append(f"{who}")
        except ObjectExists:
            outcomes.append("")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    (winner,) = filter(None, outcomes)
    assert sink.get("a") == winner.encode() * 10_000
    assert _files(tmp_path) == {"a"}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("unknown", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_decides_nothing_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, unknown: int
) -> None:
    def refuse(refusal: int) -> Callable[..., None]:
        def call(*args: object, **more: object) -> None:
            raise OSError(refusal, os.strerror(refusal))

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refuse(number))
        patched.setattr(placing, "rename_new", refuse(unknown))
        with pytest.raises(SinkError, match="neither hard links nor a rename that replaces nothing") as caught:
            Repository.create(_sink(tmp_path), passphrase=None)
    assert type(caught.value) is SinkError
    assert "another file system" in str(caught.value.hint)
    assert _files(tmp_path) == set()
    Repository.create(_sink(tmp_path), passphrase=None)


def test_the_lost_answer_of_a_rename_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*args: object, **more: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def lost(source: Path, target: Path) -> None:
        rename_new(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    rename_new = placing.rename_new
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(placing, "rename_new", lost)
    _sink(tmp_path).put("a", b"1", if_absent=True)
    assert _sink(tmp_path).get("a") == b"1"


def test_the_lost_answer_of_a_network_file_system_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_and_lose_the_answer(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    sink = _sink(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", link_and_lose_the_answer)
        sink.put("a", b"1", if_absent=True)
    assert sink.get("a") == b"1"


def test_short_reads_and_writes_of_the_system_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pread, os.write
    monkeypatch.setattr(os, "pread", lambda descriptor, length, start: read(descriptor, min(length, 7), start))
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    sink = _sink(tmp_path)
    data = os.urandom(100)
    sink.put("a", data)
    assert sink.get("a") == data
    assert sink.get("a", start=3, length=50) == data[3:53]
    assert sink.get("a", start=3, length=500) == data[3:]


def test_file_and_folders_are_synced_before_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = _watch_syncs(monkeypatch)
    root = tmp_path / "repository"
    sink = _sink(root)
    sink.put("packs/00/a", b"1")
    folders = [str(folder) for folder in (tmp_path, root, root / "packs")]
    assert [path for path in synced if path in folders] == folders
    assert synced[-2].startswith(str(root / _UNFINISHED))
    assert synced[-1] == str(root / "packs/00")
    del synced[:]
    sink.put("packs/00/b", b"1")
    assert len(synced) == 2


def test_two_sinks_make_the_folders_of_one_repository_durable_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sink(tmp_path).put("packs/00/a", b"1")
    synced = _watch_syncs(monkeypatch)
    _sink(tmp_path).put("packs/00/b", b"1")
    assert {str(tmp_path), str(tmp_path / "packs"), str(tmp_path / "packs/00")} <= set(synced)


def test_many_are_deleted_with_one_sync_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = _sink(tmp_path)
    keys = [f"packs/{number % 2:02x}/{number}" for number in range(6)]
    for key in keys:
        sink.put(key, b"x")
    synced = _watch_syncs(monkeypatch)
    sink.delete_many([*keys, "packs/00/gone", "never/was", "packs"])
    assert list(sink.list()) == []
    assert sorted(synced) == [str(tmp_path / "packs" / name) for name in ("00", "01")]
    with pytest.raises(SinkError, match="not a valid key"):
        sink.delete_many(["../a"])


def test_a_place_that_takes_files_passes_the_preflight_and_is_left_as_it_was(tmp_path: Path) -> None:
    _sink(tmp_path / "not" / "made" / "yet").preflight()
    _sink(tmp_path).preflight()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_fails_the_preflight(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="not a folder"):
        _sink(tmp_path / "file").preflight()


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"f_bavail": 10}, SinkFull, "KiB left"),
        ({"f_favail": 0}, SinkFull, "no inodes left"),
        ({"f_flag": os.ST_RDONLY}, SinkDenied, "mounted read-only"),
    ],
)
def test_a_disk_that_takes_no_backup_fails_the_preflight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], kind: type[SinkError], says: str
) -> None:
    true = os.statvfs(tmp_path)
    names = [name for name in dir(true) if name.startswith("f_")]
    told = {name: getattr(true, name) for name in names} | {"f_files": 100, "f_favail": 100} | changes
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**told))
    with pytest.raises(kind, match=says):
        _sink(tmp_path).preflight()


def test_the_number_of_files_at_once_is_a_setting(tmp_path: Path) -> None:
    assert _sink(tmp_path).connections == 4
    assert FilesystemSink(FilesystemSettings(path=tmp_path, connections=2)).connections == 2


@pytest.fixture
def with_attributes(tmp_path: Path) -> Iterator[Callable[[str, Path], None]]:
    """Sets an attribute of a file or a folder, as root on a file system that has them; all are taken off in the end."""
    changed: list[tuple[str, Path]] = []

    def change(attribute: str, place: Path) -> None:
        if shutil.which("chattr") is None:
            pytest.skip("there is no chattr")
        done = subprocess.run(["chattr", f"+{attribute}", str(place)], check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no attributes here: {done.stderr.strip()}")
        changed.append((attribute, place))

    yield change
    for attribute, place in changed:
        subprocess.run(["chattr", f"-{attribute}", str(place)], check=True)


def test_an_immutable_file_stays_and_keeps_no_other(
    tmp_path: Path, with_attributes: Callable[[str, Path], None]
) -> None:
    sink = FilesystemSink(FilesystemSettings(path=tmp_path))
    for key in ("packs/a", "packs/b", "packs/c"):
        sink.put(key, b"x")
    with_attributes("i", tmp_path / "packs/b")
    with pytest.raises(ObjectLocked, match="immutable") as caught:
        sink.delete_many(["packs/a", "packs/b", "packs/c"])
    assert caught.value.locked == {"packs/b": None}
    assert "chattr" in str(caught.value.hint)
    assert [info.key for info in sink.list()] == ["packs/b"]
    with pytest.raises(ObjectLocked):
        sink.delete("packs/b")
    assert sink.get("packs/b") == b"x"


def test_the_files_of_a_folder_that_only_grows_stay(
    tmp_path: Path, with_attributes: Callable[[str, Path], None]
) -> None:
    sink = FilesystemSink(FilesystemSettings(path=tmp_path))
    for key in ("packs/a", "packs/b", "index/c"):
        sink.put(key, b"x")
    with_attributes("a", tmp_path / "packs")
    with pytest.raises(ObjectLocked, match="nobody knows") as caught:
        sink.delete_many(["packs/a", "packs/b", "index/c"])
    assert caught.value.locked == {"packs/a": None, "packs/b": None}
    assert sorted(info.key for info in sink.list()) == ["packs/a", "packs/b"]
