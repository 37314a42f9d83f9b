"""Whatever SQLite can hold comes back as it was."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from plugins.sources.sqlite.tests.bank import dumped, query, restored, script, source

ZOO = """
CREATE TABLE "naïve Tisch 表"("größe" INTEGER PRIMARY KEY, "🐘" TEXT COLLATE NOCASE);
INSERT INTO "naïve Tisch 表" VALUES (1, 'ß'), (9223372036854775807, NULL);
CREATE TABLE "quo""ted"(a); INSERT INTO "quo""ted" VALUES ('''"'), (1.5), (NULL), (x'00ff'), (zeroblob(300000));
CREATE TABLE keyed(k TEXT, n INTEGER, v BLOB, PRIMARY KEY (k, n)) WITHOUT ROWID;
INSERT INTO keyed VALUES ('b', 2, x'00'), ('a', 1, randomblob(20000));
CREATE TABLE made(a INTEGER, b INTEGER AS (a * 2) VIRTUAL, c INTEGER AS (a * 3) STORED);
INSERT INTO made(a) VALUES (1), (2);
CREATE TABLE numbered(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO numbered VALUES (41, 'x');
DELETE FROM numbered;
CREATE TABLE parent(id INTEGER PRIMARY KEY);
CREATE TABLE child(id REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED CHECK (id > 0));
INSERT INTO child VALUES (7);
CREATE INDEX partial ON made(a) WHERE b > 2;
CREATE UNIQUE INDEX expressed ON keyed(length(v) || k);
CREATE VIEW seen AS SELECT a + c AS s FROM made;
CREATE TRIGGER follow AFTER INSERT ON made BEGIN UPDATE numbered SET x = x; END;
PRAGMA user_version = -3; PRAGMA application_id = 252006674;
"""


def test_every_kind_of_object_comes_back(tmp_path: Path, mode: str) -> None:
    zoo = script(tmp_path / "zoo ☃ %20?#.db", f"PRAGMA journal_mode={mode};" + ZOO)
    image, spec = dumped(zoo)
    new = restored(image, spec, tmp_path / "new.db", options={"check": "full"})
    with closing(sqlite3.connect(zoo)) as old, closing(sqlite3.connect(new)) as copy:
        assert list(copy.iterdump()) == list(old.iterdump())
        assert copy.execute("SELECT sum(s) FROM seen").fetchone() == (12,)
    for pragma in ("user_version", "application_id", "journal_mode", "page_size", "auto_vacuum", "encoding"):
        assert query(new, f"PRAGMA {pragma}") == query(zoo, f"PRAGMA {pragma}")
    with closing(sqlite3.connect(new)) as connection:
        connection.execute("INSERT INTO numbered(x) VALUES ('y')")
        assert connection.execute("SELECT id FROM numbered").fetchall() == [(42,)]


def test_full_text_search_comes_back(tmp_path: Path, mode: str) -> None:
    try:
        database = script(
            tmp_path / "fts.db",
            f"PRAGMA journal_mode={mode}; CREATE VIRTUAL TABLE words USING fts5(text);"
            "INSERT INTO words VALUES ('a pipe that feeds a wheel'), ('water');",
        )
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no FTS5")
    image, spec = dumped(database)
    new = restored(image, spec, tmp_path / "new.db")
    assert query(new, "SELECT rowid FROM words WHERE words MATCH 'wheel'") == [(1,)]
    kinds = {item.name: item.kind for item in source(database).inspect().inventory}
    assert kinds["words"] == "virtual table"


@pytest.mark.parametrize("page_size", [512, 1024, 65536])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_page_sizes_and_encodings(tmp_path: Path, mode: str, page_size: int, encoding: str) -> None:
    database = script(
        tmp_path / "sized.db",
        f"PRAGMA page_size={page_size}; PRAGMA encoding='{encoding}'; PRAGMA journal_mode={mode};"
        "CREATE TABLE t(a, b); CREATE INDEX i ON t(b);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " INSERT INTO t SELECT i, 'ä' || i FROM n; DELETE FROM t WHERE a % 3 = 0;",
    )
    image, spec = dumped(database)
    new = restored(image, spec, tmp_path / "new.db", options={"check": "full"})
    assert query(new, "SELECT * FROM t") == query(database, "SELECT * FROM t")
    assert spec.attributes["page_size"] == str(page_size)
    assert spec.attributes["encoding"] == encoding


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    image, spec = dumped(empty)
    assert image == b""
    assert query(restored(image, spec, tmp_path / "new.db"), "PRAGMA integrity_check") == [("ok",)]


def test_a_database_without_tables(tmp_path: Path, mode: str) -> None:
    bare = script(tmp_path / "bare.db", f"PRAGMA journal_mode={mode}; CREATE TABLE t(a); DROP TABLE t; VACUUM;")
    image, spec = dumped(bare)
    assert query(restored(image, spec, tmp_path / "new.db"), "SELECT count(*) FROM sqlite_master") == [(0,)]


def test_a_database_behind_a_symbolic_link(tmp_path: Path) -> None:
    """SQLite names the log after the real file; looking for it beside the link would lose every commit in it."""
    (tmp_path / "real").mkdir()
    real = script(tmp_path / "real" / "app.db", "PRAGMA journal_mode=WAL; CREATE TABLE t(a);")
    link = tmp_path / "link.db"
    link.symlink_to(real)
    with closing(sqlite3.connect(real, isolation_level=None)) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        image, spec = dumped(link)
    assert query(restored(image, spec, tmp_path / "new.db"), "SELECT a FROM t") == [(1,)]


def test_what_a_crashed_application_left_in_the_log_is_in_the_image(tmp_path: Path) -> None:
    live = script(tmp_path / "live.db", "PRAGMA journal_mode=WAL; CREATE TABLE t(a);")
    crashed = tmp_path / "crashed.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("INSERT INTO t VALUES ('committed')")
        for suffix in ("", "-wal"):  # as after a power cut: the shared index is gone
            Path(f"{crashed}{suffix}").write_bytes(Path(f"{live}{suffix}").read_bytes())
    image, spec = dumped(crashed)
    assert query(restored(image, spec, tmp_path / "new.db"), "SELECT a FROM t") == [("committed",)]


def test_a_small_change_changes_few_pages(tmp_path: Path, mode: str) -> None:
    """What deduplication lives on: the image keeps each page in its place."""
    database = script(
        tmp_path / "pages.db",
        f"PRAGMA journal_mode={mode}; CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        " INSERT INTO t SELECT i, hex(randomblob(200)) FROM n;",
    )
    before, _ = dumped(database)
    script(database, "UPDATE t SET b = hex(randomblob(200)) WHERE a = 1000")
    after, _ = dumped(database)
    changed = sum(before[at : at + 4096] != after[at : at + 4096] for at in range(0, len(after), 4096))
    assert changed <= 3
