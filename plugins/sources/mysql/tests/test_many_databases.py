"""Databases that refer to one another in every way: all of it comes back to a fresh server, and more than plain brings.

Compared object by object, by what the servers say of it, with the origin and with what the engine's own dump program
and client bring back.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, restore_all
from tests.servers.mysql import MySQLServer, MySQLServers, quoted
from tests.soak import long

pytestmark = pytest.mark.server

ACCOUNTS = 5
Facts = dict[tuple[str, ...], object]


class Session:
    """One connection for everything: to open one takes longer than most statements."""

    def __init__(self, server: MySQLServer) -> None:
        self.vendor = server.vendor
        self._connection = server.connect()

    def execute(self, statement: str, database: str | None = None) -> None:
        self.query(statement, database)

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        if database:
            self._connection.select_db(database.encode())
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


def name_of(number: int) -> str:
    return (f"d{number}", f"with-hyphen {number}", f"`quoted` {number}", f"ünï.{number}")[number % 4]


def fill(server: Session, count: int) -> list[str]:
    """Make them all; what is made of others comes when these are there."""
    names = [name_of(number) for number in range(count)]
    for number in range(ACCOUNTS):
        server.execute(f"CREATE USER app{number}@'%' IDENTIFIED BY 'p{number}'")
    server.execute("CREATE ROLE readers")
    for number, name in enumerate(names):
        server.execute(f"CREATE DATABASE {quoted(name)} CHARACTER SET utf8mb4")
        server.execute(f"GRANT SELECT, INSERT, EXECUTE ON {quoted(name)}.* TO app{number % ACCOUNTS}@'%'")
        server.execute("CREATE TABLE parent (id INT PRIMARY KEY, what VARCHAR(50) DEFAULT 'it''s')", name)
        server.execute("INSERT INTO parent VALUES (1, 'ä😀'), (2, NULL), (3, 'a\\\\\\'b')", name)
        server.execute("CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, what TEXT, KEY (what(10)))", name)
        server.execute("CREATE TABLE `odd ``table` (`a b` INT, g INT AS (`a b` + 1) STORED, b BLOB)", name)
        server.execute("INSERT INTO `odd ``table` (`a b`, b) VALUES (1, X'00FF0A27'), (NULL, NULL)", name)
        if server.vendor == "mysql" and number % 10 == 0:
            server.execute(f"CREATE TABLESPACE ts{number} ADD DATAFILE 'ts{number}.ibd'")
            server.execute(f"CREATE TABLE spaced (id INT PRIMARY KEY) TABLESPACE ts{number}", name)
    for number, name in enumerate(names):
        statements(server, number, name, names)
    return names


def statements(server: Session, number: int, name: str, names: list[str]) -> None:
    after, far = quoted(names[(number + 1) % len(names)]), quoted(names[(number * 7 + 3) % len(names)])
    definer = f"DEFINER=app{number % ACCOUNTS}@'%'"
    server.execute(f"GRANT SELECT ON {far}.parent TO readers")
    server.execute(
        f"CREATE TABLE child (id INT, CONSTRAINT fk FOREIGN KEY (id) REFERENCES {after}.parent (id) ON DELETE CASCADE)",
        name,
    )
    server.execute("INSERT INTO child VALUES (1), (3)", name)
    server.execute(f"CREATE {definer} FUNCTION f(x INT) RETURNS INT READS SQL DATA RETURN x + "
                   f"(SELECT COUNT(*) FROM {far}.parent)", name)  # fmt: skip
    server.execute(
        f"CREATE {definer} PROCEDURE p() BEGIN /* ;; */ INSERT INTO {after}.log (what) VALUES (';;'); END", name
    )
    server.execute(f"CREATE {definer} VIEW plain AS SELECT f(id) AS n FROM parent", name)
    chained = f"{quoted(names[number - 1])}.chained" if number % 8 else f"{far}.parent"
    server.execute(f"CREATE {definer} SQL SECURITY INVOKER VIEW chained AS SELECT id FROM {chained}", name)
    server.execute(
        f"CREATE VIEW `joined``` AS SELECT a.id, b.what FROM parent a JOIN {far}.parent b ON a.id = b.id", name
    )
    server.execute(f"CREATE {definer} TRIGGER tr AFTER INSERT ON child FOR EACH ROW INSERT INTO {far}.log (what) "
                   "VALUES (NEW.id)", name)  # fmt: skip
    text = "/* ;; */" if number % 5 == 0 else ""
    server.execute(f"CREATE {definer} EVENT e ON SCHEDULE EVERY 1 YEAR STARTS '2030-01-01' DISABLE DO BEGIN {text} "
                   f"CALL {far}.p(); END", name)  # fmt: skip


def facts(server: Session, names: list[str]) -> Facts:
    """What the server says of each object."""
    found: Facts = {}
    server.execute("SELECT 1", "information_schema")  # what is said of a view depends on the database at hand
    for name in names:
        found[name, "database"] = server.query(f"SHOW CREATE DATABASE {quoted(name)}") if exists(server, name) else None
        for table, kind in server.query(f"SHOW FULL TABLES FROM {quoted(name)}") if found[name, "database"] else ():
            title = f"{quoted(name)}.{quoted(table)}"
            found[name, kind, table] = server.query(f"SHOW CREATE TABLE {title}")[0][1:]
            if kind != "VIEW":
                found[name, "rows", table] = server.query(f"CHECKSUM TABLE {title}")[0][1]
    for query in (
        (
            "SELECT ROUTINE_SCHEMA, ROUTINE_TYPE, ROUTINE_NAME, ROUTINE_DEFINITION, DEFINER, SQL_MODE, SECURITY_TYPE, "
            "CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION FROM information_schema.ROUTINES"
        ),
        (
            "SELECT TRIGGER_SCHEMA, 'TRIGGER', TRIGGER_NAME, ACTION_STATEMENT, DEFINER, SQL_MODE, EVENT_OBJECT_TABLE "
            "FROM information_schema.TRIGGERS"
        ),
        (
            "SELECT EVENT_SCHEMA, 'EVENT', EVENT_NAME, EVENT_DEFINITION, DEFINER, SQL_MODE, TIME_ZONE, STATUS, STARTS "
            "FROM information_schema.EVENTS"
        ),
        (
            "SELECT CONSTRAINT_SCHEMA, 'KEY', CONSTRAINT_NAME, UNIQUE_CONSTRAINT_SCHEMA, DELETE_RULE "
            "FROM information_schema.REFERENTIAL_CONSTRAINTS"
        ),
    ):
        for schema, kind, title, *rest in server.query(query):
            if schema in names:
                found[schema, kind, title] = rest
    return found


def grants(server: Session) -> list[object]:
    names = [f"app{number}@'%'" for number in range(ACCOUNTS)]
    return [sorted(server.query(f"SHOW GRANTS FOR {name}")) for name in names]


def exists(server: Session, name: str) -> bool:
    return (name,) in server.query("SHOW DATABASES")


def plainly(old: MySQLServer, new: MySQLServer, names: list[str]) -> None:
    """With the engine's own programs; without events, since its dump program would never end with some of them."""
    dump, client = ("mysqldump", "mysql") if old.vendor == "mysql" else ("mariadb-dump", "mariadb")

    def command(program: str, server: MySQLServer) -> list[str]:
        place = ["--no-defaults", "--protocol=tcp", f"--host={server.host}", f"--port={server.port}"]
        return [str(server.bin / program), *place, f"--user={server.user}", "--default-character-set=utf8mb4"]

    environ = {"MYSQL_PWD": old.password, "PATH": os.environ["PATH"]}
    options = ["--routines", "--triggers", "--hex-blob", "--single-transaction", "--no-tablespaces", "--databases"]
    options = ["--set-gtid-purged=OFF", *options] if old.vendor == "mysql" else options
    text = subprocess.run([*command(dump, old), *options, *names], capture_output=True, env=environ, check=True).stdout
    subprocess.run([*command(client, new), "--force", "--comments"], input=text, capture_output=True, env=environ)


@pytest.fixture
def servers(mysql: MySQLServer, mysql_servers: MySQLServers) -> Iterator[tuple[MySQLServer, MySQLServer, MySQLServer]]:
    """One that is filled, one that is restored to, and one for the engine's own programs."""
    with ExitStack() as running:
        old, new, plain = (running.enter_context(mysql_servers.fresh(mysql.vendor)) for _ in range(3))
        yield old, new, plain


@pytest.mark.parametrize("count", [8, pytest.param(50, marks=long(20))])
def test_all_that_refers_to_one_another_comes_back(
    servers: tuple[MySQLServer, MySQLServer, MySQLServer], source_of: MakeSource, count: int
) -> None:
    old, new, plain = servers
    then, now, beside = (Session(server) for server in servers)
    names = fill(then, count)
    source = source_of(old, *names, accounts="yes", stall_timeout=60)
    assert source.inspect().left_out == ()
    dump = dump_all(source)
    said = restore_all(source_of(new), dump)
    assert said.lost == []
    before, after = facts(then, names), facts(now, names)
    assert after.keys() == before.keys()
    assert {key: one for key, one in after.items() if one != before[key]} == {}
    assert grants(now) == grants(then)
    plainly(old, plain, names)
    brought = {key: one for key, one in facts(beside, names).items() if one == before.get(key)}
    assert len(brought) > 10 * count
    assert all(after[key] == one for key, one in brought.items())
    # And again, over what is there.
    assert restore_all(source_of(new), dump, clean=True).lost == []
    assert facts(now, names) == before
