import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.servers.mysql import PASSWORD, MySQLServer
from tests.servers.postgres import free_port

from penstock.testing.source_conformance import (
    BadObject,
    ChildProgram,
    Dumped,
    NotApplicable,
    SourceConformance,
    SourceLab,
    Target,
    dump_all,
)
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.source import MySQLSource

pytestmark = pytest.mark.server

_SEED = """
CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(99) NOT NULL, raw VARBINARY(99), at DATETIME);
INSERT INTO orders (what, raw, at) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900)
    SELECT CONCAT('ördér ', i), UNHEX(SHA2(i, 256)), '2024-02-29 12:00:00' + INTERVAL i MINUTE FROM n;
CREATE VIEW dear AS SELECT id, what FROM orders WHERE id > 500;
CREATE TRIGGER named BEFORE INSERT ON orders FOR EACH ROW SET NEW.what = CONCAT(NEW.what, '…');
"""


class MySQLLab(SourceLab):
    secrets = (PASSWORD,)
    change_command = NotApplicable("a change is made by the server, which is another process anyway")

    def __init__(self, server: MySQLServer, folder: Path, cleaning: ExitStack) -> None:
        self.server = server
        self.targets = 0
        self._cleaning = cleaning
        self._password = folder / "password"
        self._password.write_text(server.password, encoding="utf-8")
        self.database = cleaning.enter_context(server.database("conformance"))
        server.run_script(_SEED.encode(), self.database)
        self._source = self._make(self.database)

    @property
    def source(self) -> MySQLSource:
        return self._source

    @property
    def program(self) -> ChildProgram:
        return ChildProgram(self.server.bin / ("mariadb-dump" if self.server.vendor == "mariadb" else "mysqldump"))

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> MySQLSource:
        folder = program.parent if program else self.server.bin
        return self._make(self.database, client_path=folder, stall_timeout=stall_timeout or 60)

    @property
    def restore_program(self) -> ChildProgram:  # type: ignore[override]
        return ChildProgram(self.server.bin / self.server.vendor)

    def restoring_with(self, program: Path) -> Target:
        target = self.target()
        return Target(self._make(f"conformance_target_{self.targets}", client_path=program.parent), target.content)

    def unreachable(self) -> MySQLSource:
        return self._make(self.database, port=free_port())

    def silent(self, host: str, port: int) -> MySQLSource:
        return self._make(self.database, host=host, port=port, connect_timeout=1)

    def content(self) -> object:
        return self.server.as_text(self.database)

    def change(self) -> None:
        self.server.execute("INSERT INTO orders (what) VALUES ('late')", self.database)

    def bad_objects(self) -> list[BadObject]:
        server = self.server
        with server.database("conformance_bad") as name, server.account("refused", password="of the refused"):
            server.run_script(_SEED.encode(), name)
            rest = server.as_text(name)
            of_accounts = dump_all(self._make(name, accounts="yes"))
            server.execute("CREATE VIEW no_good AS SELECT id FROM orders", name)
            of_a_view = dump_all(self._make(name))
        view = _replaced(of_a_view, b"VIEW `no_good` AS select", b"VIEW `no_good` AS selekt")
        (line,) = [one for one in of_accounts["accounts.sql"][1].splitlines() if b"CREATE" in one and b"refused" in one]
        (secret,) = re.findall(rb"(?: AS | BY PASSWORD | USING )'?([^' ]{20,})", line)
        unknown = re.sub(
            rb" IDENTIFIED BY PASSWORD | IDENTIFIED VIA \w+ USING ", b" IDENTIFIED VIA no_such USING ", line
        )
        account = _replaced(of_accounts, line, unknown.replace(b"'caching_sha2_password'", b"'no_such'"))
        return [
            BadObject(view, "no_good", rest),
            BadObject(account, "refused", rest, secrets=(secret.decode(),)),
        ]

    def target(self) -> Target:
        self.targets += 1
        name = f"conformance_target_{self.targets}"
        self.server.drop(name)
        self._cleaning.callback(self.server.drop, name)
        return Target(self._make(name), lambda: self._content_of(name))

    def _make(self, database: str, **more: Any) -> MySQLSource:
        server = self.server
        chosen = {"host": server.host, "port": server.port, "user": server.user, "database": database}
        chosen |= {"client_path": server.bin, "password": {"file": self._password}, "accounts": "no"}
        return MySQLSource(MySQLSettings.model_validate(chosen | more))

    def _content_of(self, name: str) -> bytes | None:
        return self.server.as_text(name) if self.server.query(f"SHOW DATABASES LIKE '{name}'") else None


def _replaced(dump: Dumped, old: bytes, new: bytes) -> Dumped:
    assert sum(data.count(old) for _, data in dump.values()) == 1, old
    return {name: (spec, data.replace(old, new)) for name, (spec, data) in dump.items()}


@pytest.fixture(scope="module")
def seeded(mysql: MySQLServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceLab]:
    with ExitStack() as cleaning:
        yield MySQLLab(mysql, tmp_path_factory.mktemp("lab"), cleaning)


class TestMySQLSource(SourceConformance):
    """Once with MariaDB, once with MySQL."""

    @pytest.fixture
    def lab(self, seeded: SourceLab) -> SourceLab:
        return seeded
