"""Restores that are killed outright between two steps: there is always one whole database, the old or the new."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from plugins.sources.sqlite.tests.bank import dumped, script

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from penstock.api import RestoreTarget, StreamSpec
from penstock.testing.dumping import restore_one
from penstock_sqlite.source import SqliteSource

place, image, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
source = SqliteSource(SqliteSource.Settings(path=place))
blocks = [memoryview(image.read_bytes())]

def count(event, arguments):
    global steps
    if event not in ("os.rename", "os.remove", "os.symlink"):
        return
    if str(place.parent) in map(os.path.dirname, map(str, arguments[:2])):
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1

sys.addaudithook(count)
restore_one(source, StreamSpec("new.db", "sqlite"), iter(blocks), RestoreTarget(clean=True))
print(steps)
"""


def with_log(folder: Path) -> Path:
    """A database whose newest row is in its write-ahead log alone, as after a power cut."""
    live, place = folder / "live.db", folder / "place" / "app.db"
    script(live, "PRAGMA journal_mode = WAL; CREATE TABLE t(what); INSERT INTO t VALUES ('oldest')")
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO t VALUES ('old')")
        shutil.copy(live, place)
        shutil.copy(f"{live}-wal", f"{place}-wal")
    return place


def with_journal(folder: Path) -> Path:
    """A database in the middle of a transaction, which its journal takes back."""
    live, place = folder / "live.db", folder / "place" / "app.db"
    script(live, "CREATE TABLE t(what); INSERT INTO t VALUES ('oldest'), ('old')")
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET what = 'never committed'")
        connection.execute("CREATE TABLE filler(x)")
        connection.executemany("INSERT INTO filler VALUES (zeroblob(4000))", [()] * 100)
        shutil.copy(live, place)
        shutil.copy(f"{live}-journal", f"{place}-journal")
        connection.execute("ROLLBACK")
    assert b"never committed" in place.read_bytes()
    return place


def without_any(folder: Path) -> Path:
    """A database in one file, with an empty log and an index beside it."""
    place = script(folder / "place" / "app.db", "CREATE TABLE t(what); INSERT INTO t VALUES ('oldest'), ('old')")
    Path(f"{place}-wal").touch()
    Path(f"{place}-shm").write_bytes(bytes(32768))
    return place


@pytest.mark.parametrize("make", [with_log, with_journal, without_any])
def test_a_kill_between_two_steps_loses_neither_database(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    new = script(tmp_path / "new.db", "CREATE TABLE t(what); INSERT INTO t VALUES ('new')")
    (tmp_path / "image").write_bytes(dumped(new)[0])
    seen = []
    for steps in range(20):
        folder = tmp_path / str(steps)
        (folder / "place").mkdir(parents=True)
        place = make(folder)
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(place), str(tmp_path / "image"), str(steps)],
            capture_output=True,
            text=True,
        )
        with closing(sqlite3.connect(place)) as connection:
            seen.append([row[0] for row in connection.execute("SELECT what FROM t ORDER BY rowid")])
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if done.returncode == 0:
            assert [path.name for path in place.parent.iterdir()] == ["app.db"]
            assert not place.is_symlink()
            break
        assert done.returncode == -9, done.stderr
    old = ["oldest", "old"]
    switch = seen.index(["new"])
    assert seen == [old] * switch + [["new"]] * (len(seen) - switch)
    assert switch > 0
