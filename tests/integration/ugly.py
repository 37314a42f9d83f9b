"""Databases that nobody would make on purpose, and somebody has: odd names, cycles, huge rows, thousands of tables."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from bson import Binary
from tests.servers.mongodb import MongoServer
from tests.servers.mysql import MySQLServer, quoted
from tests.servers.postgres import PostgresServer

_DATA = Path(__file__).parents[1] / "data"
_TABLES = 3000
_MIB = 2**20
#: Names that quoting, comments, shells, patterns and line-based tools stumble over.
_NAMES = (
    "quo\"te", "apos'trophe", "back`tick", "back\\slash", "  leading", "semi;colon -- comment", "/* comment */",
    "select", "TABLE", "CamelCase", "with.dot", "dollar$1 $$ $x$", "per%cent %s", "star*", "[bracket]", "ünïcode 数据",
    "tab\there", "a,b", "(x)", "|pipe|", "#hash", "-dash", "{brace}", "~tilde", "new\nline", "\\.", "null", "root",
)  # fmt: skip


def odd_sqlite(path: Path) -> None:
    """Every odd thing that SQLite takes."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA auto_vacuum = FULL")
        for number, name in enumerate((*_NAMES, "", "emoji 🐘", "x" * 3000, "\u202eright to left")):
            table, column = ('"{}"'.format(text.replace('"', '""')) for text in (name, f"{name} column"))
            db.execute(f"CREATE TABLE {table} ({column} TEXT DEFAULT 'it''s', n INT)")
            db.execute(f"INSERT INTO {table} VALUES (?, ?)", [name, number])
        db.executescript(
            """
            CREATE TABLE a (id INTEGER PRIMARY KEY, b INT REFERENCES b DEFERRABLE INITIALLY DEFERRED);
            CREATE TABLE b (id INTEGER PRIMARY KEY, a INT NOT NULL REFERENCES a);
            INSERT INTO a VALUES (1, 2), (-9223372036854775808, 1), (9223372036854775807, NULL);
            INSERT INTO b VALUES (2, 1), (1, 999);
            CREATE TABLE made (x REAL, up AS (x * 2) STORED, down AS (x / 2), CHECK (up IS NOT 7));
            INSERT INTO made VALUES (1), (9e999), (-9e999), (5e-324), (-0.0), (NULL);
            CREATE TABLE kept (k TEXT PRIMARY KEY, v ANY) STRICT, WITHOUT ROWID;
            INSERT INTO kept VALUES ('', x''), ('a', 1), ('b', '1'), ('c', 1.0);
            CREATE TABLE bytes (v);
            INSERT INTO bytes VALUES (CAST(x'ff00fe' AS TEXT)), ('nul' || char(0) || 'inside'), (x'00'), ('');
            CREATE TABLE empty (x);
            CREATE INDEX half ON made (x + 1, abs(x)) WHERE x IS NOT NULL;
            CREATE VIEW of_nothing AS SELECT * FROM no_such_table;
            CREATE VIEW of_itself AS SELECT * FROM of_itself;
            CREATE TRIGGER calls_nothing AFTER INSERT ON empty BEGIN SELECT no_such_function(new.x); END;
            CREATE VIRTUAL TABLE words USING fts5 (title, body, tokenize = 'porter unicode61');
            INSERT INTO words VALUES ('one', 'the quick brown fox'), ('zwei', 'über alle Maßen');
            CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1, y0, y1);
            INSERT INTO boxes VALUES (1, 0, 1, 0, 1), (2, -1e9, 1e9, 0, 0);
            CREATE TEMP TABLE gone (x);
            CREATE TABLE was (x);
            INSERT INTO was SELECT zeroblob(3000) FROM words, words AS w2, boxes;
            DROP TABLE was;
            """
        )


def huge_sqlite(path: Path) -> None:
    """Rows of tens of MiB, in pages as large as they get and texts of two bytes a letter."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript("PRAGMA page_size = 65536; PRAGMA encoding = 'UTF-16be'; CREATE TABLE huge (b BLOB, t TEXT);")
        db.executemany("INSERT INTO huge VALUES (?, ?)", ((os.urandom(24 * _MIB), "ö" * (4 * _MIB)) for _ in range(2)))


def many_in_sqlite(path: Path) -> None:
    """Thousands of tables of one row."""
    with closing(sqlite3.connect(path)) as db, db:
        for number in range(_TABLES):
            db.execute(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, note TEXT UNIQUE)")
            db.execute(f"INSERT INTO t{number} (note) VALUES ('only one')")


def nothing_in_sqlite(path: Path) -> None:
    """A file of no bytes, which is a database."""
    path.touch()


def odd_postgres(server: PostgresServer, database: str) -> None:
    """Odd names, cycles, what has no columns, and what has as many as there may be."""
    for number, name in enumerate((*_NAMES, "emoji 🐘", "n" * 63, "\u202eright to left", "ends with space ")):
        table, column = ('"{}"'.format(text.replace('"', '""')) for text in (name, (name + " c")[-63:]))
        text = name.replace("'", "''")
        server.execute(
            f"""
            CREATE SCHEMA {table};
            CREATE TABLE {table}.{table} (
                {column} text PRIMARY KEY, n int GENERATED ALWAYS AS (length({column}) + {number}) STORED,
                CHECK ({column} <> 'no')
            );
            INSERT INTO {table}.{table} VALUES ('{text}'), ('\\.\n'), (''), (E'\\t\\n\\r\\b\\f\\v'), ('\\N');
            COMMENT ON TABLE {table}.{table} IS 'first\n{text}\n-- last';
            CREATE VIEW {table}.v AS SELECT {column} AS {table} FROM {table}.{table};
            CREATE TYPE {table}.kinds AS ENUM ('{text}', '');
            """,
            database,
        )
    server.execute((_DATA / "postgres-ugly.sql").read_text(encoding="utf-8"), database)
    columns = ", ".join(f"c{number} int" for number in range(1600))
    server.execute(f"CREATE TABLE widest ({columns}); INSERT INTO widest (c0, c1599) VALUES (1, 2)", database)


def huge_postgres(server: PostgresServer, database: str) -> None:
    """A row of tens of MiB, which does not compress, and a large object."""
    server.execute("CREATE TABLE huge (id int, b bytea, t text, a int[])", database)
    with server.connect(database) as connection:
        values = (os.urandom(24 * _MIB), os.urandom(12 * _MIB).hex())
        connection.execute("INSERT INTO huge VALUES (1, %s, %s, array_fill(7, ARRAY[1000000]))", values)
        connection.execute("SELECT lo_from_bytea(4242, %s)", [os.urandom(5 * _MIB + 1)])


def many_in_postgres(server: PostgresServer, database: str) -> None:
    """Thousands of tables of one row; made a few at a time, since a transaction may lock no more."""
    for first in range(0, _TABLES, 500):
        tables = range(first, min(first + 500, _TABLES))
        server.execute("".join(f"CREATE TABLE t{n} (id int); INSERT INTO t{n} VALUES ({n});" for n in tables), database)


def odd_mysql(server: MySQLServer, database: str) -> None:
    """Odd names, cycles, values at their limits, and what has no rows."""
    # Letters above U+FFFF, and a space at the end, are all that no name may have.
    for number, name in enumerate((*_NAMES, "n" * 64, "\u202eright to left")):
        table, column = quoted(name), quoted((name + " c")[-64:])
        with server.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(
                f"""
                CREATE TABLE {table} (
                    {column} VARCHAR(100), n INT AS (CHAR_LENGTH({column}) + {number}) STORED, v INT AS (n + 1) VIRTUAL,
                    KEY {column} (v)
                ) COMMENT = {connection.escape(name)}
                """
            )
            values = [name, "", "\\N", None, "\0\r\n\t\x1a\"'"]
            rows = ", ".join(f"({connection.escape(value)})" for value in values)
            cursor.execute(f"INSERT INTO {table} ({column}) VALUES {rows}")
            # MySQL takes spaces off the beginning of an alias, its own SHOW CREATE VIEW notwithstanding.
            shown = "n" if name.startswith(" ") else column
            cursor.execute(f"CREATE VIEW {quoted('v' + name[:60])} AS SELECT {shown} FROM {table}")
    server.run_script((_DATA / "mysql-ugly.sql").read_bytes(), database)


def huge_mysql(server: MySQLServer, database: str) -> None:
    """A row of tens of MiB, which are twice as many where they are written as hexadecimal digits."""
    server.execute("CREATE TABLE huge (id INT PRIMARY KEY, b LONGBLOB)", database)
    server.execute("INSERT INTO huge VALUES (1, _binary %s)", database, (os.urandom(24 * _MIB),))


def many_in_mysql(server: MySQLServer, database: str) -> None:
    """A hundred tables of one row: each is a file, and takes its time."""
    tables = range(_TABLES // 30)
    script = "".join(f"CREATE TABLE t{n} (id INT PRIMARY KEY); INSERT INTO t{n} VALUES ({n});" for n in tables)
    server.run_script(script.encode(), database)


def odd_mongodb(server: MongoServer) -> None:
    """Odd names, hundreds of collections, and what is empty."""
    with server.connected() as client:
        for name in _NAMES:
            if "$" not in name and not name.endswith("."):
                client["ödd-näme_1"][name].insert_one({"_id": name, name: {name: Binary(name.encode())}})
        for number in range(100):
            client.many[f"c{number}"].insert_one({"_id": number})
        client.hollow.create_collection("empty")
        client.hollow.create_collection("empty view", viewOn="nothing there", pipeline=[])
        client.hollow.create_collection("capped", capped=True, size=4096, max=1)
