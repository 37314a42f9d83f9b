"""Restores that are killed outright between two steps: there is always one whole database, the old or the new."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from plugins.sources.sqlite.tests.bank import dumped, script

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

#: Restores the image over each place that it is told, in a process forked for it, which is killed before the step of
#: that number; tells how each has ended.
_PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from penstock.api import RestoreTarget, StreamSpec
from penstock.testing.dumping import restore_one
from penstock_sqlite.source import SqliteSource

image = Path(sys.argv[1]).read_bytes()

def restore(place, steps):
    def count(event, arguments):
        nonlocal steps
        if event not in ("os.rename", "os.remove", "os.symlink"):
            return
        if str(place.parent) in map(os.path.dirname, map(str, arguments[:2])):
            if steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            steps -= 1

    source = SqliteSource(SqliteSource.Settings(path=place))
    sys.addaudithook(count)
    restore_one(source, StreamSpec("new.db", "sqlite"), iter([memoryview(image)]), RestoreTarget(clean=True))

for line in sys.stdin:
    place, steps = json.loads(line)
    pid = os.fork()
    if pid == 0:
        restore(Path(place), steps)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of the new database."""
    folder = tmp_path_factory.mktemp("new")
    new = script(folder / "new.db", "CREATE TABLE t(what); INSERT INTO t VALUES ('new')")
    (folder / "image").write_bytes(dumped(new)[0])
    return folder / "image"


@pytest.fixture(scope="module")
def restore(image: Path) -> Iterator[Callable[[Path, int], int]]:
    """Restore it over a place, and be killed before the step of that number; gives the exit code."""
    command = [sys.executable, "-c", _PROGRAM, str(image)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        told, answers = program.stdin, program.stdout
        assert told is not None
        assert answers is not None

        def run(place: Path, steps: int) -> int:
            told.write(json.dumps([str(place), steps]) + "\n")
            told.flush()
            return int(answers.readline())

        yield run
        told.close()


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
def test_a_kill_between_two_steps_loses_neither_database(
    tmp_path: Path, make: Callable[[Path], Path], restore: Callable[[Path, int], int]
) -> None:
    seen = []
    for steps in range(20):
        folder = tmp_path / str(steps)
        (folder / "place").mkdir(parents=True)
        place = make(folder)
        code = restore(place, steps)
        with closing(sqlite3.connect(place)) as connection:
            seen.append([row[0] for row in connection.execute("SELECT what FROM t ORDER BY rowid")])
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if code == 0:
            assert [path.name for path in place.parent.iterdir()] == ["app.db"]
            assert not place.is_symlink()
            break
        assert code == -signal.SIGKILL
    old = ["oldest", "old"]
    switch = seen.index(["new"])
    assert seen == [old] * switch + [["new"]] * (len(seen) - switch)
    assert switch > 0
