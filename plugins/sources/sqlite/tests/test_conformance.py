import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from penstock.testing.source_conformance import (
    ChildProgram,
    NotApplicable,
    SourceConformance,
    SourceLab,
    Target,
    deviates,
)
from penstock_sqlite import process
from penstock_sqlite.settings import SqliteSettings
from penstock_sqlite.source import SqliteSource

pytestmark = pytest.mark.slow


def _source(path: Path, *, stall_timeout: float = 60) -> SqliteSource:
    return SqliteSource(SqliteSettings(path=path, stall_timeout=stall_timeout, busy_timeout=0))


def _content(path: Path) -> list[str] | None:
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


_PYTHON = sys.executable
_WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    database.execute("INSERT INTO orders (what, raw) VALUES ('later', zeroblob(100))")
"""


class SqliteLab(SourceLab):
    secrets = NotApplicable("a database file has no password")
    program = ChildProgram(Path(sys.executable), probes=())

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.path = folder / "seed.db"
        self.targets = 0
        self._source = _source(self.path)
        self._patching = monkeypatch
        with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = wal")
            database.executescript(
                """
                CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT, raw BLOB, price REAL);
                INSERT INTO orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                    SELECT i, 'ördér ' || i, randomblob(50), i / 7.0 FROM n;
                CREATE INDEX by_what ON orders (what);
                CREATE VIEW dear AS SELECT * FROM orders WHERE price > 100;
                CREATE TRIGGER named AFTER INSERT ON orders BEGIN UPDATE orders SET what = 'new' WHERE id = new.id; END;
                """
            )

    @property
    def source(self) -> SqliteSource:
        return self._source

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> SqliteSource:
        if program is not None:  # the reader is a Python of this package, which the settings cannot replace
            self._patching.setattr(sys, "executable", str(program))
        return _source(self.path, stall_timeout=stall_timeout or 60)

    def unreachable(self) -> SqliteSource:
        return _source(self.folder / "missing" / "seed.db")

    def content(self) -> object:
        return _content(self.path)

    def rows(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.path)) as database:
            ((count,),) = database.execute("SELECT count(*) FROM orders")
        return {"orders": count}

    def change(self) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("INSERT INTO orders (what, raw) VALUES ('late', zeroblob(100))")

    @property
    def change_command(self) -> tuple[str, ...]:
        return (_PYTHON, "-c", _WRITER, str(self.path))

    def silent(self, host: str, port: int) -> NotApplicable:
        return NotApplicable("a database file has no server")

    def bad_objects(self) -> NotApplicable:
        return NotApplicable("a database comes back as the image of its file, whole or not at all")

    def target(self) -> Target:
        self.targets += 1
        path = self.folder / f"target-{self.targets}.db"
        return Target(_source(path), lambda: _content(path))


class TestSqliteSource(SourceConformance):
    @pytest.fixture
    def lab(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SourceLab:
        return SqliteLab(tmp_path, monkeypatch)

    @deviates("the process that inspects is the one that would dump: what it is not asked for, it does not send")
    def test_inspect_starts_no_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        asked: list[str] = []
        tell = process.Reader._tell

        def listen(reader: process.Reader, line: str) -> None:
            asked.append(line)
            tell(reader, line)

        with pytest.MonkeyPatch.context() as patching:
            patching.setattr(process.Reader, "_tell", listen)
            lab.source.inspect()
        assert len(asked) == 1
        assert "stream" not in asked
