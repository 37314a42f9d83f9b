"""What a dump says of itself, and how it fails."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from plugins.sources.sqlite.tests.bank import ACCOUNTS, dumped, make_bank, query, read_all, restored, script, source
from tests.processes import descendants

from penstock.api import (
    Capability,
    DumpFailed,
    DumpStalled,
    DumpStream,
    PenstockError,
    SourceError,
    SourceUnreachable,
    StreamSpec,
    UsageError,
)
from penstock_sqlite.settings import SqliteSettings
from penstock_sqlite.source import SqliteSource


def failure(path: Path, **settings: object) -> PenstockError:
    """What `inspect` raises; `dump` has to raise the same."""
    with pytest.raises(PenstockError) as inspected:
        source(path, **settings).inspect()
    with pytest.raises(PenstockError) as dump, source(path, **settings).dump():
        pass
    assert type(dump.value) is type(inspected.value)
    assert str(dump.value) == str(inspected.value)
    return inspected.value


def test_an_inspection_tells_tables_rows_and_sizes(tmp_path: Path, mode: str) -> None:
    bank = make_bank(tmp_path / "bank.db", mode)
    found = source(bank).inspect()
    assert found.engine == "SQLite"
    assert found.server_version == found.client_version == sqlite3.sqlite_version
    assert found.size_estimate == bank.stat().st_size
    assert [(item.kind, item.name, item.rows, item.exact) for item in found.inventory] == [
        ("table", "account", ACCOUNTS, True),
        ("table", "journal", 0, True),
        ("table", "tally", 1, True),
    ]
    with closing(sqlite3.connect(":memory:")) as connection:
        if ("ENABLE_DBSTAT_VTAB",) in connection.execute("PRAGMA compile_options"):
            assert sum(item.size or 0 for item in found.inventory) <= bank.stat().st_size
            assert all(item.size for item in found.inventory)


def test_row_counts_can_be_left_out(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    items = source(bank, row_counts="off").inspect().inventory
    assert {(item.rows, item.exact) for item in items} == {(None, False)}


def test_the_plan_has_one_stream_that_describes_the_file(tmp_path: Path, mode: str) -> None:
    bank = make_bank(tmp_path / "main.sqlite", mode)
    image, spec = dumped(bank)
    assert (spec.name, spec.format, spec.size_estimate) == ("main.sqlite", "sqlite", len(image))
    assert spec.attributes["journal_mode"] == mode
    assert spec.attributes["page_count"] == str(len(image) // 4096)
    assert spec.attributes["sqlite_version"] == sqlite3.sqlite_version
    assert Capability.CONSISTENT in SqliteSource.possible_capabilities


def test_a_file_name_of_any_bytes_gives_a_stream_name_that_can_be_stored(tmp_path: Path) -> None:
    bank = script(Path(os.fsdecode(os.fsencode(tmp_path) + b"/w\xff\n.db")), "CREATE TABLE t(a)")
    image, spec = dumped(bank)
    assert spec.name == "w?_.db"
    assert image == bank.read_bytes()


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    error = failure(tmp_path / "none.db")
    assert isinstance(error, SourceUnreachable)
    assert str(tmp_path / "none.db") in error.message
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_files_that_are_no_databases(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello, world\n" * 1000)
    (tmp_path / "encrypted.db").write_bytes(bytes(range(256)) * 64)
    for name in ("text.db", "encrypted.db"):
        error = failure(tmp_path / name)
        assert type(error) is SourceError
        assert "not an SQLite database, or is encrypted" in error.message
    assert type(failure(tmp_path)) is SourceError


def test_a_truncated_database(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "delete")
    os.truncate(bank, bank.stat().st_size // 2)
    error = failure(bank)
    assert type(error) is SourceError
    assert "damaged" in error.message


@pytest.mark.slow
def test_damage_in_a_table_is_a_warning_and_an_error_when_it_is_looked_for(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with bank.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xa5" * 4096 * 20)
    assert any("cannot be read" in text for text in source(bank).inspect().warnings)
    for check in ("quick", "full"):
        error = failure(bank, integrity_check=check)
        assert "damaged" in error.message
        assert error.details


def test_a_sound_database_passes_the_integrity_check(tmp_path: Path, mode: str) -> None:
    bank = make_bank(tmp_path / "bank.db", mode)
    assert dumped(bank, integrity_check="full") == dumped(bank)


@pytest.mark.slow
def test_a_locked_database_can_be_tried_again(tmp_path: Path, mode: str) -> None:
    bank = make_bank(tmp_path / "bank.db", mode)
    with closing(sqlite3.connect(bank, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE tally SET number=1")
        error = failure(bank, busy_timeout=0.1)
    assert isinstance(error, SourceUnreachable)
    assert "locked" in error.message


@pytest.mark.slow
def test_a_writer_that_died_in_the_middle_is_named(tmp_path: Path) -> None:
    live = make_bank(tmp_path / "live.db", "delete")
    dead = tmp_path / "dead.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=2")
        connection.execute("BEGIN")
        connection.execute("UPDATE account SET note=hex(randomblob(3000))")
        for suffix in ("", "-journal"):
            Path(f"{dead}{suffix}").write_bytes(Path(f"{live}{suffix}").read_bytes())
        connection.execute("ROLLBACK")
    error = failure(dead)
    assert type(error) is SourceError
    assert "in the middle of a transaction" in error.message
    assert error.hint


def test_a_folder_for_the_copy_that_does_not_exist(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with pytest.raises(SourceError, match="cannot copy"), source(bank, copy_to=tmp_path / "none").dump():
        pass
    source(bank, copy_to=tmp_path / "none").inspect()


def test_closing_before_the_end_is_a_failure(tmp_path: Path) -> None:
    origin = source(make_bank(tmp_path / "bank.db", "wal", padding=10_000))
    with origin.dump() as held:
        stream = held.open(held.plan.streams[0])
        assert stream.readinto(memoryview(bytearray(1000))) > 0
        with pytest.raises(DumpFailed):
            stream.close()
        stream.close()
        stream.abort()


@pytest.mark.slow
def test_aborting_is_quiet_and_can_be_repeated(tmp_path: Path) -> None:
    origin = source(make_bank(tmp_path / "bank.db", "wal", padding=10_000))
    with origin.dump() as held:
        stream = held.open(held.plan.streams[0])
        stream.abort()
        stream.abort()
        with pytest.raises(DumpFailed):
            stream.close()
    with origin.dump() as held:  # the source can be used again
        read_all(held)


def test_a_reader_that_is_killed_fails_the_dump(tmp_path: Path) -> None:
    origin = source(make_bank(tmp_path / "bank.db", "wal", padding=10_000))
    with origin.dump() as held:
        stream = held.open(held.plan.streams[0])
        stream.readinto(memoryview(bytearray(1000)))
        for child in children():
            os.kill(child, signal.SIGKILL)
        exhaust(stream)
        with pytest.raises(DumpFailed, match="broke off"):
            stream.close()


def test_a_stream_belongs_to_a_dump(tmp_path: Path) -> None:
    origin = source(make_bank(tmp_path / "bank.db", "wal"))
    with pytest.raises(UsageError):
        origin.attach(StreamSpec("bank.db", "sqlite"))
    with origin.dump() as held, pytest.raises(UsageError):
        held.open(StreamSpec("bank.db", "sql"))


@pytest.mark.slow
def test_two_dumps_of_one_source_at_once_are_two_views(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    origin = source(bank)
    with origin.dump() as first:
        with closing(sqlite3.connect(bank, isolation_level=None)) as writer:
            writer.execute("UPDATE account SET note='between the dumps'")
        with origin.dump() as second:
            images = [read_all(first), read_all(second)]
    (old, new) = (restored(image, first.plan.streams[0], tmp_path / f"{at}.db") for at, image in enumerate(images))
    notes = "SELECT DISTINCT note FROM account"
    assert ("between the dumps",) not in query(old, notes)
    assert query(new, notes) == [("between the dumps",)]


@pytest.mark.slow
def test_no_process_outlives_a_dump_or_its_parent(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "delete")
    program = (
        "import os, sys; from pathlib import Path\n"
        "from penstock_sqlite.source import SqliteSource, SqliteSettings\n"
        "with SqliteSource(SqliteSettings(path=Path(sys.argv[1]))).dump():\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program, str(bank)], env=environment).returncode == -9
    with closing(sqlite3.connect(bank, timeout=10)) as connection:
        connection.execute("UPDATE tally SET number=5")
        connection.commit()  # waits for a reader that is left over
    dumped(bank)
    assert not children()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_database_or_its_log(tmp_path: Path) -> None:
    bank = script(
        tmp_path / "large.db",
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(a BLOB);",
    )
    with closing(sqlite3.connect(bank)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        for round_ in range(2):
            for _ in range(70):  # the database, and then its log, larger than what may be taken
                connection.execute("INSERT INTO t VALUES (randomblob(1000000))")
            connection.commit()
            if round_ == 0:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        origin = source(bank)
        peak = 0
        total = 0
        with origin.dump() as held:
            stream = held.open(held.plan.streams[0])
            buffer = memoryview(bytearray(1 << 20))
            while count := stream.readinto(buffer):
                total += count
                peak = max([peak, *map(peak_memory, children())])
            stream.close()
    assert total > 140_000_000
    assert 0 < peak < 64_000_000


@pytest.mark.slow
def test_importing_the_plugin_loads_neither_sqlite_nor_more(tmp_path: Path) -> None:
    program = (
        "import sys; import penstock_sqlite.plugin as p; p.penstock_register_source(); print('sqlite3' in sys.modules)"
    )
    # Coverage loads sqlite3 itself.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.slow
def test_a_reader_that_hangs_is_a_stall_and_does_not_outlive_the_dump(tmp_path: Path) -> None:
    origin = source(make_bank(tmp_path / "bank.db", "wal", padding=10_000), stall_timeout=8, busy_timeout=0)
    with origin.dump() as held:
        stream = held.open(held.plan.streams[0])
        for child in children():
            os.kill(child, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(DumpStalled):
            exhaust(stream)
        assert time.monotonic() - started < 60
        stream.abort()
    assert not children()


def exhaust(stream: DumpStream) -> None:
    buffer = memoryview(bytearray(1 << 20))
    while stream.readinto(buffer):
        pass


def children() -> list[int]:
    """Readers among the children of this process."""
    return [process.pid for process in descendants() if b"penstock_sqlite" in process.arguments]


def peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def test_the_settings_are_its_own(tmp_path: Path) -> None:
    assert SqliteSource.Settings is SqliteSettings
    assert source(tmp_path / "a.db").location == str(tmp_path / "a.db")
