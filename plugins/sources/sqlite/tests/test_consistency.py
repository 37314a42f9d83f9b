"""The image is one state of the database, whatever its writers do meanwhile."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from plugins.sources.sqlite.tests.bank import (
    assert_bank_is_sound,
    dumped,
    make_bank,
    query,
    read_all,
    restored,
    source,
    writers,
)

from penstock_sqlite.source import SqliteSource

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_an_image_taken_while_writers_hammer_the_database_keeps_their_invariant(
    tmp_path: Path, mode: str, page_size: int
) -> None:
    bank = make_bank(tmp_path / "bank.db", mode, page_size)
    numbers = []
    with writers(bank):
        for round_ in range(6):
            image, spec = dumped(bank)
            numbers.append(
                assert_bank_is_sound(restored(image, spec, tmp_path / f"{round_}.db", options={"check": "full"}))
            )
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1]
    assert_bank_is_sound(bank)


def test_an_image_read_slowly_under_constant_checkpoints_is_one_state(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal", padding=20_000)
    with writers(bank, checkpoint=5):
        origin = source(bank)
        with origin.dump() as held:
            before = committed(bank)
            image = read_all(held, lambda: time.sleep(0.002))
            after = committed(bank)
        spec = held.plan.streams[0]
    assert after > before + 10, "writers were stopped"
    assert assert_bank_is_sound(restored(image, spec, tmp_path / "new.db")) <= before


def test_the_log_is_overlaid_when_no_checkpoint_has_run(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with closing(sqlite3.connect(bank, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        for _ in range(50):
            connection.execute("UPDATE account SET note=hex(randomblob(500))")
            connection.execute("UPDATE tally SET number=number")
        image, _ = dumped(bank)
        assert image != bank.read_bytes()
        # What SQLite itself writes into the file at a checkpoint is the same, byte by byte.
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert image == bank.read_bytes()


def test_an_old_reader_that_holds_a_checkpoint_back_does_not_matter(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with closing(sqlite3.connect(bank, isolation_level=None)) as old, closing(sqlite3.connect(bank)) as writer:
        writer.execute("UPDATE account SET note='first'")
        writer.commit()
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM account").fetchone()
        writer.execute("UPDATE account SET note='second'")
        writer.commit()
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        image, spec = dumped(bank)
        new = restored(image, spec, tmp_path / "new.db")
    assert query(new, "SELECT DISTINCT note FROM account") == [("second",)]


def test_a_log_that_is_started_anew_during_the_dump_does_not_matter(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with closing(sqlite3.connect(bank, isolation_level=None)) as writer:
        writer.execute("UPDATE account SET note='before'")
        assert writer.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0] == 0
        origin = source(bank)
        with origin.dump() as held:
            for number in range(200):
                writer.execute("UPDATE account SET note=?", (f"after {number}" * 20,))
                writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            image = read_all(held)
    new = restored(image, held.plan.streams[0], tmp_path / "new.db")
    assert query(new, "SELECT DISTINCT note FROM account") == [("before",)]


def test_uncommitted_changes_are_not_in_the_image(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "wal")
    with closing(sqlite3.connect(bank, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size=2")
        writer.execute("BEGIN")
        writer.execute("UPDATE account SET note=hex(randomblob(5000))")  # spills into the log
        image, spec = dumped(bank)
        writer.execute("ROLLBACK")
    assert_bank_is_sound(restored(image, spec, tmp_path / "new.db"))
    assert query(tmp_path / "new.db", "SELECT max(length(note)) FROM account") == [(600,)]


def test_in_rollback_mode_the_image_is_the_file_byte_by_byte(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "delete")
    image, spec = dumped(bank)
    assert image == bank.read_bytes()
    assert restored(image, spec, tmp_path / "new.db").read_bytes() == image


def test_in_rollback_mode_a_commit_waits_for_the_dump_unless_it_is_of_a_copy(tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.db", "delete")
    for settings, waits in (({}, True), ({"copy_to": tmp_path}, False)):
        origin = source(bank, **settings)
        with closing(sqlite3.connect(bank, timeout=0.05)) as writer, origin.dump() as held:
            writer.execute("UPDATE account SET note='new'")
            if waits:
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    writer.commit()
                writer.rollback()
            else:
                writer.commit()
            image = read_all(held)
            assert any("rollback-journal" in text for text in held.plan.inspection.warnings) == waits
        assert b"new" not in image[:4096]
        assert_bank_is_sound(restored(image, held.plan.streams[0], tmp_path / f"{waits}.db"))
        assert query(tmp_path / f"{waits}.db", "SELECT count(*) FROM account WHERE note='new'") == [(0,)]
    assert not [path for path in tmp_path.iterdir() if path.suffix not in {".db", ""}]


def test_a_dump_of_a_copy_under_writers_is_one_state(tmp_path: Path, mode: str) -> None:
    bank = make_bank(tmp_path / "bank.db", mode)
    with writers(bank):
        image, spec = dumped(bank, copy_to=tmp_path)
    assert_bank_is_sound(restored(image, spec, tmp_path / "new.db"))


def test_the_database_is_free_again_after_the_dump(tmp_path: Path, mode: str) -> None:
    bank = make_bank(tmp_path / "bank.db", mode)
    for origin in (source(bank), source(bank)):
        with pytest.raises(ZeroDivisionError):
            fail_within(origin)
        with closing(sqlite3.connect(bank, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")


def test_connections_of_the_process_that_dumps_keep_their_locks(tmp_path: Path) -> None:
    """What a reader in this process would break: closing its descriptors would drop the locks of all connections."""
    bank = make_bank(tmp_path / "bank.db", "wal")
    with closing(sqlite3.connect(bank, isolation_level=None)) as mine:
        mine.execute("BEGIN IMMEDIATE")
        dumped(bank)
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        import subprocess
        import sys

        other = subprocess.run([sys.executable, "-c", script, str(bank)], capture_output=True)
        assert b"locked" in other.stderr


def test_two_dumps_of_the_same_content_are_the_same_bytes(tmp_path: Path, mode: str) -> None:
    bank = make_bank(tmp_path / "bank.db", mode)
    assert dumped(bank)[0] == dumped(bank)[0]


def fail_within(origin: SqliteSource) -> None:
    with origin.dump() as held:
        stream = held.open(held.plan.streams[0])
        stream.readinto(memoryview(bytearray(10)))
        raise ZeroDivisionError


def committed(bank: Path) -> int:
    ((number,),) = query(bank, "SELECT number FROM tally")
    assert isinstance(number, int)
    return number
