"""MySQL and MariaDB in the story: two databases and accounts of all kinds, on a server that asks for a password."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

from tests.integration.cases import SourceCase, Target
from tests.integration.databases import Content
from tests.servers import versions
from tests.servers.mysql import MySQLServer, MySQLServers, Vendor, quoted

_DATA = Path(__file__).resolve().parents[1] / "data"
#: Without quotes: mariadb-dump 10.11 does not find the events of such a database, and fails.
_DATABASES = ("shop of näme; --", "bench")
_VARIABLE = "SHOP_PASSWORD"

_BENCH = """
CREATE TABLE orders (
  id INT PRIMARY KEY, customer INT, placed DATETIME, total DECIMAL(12, 2), note VARCHAR(200),
  raw VARBINARY(64), KEY (customer)
);
INSERT INTO orders
  WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 199)
  SELECT a.i * 200 + b.i, b.i, TIMESTAMPADD(SECOND, a.i * 200 + b.i, '2024-01-01'), (a.i + b.i) / 7,
    CONCAT('order of ', SHA2(CONCAT(RAND(), a.i, b.i), 256)), UNHEX(SHA2(CONCAT(b.i, RAND(), a.i), 512))
  FROM n a, n b WHERE a.i < 100;
"""
_CHANGE = """
UPDATE orders SET total = total + 1, note = 'changed' WHERE id % 997 = 0;
DELETE FROM orders WHERE id % 1511 = 0;
CREATE TABLE `new tåble` AS SELECT id, note FROM orders WHERE id < 100;
CREATE VIEW few AS SELECT * FROM orders WHERE customer < 3;
"""
_CHANGE_NASTY = """
UPDATE everything SET vc = 'changed 😀' WHERE id = 3;
INSERT INTO zero_id VALUES (-5), (2000);
DELETE FROM parted WHERE id = 2;
DROP TRIGGER tr2;
ALTER TABLE no_key ADD COLUMN `since; --` DATE DEFAULT '2024-02-29';
"""


class MySQLCase(SourceCase):
    """A bit of everything that the engine has, and a table that fills more than one segment."""

    name = "shop"

    def __init__(self, servers: MySQLServers, vendor: Vendor) -> None:
        self._servers = servers
        self.server = servers.get(vendor)
        self.versions = (versions.engine(self.server), versions.client(self.server))
        self._accounts = {account for account, _ in self._all_accounts(self.server)}
        place = self._target(self.server)
        self.url, self.environ, self.settings = place.url, place.environ, place.settings

    def seed(self) -> None:
        self.forget()
        for database in _DATABASES:
            self.server.execute(f"CREATE DATABASE {quoted(database)} CHARACTER SET utf8mb4")
        for script in ("mysql-nasty.sql", f"mysql-nasty-{self.server.vendor}.sql"):
            # Rows of a hundred KiB do here; the plugin's own tests have them as large as they get.
            text = (_DATA / script).read_bytes().replace(b"1048576", b"6400").replace(b"2097152", b"12800")
            self.server.run_script(text, _DATABASES[0])
        self.server.run_script(_BENCH.encode(), "bench")
        self._make_accounts()

    def change(self) -> None:
        self.server.run_script(_CHANGE_NASTY.encode(), _DATABASES[0])
        self.server.run_script(_CHANGE.encode(), "bench")
        self.server.execute("CREATE USER 'new däve'@'localhost' IDENTIFIED BY 'd'")
        self.server.execute("GRANT DELETE ON bench.* TO 'new däve'@'localhost'")
        self.server.execute("REVOKE UPDATE (id) ON bench.orders FROM 'alice o''hara'@'%'")

    def content(self) -> Content:
        return self._content(self.server)

    def rows(self) -> dict[str, int]:
        tables = {"bench.orders": "bench.orders", f"{_DATABASES[0]}.bytes": f"{quoted(_DATABASES[0])}.bytes"}
        return {name: int(self.server.query(f"SELECT COUNT(*) FROM {table}")[0][0]) for name, table in tables.items()}

    @contextmanager
    def fresh_target(self) -> Iterator[Target]:
        if self.server.pid is None:
            self.forget()
            yield self._target(self.server)
        else:
            with self._servers.fresh(self.server.vendor) as server:
                yield self._target(server)

    def forget(self) -> None:
        """Leave the server as it was."""
        for database in _DATABASES:
            self.server.drop(database)
        for account, role in self._all_accounts(self.server):
            if account not in self._accounts:
                self.server.execute(f"DROP {'ROLE' if role else 'USER'} {account}")

    def _target(self, server: MySQLServer) -> Target:
        # Rows are counted exactly where all databases are dumped as they were at one moment.
        words = [
            ("consistency", "server"),
            ("row_counts", "exact"),
            ("accounts", "yes"),
            ("client_path", str(server.bin)),
        ]
        several = ",".join(map(quote, _DATABASES))
        url = f"{server.vendor}://{quote(server.user)}@{server.host}:{server.port}/?databases={several}&{urlencode(words)}"
        environ = {_VARIABLE: server.password} if server.password else {}
        settings = {"password": {"env": _VARIABLE}} if server.password else {}
        return Target(url, environ, lambda: self._content(server), settings)

    def _make_accounts(self) -> None:
        maria = self.server.vendor == "mariadb"
        role = "clerk" if maria else "'clerk'"
        for statement in (
            "CREATE USER 'alice o''hara'@'%' IDENTIFIED BY 'it''s \\\\ höme'",
            "CREATE USER 'bob'@'10.0.0.0/255.0.0.0' IDENTIFIED BY 'b' REQUIRE SSL ACCOUNT LOCK",
            f"CREATE ROLE {role}",
            f"GRANT SELECT ON bench.* TO {role}",
            f"GRANT {role} TO 'alice o''hara'@'%'",
            f"SET DEFAULT ROLE {role} {'FOR' if maria else 'TO'} 'alice o''hara'@'%'",
            "GRANT SELECT (id, note), UPDATE (id) ON bench.orders TO 'alice o''hara'@'%' WITH GRANT OPTION",
            f"GRANT EXECUTE ON PROCEDURE {quoted(_DATABASES[0])}.`proc; \"1\"` TO 'bob'@'10.0.0.0/255.0.0.0'",
            "GRANT ALL ON `off\\_%`.* TO 'bob'@'10.0.0.0/255.0.0.0'",
        ):
            self.server.execute(statement)

    def _content(self, server: MySQLServer) -> Content:
        content: Content = {}
        for database in _DATABASES:
            clauses = server.query(f"SHOW CREATE DATABASE {quoted(database)}")
            content[database] = str(clauses[0][1])
            for part, digest in _parts(server.as_text(database)).items():
                content[f"{database}: {part}"] = digest
        for account, role in self._all_accounts(server):
            if account not in self._accounts:
                content[account] = _account(server, account, role)
        return content

    @staticmethod
    def _all_accounts(server: MySQLServer) -> list[tuple[str, bool]]:
        """All accounts and roles as statements name them, each with whether it is one of MariaDB's roles."""
        maria = server.vendor == "mariadb"
        query = f"SELECT User, Host, {'is_role' if maria else repr('N')} FROM mysql.user ORDER BY User, Host"
        return [
            (_quoted(user) if role == "Y" else f"{_quoted(user)}@{_quoted(host)}", role == "Y")
            for user, host, role in server.query(query)
        ]


def _account(server: MySQLServer, account: str, role: bool) -> str:
    with server.connect() as connection, connection.cursor() as cursor:
        found: list[str] = []
        if server.vendor == "mysql":
            cursor.execute("SET SESSION print_identified_with_as_hex = 1")
        for statement in (*(() if role else (f"SHOW CREATE USER {account}",)), f"SHOW GRANTS FOR {account}"):
            cursor.execute(statement)
            found += [str(row[0]) for row in cursor.fetchall()]
    # MariaDB tells the columns of a grant in no particular order.
    columns = re.compile(r"(?<= \()`[^()]+`(?=\) ON |\), )")
    return "\n".join(columns.sub(lambda names: ", ".join(sorted(names[0].split(", "))), line) for line in found)


def _quoted(name: str) -> str:
    return "'{}'".format(name.replace("\\", "\\\\").replace("'", "''"))


def _parts(dump: bytes) -> dict[str, str]:
    """One digest for each table and view, by where its definition begins; routines and events are with the last."""
    begin = re.compile(
        rb"DROP (?:TABLE|VIEW|SEQUENCE) IF EXISTS (`(?:[^`]|``)+`)|/\*!50001 DROP VIEW IF EXISTS (`(?:[^`]|``)+`)"
    )
    digests = {"": hashlib.blake2b()}
    digest = digests[""]
    for line in dump.splitlines(keepends=True):
        if found := begin.match(line):
            name = (found[1] or found[2]).decode()
            digest = digests.setdefault(name, hashlib.blake2b())
        digest.update(line)
    return {name: made.hexdigest() for name, made in digests.items()} | {"order": "\n".join(digests)}
