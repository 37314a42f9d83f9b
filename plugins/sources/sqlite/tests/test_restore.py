"""A restored database appears whole and checked, or not at all."""

import errno
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from plugins.sources.sqlite.tests.bank import assert_bank_is_sound, dumped, make_bank, query, restored, script, source

from penstock.api import (
    DamagedObject,
    PenstockError,
    RestoreFailed,
    RestoreTarget,
    SourceDenied,
    StreamSpec,
    TargetMissing,
    TargetNotEmpty,
    UsageError,
)
from penstock.testing.dumping import restore_one
from penstock.testing.hearing import Heard
from penstock_sqlite import examining


@pytest.fixture
def bank(tmp_path: Path) -> tuple[bytes, StreamSpec]:
    folder = tmp_path / "origin"
    folder.mkdir()
    return dumped(make_bank(folder / "bank.db", "wal"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder / "app.db"


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.parent.iterdir()}


def kept_beside(error: PenstockError) -> Path:
    """Where a restore is kept that could not be put in its place: hours of work are not thrown away."""
    found = re.fullmatch("the restored database is complete, and kept as (.*); move it to .*", error.details[-1])
    assert found is not None
    return Path(found[1])


def test_a_database_in_the_way_stays_unless_clean(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    script(place, "CREATE TABLE mine(a)")
    before = contents(place)
    with pytest.raises(TargetNotEmpty):
        restored(*bank, place)
    with pytest.raises(TargetNotEmpty) as caught:
        restore_one(source(place), bank[1], iter([memoryview(bank[0])]), RestoreTarget())
    kept_beside(caught.value).unlink()
    assert contents(place) == before
    restored(*bank, place, clean=True)
    assert_bank_is_sound(place)


def test_an_empty_file_is_filled_and_keeps_its_mode(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    place.touch(0o640)
    place.chmod(0o640)
    restored(*bank, place)
    assert_bank_is_sound(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o640


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_gets_the_mode_it_was_dumped_with_as_far_as_the_umask_goes(
    tmp_path: Path, place: Path, umask: int, mode: int
) -> None:
    origin = script(tmp_path / "shared.db", "CREATE TABLE t(a)")
    origin.chmod(0o666 if umask == 0o077 else 0o664)
    before = os.umask(umask)
    try:
        assert stat.S_IMODE(restored(*dumped(origin), place).stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "wrong", [{"mode": "rw"}, {"mode": "0o666"}, {"mode": "9"}, {"page_size": "x"}, {"page_count": "-1"}, {"mode": ""}]
)
def test_attributes_that_no_dump_records_are_refused(
    bank: tuple[bytes, StreamSpec], place: Path, wrong: dict[str, str]
) -> None:
    spec = replace(bank[1], attributes=dict(bank[1].attributes) | wrong)
    with pytest.raises(RestoreFailed, match=f"an unusable {next(iter(wrong))}"):
        source(place).plan_restore([spec], RestoreTarget())
    with pytest.raises(RestoreFailed, match=f"an unusable {next(iter(wrong))}"):
        restore_one(source(place), spec, iter([memoryview(bank[0])]), RestoreTarget())
    assert not place.exists()


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_a_leftover_journal_is_in_the_way_and_goes_with_clean(
    bank: tuple[bytes, StreamSpec], place: Path, suffix: str
) -> None:
    """SQLite would apply it to the restored database."""
    Path(f"{place}{suffix}").write_bytes(b"leftover")
    with pytest.raises(TargetNotEmpty, match=suffix):
        restored(*bank, place)
    restored(*bank, place, clean=True)
    assert list(contents(place)) == [place.name]
    assert_bank_is_sound(place)


def test_clean_refuses_a_database_that_is_in_use(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    import subprocess
    import sys

    script(place, "PRAGMA journal_mode=WAL; CREATE TABLE mine(a)")
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM mine'); print(); input()"
    user = subprocess.Popen([sys.executable, "-uc", program, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert user.stdout is not None
    user.stdout.readline()
    try:
        with pytest.raises(TargetNotEmpty, match="in use"):
            restored(*bank, place, clean=True)
        with pytest.raises(TargetNotEmpty, match="in use") as caught:
            restore_one(source(place), bank[1], iter([memoryview(bank[0])]), RestoreTarget(clean=True))
    finally:
        user.communicate(b"\n")
    kept = kept_beside(caught.value)
    assert_bank_is_sound(kept)
    kept.unlink()
    assert query(place, "SELECT * FROM mine") == []
    assert sorted(contents(place)) == ["app.db"]
    restored(*bank, place, clean=True)


@pytest.mark.parametrize("clean", [False, True])
def test_blocks_that_raise_leave_everything_as_it_was(bank: tuple[bytes, StreamSpec], place: Path, clean: bool) -> None:
    if clean:
        script(place, "CREATE TABLE mine(a)")
    before = contents(place)

    def damaged() -> Iterator[memoryview]:
        yield memoryview(bank[0])[:100_000]
        raise DamagedObject("packs/00/x", "authentication failed")

    with pytest.raises(DamagedObject):
        restore_one(source(place), bank[1], damaged(), RestoreTarget(clean=clean))
    assert contents(place) == before


def test_a_stream_that_ends_early_is_refused(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    with pytest.raises(RestoreFailed, match="instead of"):
        restored(bank[0][:-4096], bank[1], place)
    assert contents(place) == {}


def test_a_database_that_was_damaged_when_dumped_is_restored_only_without_a_check(
    bank: tuple[bytes, StreamSpec], place: Path
) -> None:
    image = bytearray(bank[0])
    image[5 * 4096 : 6 * 4096] = b"\xa5" * 4096
    with pytest.raises(RestoreFailed, match="damaged") as caught:
        restored(bytes(image), bank[1], place)
    assert caught.value.details
    assert contents(place) == {}
    restored(bytes(image), bank[1], place, options={"check": "off"})
    assert place.read_bytes() == image


def test_bytes_that_are_no_database_are_refused(place: Path) -> None:
    with pytest.raises(RestoreFailed):
        restored(b"hello" * 1000, StreamSpec("x", "sqlite"), place)
    assert contents(place) == {}


def test_a_collation_that_only_the_application_has_does_not_stop_a_restore(tmp_path: Path, place: Path) -> None:
    origin = tmp_path / "collated.db"
    with closing(sqlite3.connect(origin)) as connection:
        connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t(a TEXT COLLATE mine UNIQUE)")
        connection.execute("INSERT INTO t VALUES ('x')")
        connection.commit()
    image, spec = dumped(origin)
    target = source(place)
    target.report = said = Heard()
    restore_one(target, spec, iter([memoryview(image)]), RestoreTarget())
    assert place.read_bytes() == origin.read_bytes()
    assert "no such collation sequence: mine" in said.warnings[0]


def test_a_full_disk_is_said_plainly_and_leaves_nothing(
    bank: tuple[bytes, StreamSpec], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # EFBIG: what the system says at a limit
    try:
        with pytest.raises(RestoreFailed, match="no space left"):
            restored(*bank, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(place) == {}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("penstock_sqlite.restoring.os.fsync", full)
    with pytest.raises(RestoreFailed, match="no space left"):
        restored(*bank, place)
    assert contents(place) == {}


def test_a_check_that_cannot_run_is_not_taken_for_damage(
    bank: tuple[bytes, StreamSpec], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self, *arguments: object, **more: object) -> None:
            pass

        def set_progress_handler(self, *arguments: object) -> None:
            pass

        def execute(self, statement: str) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error

        def close(self) -> None:
            pass

    monkeypatch.setattr(sqlite3, "connect", Failing)
    with pytest.raises(RestoreFailed, match="cannot be checked: disk I/O error") as caught:
        restored(*bank, place)
    assert caught.value.hint is None
    assert contents(place) == {}


def test_a_file_system_without_locks_is_said_plainly(
    bank: tuple[bytes, StreamSpec], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    script(place, "CREATE TABLE mine(a)")
    monkeypatch.setattr("penstock_sqlite.restoring.fcntl.lockf", lockf)
    with pytest.raises(SourceDenied, match=r"cannot lock .*: No locks available"):
        restored(*bank, place, clean=True)
    assert query(place, "SELECT * FROM mine") == []


def test_an_interrupt_between_the_steps_of_a_replacement_names_the_file(
    bank: tuple[bytes, StreamSpec], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(place, "PRAGMA journal_mode=WAL; CREATE TABLE mine(a)")
    Path(f"{place}-wal").write_bytes(b"old")

    def interrupted(place: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock_sqlite.restoring._remove_side_files", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        restored(*bank, place, clean=True)
    (said,) = caught.value.__notes__
    assert place.is_symlink()
    assert f"may be a symbolic link to {place.readlink()}" in said
    assert (place.parent / place.readlink()).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only the system's administrator gives files away")
def test_what_root_restores_belongs_to_whom_its_folder_belongs(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    os.chown(place.parent, 12345, 23456)
    destination = source(place)
    destination.report = said = Heard()
    restore_one(destination, bank[1], iter([memoryview(bank[0])]), RestoreTarget())
    found = place.stat()
    assert (found.st_uid, found.st_gid) == (12345, 23456)
    assert f"owner 12345:23456, mode {stat.S_IMODE(found.st_mode):o}, as its folder" in said.notes[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only the system's administrator gives files away")
@pytest.mark.parametrize(
    ("owner", "uid", "gid"), [("self", 0, 0), ("nobody:daemon", 65534, 1), ("nobody", 65534, 65534), ("12:34", 12, 34)]
)
@pytest.mark.parametrize("clean", [False, True])
def test_an_option_says_whose_the_file_is(
    bank: tuple[bytes, StreamSpec], place: Path, owner: str, uid: int, gid: int, clean: bool
) -> None:
    os.chown(place.parent, 12345, 23456)
    if clean:
        script(place, "CREATE TABLE mine(a)")
        os.chown(place, 777, 777)
    restored(*bank, place, clean=clean, options={"owner": owner, "mode": "640"})
    found = place.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, 0o640)


def test_a_replaced_file_gives_its_owner_and_mode(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    script(place, "CREATE TABLE mine(a)")
    if os.geteuid() == 0:
        os.chown(place, 777, 778)
    place.chmod(0o644)
    before = place.stat()
    restored(*bank, place, clean=True)
    after = place.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


@pytest.mark.parametrize(
    "options", [{"owner": "no such user"}, {"owner": "root:no such group"}, {"owner": "a:b:c"}, {"mode": "rw"}]
)
def test_owners_and_modes_that_there_are_not_are_refused_before(
    bank: tuple[bytes, StreamSpec], place: Path, options: dict[str, str]
) -> None:
    with pytest.raises(UsageError) as caught:
        source(place).plan_restore([bank[1]], RestoreTarget(options=options))
    assert caught.value.hint


def test_an_owner_to_whom_this_user_may_not_give_it_is_refused_before(
    bank: tuple[bytes, StreamSpec], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_sqlite.dress.os.geteuid", lambda: 4711)
    with pytest.raises(SourceDenied, match="may not give"):
        source(place).plan_restore([bank[1]], RestoreTarget(options={"owner": "root"}))


def test_a_plan_says_what_is_written_and_needed_and_changes_nothing(
    bank: tuple[bytes, StreamSpec], place: Path
) -> None:
    plan = source(place).plan_restore([bank[1]], RestoreTarget())
    assert [step.action.partition(" ")[0] for step in plan.steps] == ["write", "have", "make"]
    assert str(place) in plan.steps[-1].action
    assert "mode 644" in plan.steps[-1].action
    (need,) = plan.needs
    assert (need.kind, need.met) == ("free space", True)
    assert f"{len(bank[0])} bytes" in need.name
    assert contents(place) == {}
    script(place, "CREATE TABLE mine(a)")
    plan = source(place).plan_restore([bank[1]], RestoreTarget(clean=True, options={"check": "off"}))
    assert [step.action.partition(" ")[0] for step in plan.steps] == ["write", "replace"]


def test_a_database_that_has_no_room_is_said_in_the_plan(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    large = {"page_size": "65536", "page_count": str(2**32 - 1)}
    spec = replace(bank[1], attributes={**bank[1].attributes, **large})
    plan = source(place).plan_restore([spec], RestoreTarget())
    assert [need.met for need in plan.needs] == [False]
    assert "no space left" in plan.warnings[0]


def test_the_check_belongs_to_the_end_of_a_restore(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    image = bytearray(bank[0])
    image[5 * 4096 : 6 * 4096] = b"\xa5" * 4096
    target = source(place)
    with target.restore(target.plan_restore([bank[1]], RestoreTarget())) as restoring:
        restoring.write(bank[1], iter([memoryview(image)]))
        assert len(contents(place)) == 1
        with pytest.raises(RestoreFailed, match="damaged"):
            restoring.finish()
    assert contents(place) == {}


def test_a_check_that_takes_long_says_so(
    bank: tuple[bytes, StreamSpec], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "_TELL_SECONDS", 0.0)
    monkeypatch.setattr(examining, "_STEPS_BETWEEN_CALLS", 10)
    target = source(place)
    target.report = said = Heard()
    restore_one(target, bank[1], iter([memoryview(bank[0])]), RestoreTarget())
    assert any("SQLite checks the restored database" in note for note in said.notes)


def test_an_image_that_was_damaged_when_dumped_is_refused_before_the_transfer(tmp_path: Path, place: Path) -> None:
    origin = make_bank(tmp_path / "broken.db", "delete")
    with origin.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xa5" * 4096)
    assert any("is damaged, and backed up as it is" in warning for warning in source(origin).inspect().warnings)
    image, spec = dumped(origin)
    with pytest.raises(RestoreFailed, match="damaged when it was dumped") as caught:
        source(place).plan_restore([spec], RestoreTarget())
    assert "check=off" in (caught.value.hint or "")
    restored(image, spec, place, options={"check": "off"})
    assert place.read_bytes() == origin.read_bytes()
    # Who does not want the check has none, and is told nothing.
    assert not any("damaged" in warning for warning in source(origin, integrity_check="off").inspect().warnings)


def test_a_mode_for_a_group_is_not_given_to_another_group(
    bank: tuple[bytes, StreamSpec], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    script(place, "CREATE TABLE mine(a)")
    if os.geteuid() == 0:
        os.chown(place, 12345, 12345)
    place.chmod(0o660)
    other = place.stat().st_gid != os.getegid()
    monkeypatch.setattr("penstock_sqlite.restoring.os.fchown", denied)
    restored(*bank, place, clean=True)
    assert stat.S_IMODE(place.stat().st_mode) == (0o600 if other else 0o660)


def test_the_file_is_private_until_it_is_in_place(bank: tuple[bytes, StreamSpec], place: Path) -> None:
    modes: set[int] = set()

    def watched() -> Iterator[memoryview]:
        yield memoryview(bank[0])
        modes.update(stat.S_IMODE(path.stat().st_mode) for path in place.parent.iterdir())

    restore_one(source(place), bank[1], watched(), RestoreTarget())
    assert modes == {0o600}


def test_a_link_is_followed_and_stays(bank: tuple[bytes, StreamSpec], tmp_path: Path, place: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(place)
    restored(*bank, link)
    assert link.is_symlink()
    assert_bank_is_sound(place)


def test_places_that_cannot_be_restored_to(bank: tuple[bytes, StreamSpec], tmp_path: Path) -> None:
    def refused(path: Path, *streams: StreamSpec, **target: object) -> PenstockError:
        with pytest.raises(PenstockError) as caught:
            source(path).plan_restore(streams or [bank[1]], RestoreTarget(**target))  # type: ignore[arg-type]
        return caught.value

    assert isinstance(refused(tmp_path / "none" / "app.db"), TargetMissing)
    assert isinstance(refused(tmp_path), UsageError)
    assert isinstance(refused(tmp_path / "a.db", options={"owners": "no"}), UsageError)
    assert isinstance(refused(tmp_path / "a.db", options={"check": "maybe"}), UsageError)
    assert isinstance(refused(tmp_path / "a.db", bank[1], bank[1]), UsageError)
    assert isinstance(refused(tmp_path / "a.db", StreamSpec("a", "sql")), UsageError)
    loop = tmp_path / "loop.db"
    loop.symlink_to(loop)
    assert isinstance(refused(loop), RestoreFailed)
    assert isinstance(refused(tmp_path / ("a" * 300)), RestoreFailed)
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(0o500)
        assert isinstance(refused(tmp_path / "closed" / "a.db"), SourceDenied)
    assert not (tmp_path / "a.db").exists()
