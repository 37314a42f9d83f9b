"""What the databases under test hold, how they change, and what they hold told as digests."""

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from psycopg import sql
from tests.servers.postgres import PostgresServer

#: Digests of all parts of a database, by what each part is called: equal when the databases are.
Content = dict[str, str]

ORDINARY = """
CREATE TABLE orders (
    id bigserial PRIMARY KEY, customer integer NOT NULL, placed timestamptz NOT NULL, total numeric(12, 2), note text
);
INSERT INTO orders (customer, placed, total, note)
    SELECT (random() * 20000)::integer, timestamptz '2024-01-01' + i * interval '31 seconds', random() * 900,
        'order ' || i || ' of ' || md5(random()::text)
    FROM generate_series(1, {rows}) AS i;
CREATE INDEX ON orders (customer);
CREATE TABLE events (
    id uuid PRIMARY KEY, at timestamp, ok boolean, level real, payload jsonb, tags text[], raw bytea, span int4range
);
INSERT INTO events
    SELECT md5(random()::text)::uuid, timestamp '2024-01-01' + i * interval '7 seconds', i % 3 = 0, random(),
        jsonb_build_object('n', i, 'user', md5((i % 1000)::text), 'path', '/shop/' || i % 50),
        ARRAY['tag' || i % 7, 'tag' || i % 11], decode(md5(random()::text), 'hex'), int4range(i, i + i % 100)
    FROM generate_series(1, {rows}) AS i;
"""
NIGHT = """
UPDATE pgbench_accounts SET abalance = abalance + (random() * 10000)::integer - 5000 WHERE random() < 0.001;
UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE random() < 0.001;
UPDATE orders SET total = total + 1, note = 'changed ' || md5(random()::text) WHERE random() < 0.001;
UPDATE events SET level = random(), payload = payload || '{"seen": true}' WHERE random() < 0.001;
INSERT INTO orders (customer, placed, total, note)
    SELECT (random() * 20000)::integer, now(), random() * 900, md5(random()::text) FROM generate_series(1, 3000);
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
    SELECT 1, 1, (random() * 100000)::integer, (random() * 1000)::integer, now() FROM generate_series(1, 3000);
DELETE FROM orders WHERE random() < 0.001;
DELETE FROM orders WHERE id IN (SELECT id FROM orders ORDER BY id LIMIT 3000);
"""
#: Half a byte of news in every byte.
NOISE = """
CREATE TABLE noise (id integer PRIMARY KEY, hex text);
INSERT INTO noise SELECT i, {hex} FROM generate_series(1, {rows}) AS i;
""".replace("{hex}", " || ".join(["md5(random()::text)"] * 8))


def pgbench(server: PostgresServer, database: str, scale: int, schema: str = "public") -> None:
    """Let pgbench make its tables."""
    assert server.bin is not None
    subprocess.run(
        [
            *(str(server.bin / "pgbench"), "--initialize", "--init-steps=dtGp", f"--scale={scale}", "--quiet"),
            *(f"--host={server.host}", f"--port={server.port}", f"--username={server.user}", database),
        ],
        env=_client_environment(server) | {"PGOPTIONS": f"-c search_path={schema}"},
        check=True,
        capture_output=True,
    )


def content_of(server: PostgresServer, database: str, *, named: bool = True, roles: bool = False) -> Content:
    """All of a database, as the server's own pg_dump tells it.

    With `named` also what the database itself is, its name included; with `roles` the roles of its server, too.
    """
    assert server.bin is not None
    name = "dbname='{}'".format(database.replace("\\", "\\\\").replace("'", "\\'"))
    place = [f"--host={server.host}", f"--port={server.port}", f"--username={server.user}"]
    command = [str(server.bin / "pg_dump"), "--restrict-key=same", f"--dbname={name}", *place]
    if named:
        command.append("--create")
    content = _digests(_lines(command, server))
    if roles:
        command = [str(server.bin / "pg_dumpall"), "--globals-only", "--restrict-key=same", *place]
        # A new server has a superuser already, with a password of the same words and another salt.
        own = f"ALTER ROLE {server.user} ".encode()
        lines = (line for line in _lines(command, server) if not line.startswith(own))
        content["roles"] = hashlib.blake2b(b"".join(lines)).hexdigest()
    return content


def rows_of(server: PostgresServer, database: str, *tables: str) -> dict[str, int]:
    """Numbers of rows; tables as SQL names them."""
    return {table: int(server.query(f"SELECT count(*) FROM {table}", database)[0][0]) for table in tables}


def tables_of(server: PostgresServer, database: str) -> list[str] | None:
    """All tables, views and sequences that somebody made; None when there is no such database."""
    with server.connect() as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [database]).fetchall():
            return None
    query = "SELECT oid::regclass::text FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'S')"
    return [name for (name,) in server.query(query, database)]


def prepare_database(server: PostgresServer, database: str) -> None:
    """Make a database that is not there yet."""
    server.drop(database)
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))


def make_sqlite(path: Path, rows: int = 20_000) -> None:
    """A SQLite database with tables, indexes, views and triggers, and values of all kinds."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(
            """
            PRAGMA page_size = 4096;
            PRAGMA journal_mode = WAL;
            PRAGMA user_version = 42;
            PRAGMA application_id = 1346720844;
            CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer INT, total REAL, note TEXT, raw BLOB);
            CREATE INDEX by_customer ON orders (customer, total DESC) WHERE customer > 10;
            CREATE TABLE "quo""ted; --" ("select" TEXT PRIMARY KEY, "näme" ANY) WITHOUT ROWID;
            CREATE VIEW rich AS SELECT * FROM orders WHERE total > 100;
            CREATE TABLE log (what TEXT);
            CREATE TRIGGER noted AFTER DELETE ON orders BEGIN INSERT INTO log VALUES (old.id); END;
            INSERT INTO "quo""ted; --" VALUES ('', NULL), ('世界 🐘', x'00ff'), ('1', 1), ('inf', 9e999), ('i', -1);
            """
        )
        insert_sqlite(db, rows)


def change_sqlite(path: Path) -> None:
    """What a day brings."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE orders SET total = total + 1, note = 'changed' WHERE id % 997 = 0")
        db.execute("DELETE FROM orders WHERE id % 1511 = 0")
        db.execute("ALTER TABLE log ADD COLUMN at TEXT DEFAULT 'later'")
        insert_sqlite(db, 200)


def insert_sqlite(db: sqlite3.Connection, rows: int) -> None:
    """Add rows that do not compress well."""
    made = ((row % 500, row / 7, f"order {row} {os.urandom(30).hex()}", os.urandom(100)) for row in range(rows))
    db.executemany("INSERT INTO orders (customer, total, note, raw) VALUES (?, ?, ?, ?)", made)


def content_of_sqlite(path: Path) -> Content:
    """All of a SQLite database."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        content = {
            name: str(db.execute(f"PRAGMA {name}").fetchone())
            for name in ("user_version", "application_id", "page_size", "encoding", "journal_mode")
        }
        content["sql"] = hashlib.blake2b("\n".join(db.iterdump()).encode()).hexdigest()
        return content


def _digests(lines: Iterator[bytes]) -> Content:
    """One digest for each part, which begins with a comment that says what follows."""
    parts = {"": hashlib.blake2b()}
    part = parts[""]
    for line in lines:
        if line.startswith((b"-- Name: ", b"-- Data for Name: ")):
            part = parts.setdefault(line.decode(errors="replace").strip("- \n"), hashlib.blake2b())
        part.update(line)
    order = hashlib.blake2b("\n".join(parts).encode()).hexdigest()
    return {name: digest.hexdigest() for name, digest in parts.items()} | {"order": order}


def _lines(command: list[str], server: PostgresServer) -> Iterator[bytes]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=_client_environment(server)) as child:
        assert child.stdout is not None
        yield from child.stdout
    assert child.returncode == 0


def _client_environment(server: PostgresServer) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "PGPASSWORD": server.password}
