"""One bad object costs itself: it is named, and everything else is restored, in an order that everything needs."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, restore_all
from tests.servers.mysql import MySQLServer, quoted

from penstock.api import RestoreFailed, SourceDenied

pytestmark = pytest.mark.server


@pytest.fixture
def two(mysql: MySQLServer) -> Iterator[tuple[str, str]]:
    """Two databases, `aa` and `bb`."""
    with mysql.database("aa") as one, mysql.database("bb") as other:
        yield one, other
        for name in (one, other):
            mysql.run_script(f"SET foreign_key_checks = 0; DROP DATABASE IF EXISTS {name};".encode(), "mysql")


def test_views_of_one_database_on_another_come_back(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    one, other = two
    mysql.execute("CREATE TABLE t AS SELECT 7 AS i", other)
    mysql.execute("CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 5", other)
    mysql.execute("CREATE VIEW deep AS SELECT i, bb.f() AS five FROM bb.t", other)
    mysql.execute("CREATE VIEW v AS SELECT * FROM bb.deep", one)
    mysql.execute("CREATE TABLE log (i INT)", one)
    mysql.execute("CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO aa.log SELECT five FROM aa.v", other)
    dump = dump_all(source_of(mysql, one, other))
    mysql.drop(one)
    mysql.drop(other)
    assert restore_all(source_of(mysql), dump).lost == []
    assert mysql.query("SELECT * FROM v", one) == [(7, 5)]
    mysql.execute("INSERT INTO t VALUES (8)", other)
    assert mysql.query("SELECT DISTINCT i FROM log", one) == [(5,)]


def test_accounts_come_before_what_they_define_and_grants_after_it(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    one, other = two
    with ExitStack() as cleaning:
        cleaning.callback(mysql.execute, "DROP USER IF EXISTS 'app'@'%'")
        mysql.execute("CREATE USER 'app'@'%' IDENTIFIED BY 'p'")
        mysql.execute("GRANT SELECT, SHOW VIEW, CREATE VIEW, EXECUTE ON aa.* TO 'app'@'%'")
        mysql.execute("CREATE TABLE t AS SELECT 3 AS i", one)
        mysql.execute("CREATE DEFINER='app'@'%' VIEW low AS SELECT i FROM t", one)
        mysql.execute("CREATE DEFINER='app'@'%' VIEW high AS SELECT i FROM low", one)
        mysql.execute("CREATE DEFINER='app'@'%' PROCEDURE p() SELECT i FROM high", one)
        mysql.execute("CREATE DEFINER='app'@'%' VIEW above AS SELECT i FROM aa.high", other)
        mysql.execute("GRANT SELECT ON bb.above TO 'app'@'%'")
        mysql.execute("GRANT EXECUTE ON PROCEDURE aa.p TO 'app'@'%'")
        before = mysql.query("SHOW GRANTS FOR 'app'@'%'")
        dump = dump_all(source_of(mysql, one, other, accounts="yes"))
        mysql.drop(one)
        mysql.drop(other)
        mysql.execute("DROP USER 'app'@'%'")
        assert restore_all(source_of(mysql), dump).lost == []
        assert mysql.query("SHOW GRANTS FOR 'app'@'%'") == before
        assert mysql.query("SELECT i FROM high", one) == [(3,)]


def test_a_view_that_the_server_refuses_costs_itself_and_names_what_needs_it(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    one, other = two
    mysql.execute("CREATE TABLE t AS SELECT 1 AS i", one)
    mysql.execute("CREATE VIEW bad AS SELECT i FROM t", one)
    mysql.execute("CREATE VIEW needs_bad AS SELECT i FROM bad", one)
    mysql.execute("CREATE VIEW good AS SELECT i FROM t", one)
    mysql.execute("CREATE PROCEDURE p() SELECT ';' AS a, 'it''s'", one)
    dump = dump_all(source_of(mysql, one, other))
    spec, data = dump["db/aa.sql"]
    dump["db/aa.sql"] = spec, data.replace(b"VIEW `bad` AS select", b"VIEW `bad` AS selekt")
    mysql.drop(one)
    mysql.drop(other)
    said = restore_all(source_of(mysql), dump)
    assert [(lost.kind, lost.name, lost.database) for lost in said.lost] == [
        ("view", "bad", one),
        ("view", "needs_bad", one),
    ]
    assert "selekt" in said.lost[0].statement
    assert "does not work without what is missing" in said.lost[1].reason
    assert mysql.query("SELECT i FROM good", one) == [(1,)]
    assert mysql.query("CALL p()", one) == [(";", "it's")]
    assert {name for (name,) in mysql.query("SHOW TABLES", one)} == {"t", "good", "needs_bad"}
    # What the operator is given mends both.
    mysql.run_script(said.lost[0].statement.replace("selekt", "select").encode(), one)
    assert mysql.query("SELECT i FROM needs_bad", one) == [(1,)]


@pytest.mark.parametrize(
    ("good", "bad", "kind"),
    [
        (b"BEGIN SET @tr = 1; END", b"BEGIN SET @tr = ; END", "trigger"),
        (b"BEGIN SELECT 'pr;'; END", b"BEGIN SELECT 'pr;' FROM; END", "procedure"),
        (b"BEGIN SET @ev = 1; END", b"BEGIN SET @ev = ; END", "event"),
    ],
)
def test_a_program_that_the_server_refuses_costs_itself(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str], good: bytes, bad: bytes, kind: str
) -> None:
    one, other = two
    mysql.execute("CREATE TABLE t (i INT)", one)
    mysql.execute("CREATE TABLE z AS SELECT 1 AS i", one)
    mysql.execute("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN SET @tr = 1; END", one)
    mysql.execute("CREATE PROCEDURE pr() BEGIN SELECT 'pr;'; END", one)
    mysql.execute("CREATE EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01' DO BEGIN SET @ev = 1; END", one)
    before = mysql.as_text(one)
    dump = dump_all(source_of(mysql, one, other))
    spec, data = dump["db/aa.sql"]
    assert good in data
    dump["db/aa.sql"] = spec, data.replace(good, bad)
    mysql.drop(one)
    mysql.drop(other)
    said = restore_all(source_of(mysql), dump)
    ((lost),) = said.lost
    assert (lost.kind, lost.database) == (kind, one)
    assert bad.decode() in lost.statement
    mysql.run_script(lost.statement.encode().replace(bad, good), one)
    assert mysql.as_text(one) == before
    mysql.drop(one)
    mysql.drop(other)
    with pytest.raises(RestoreFailed, match=f"does not take everything: aa: {kind}"):
        restore_all(source_of(mysql), dump, strict=True)
    assert not mysql.query("SHOW DATABASES LIKE 'aa%'")
    assert not mysql.query("SHOW DATABASES LIKE 'bb%'")


def test_a_grant_on_what_is_gone_costs_itself(mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]) -> None:
    one, _ = two
    names = ("'first'@'%'", "'second'@'%'")
    with ExitStack() as cleaning:
        for name in names:
            cleaning.callback(mysql.execute, f"DROP USER IF EXISTS {name}")
            mysql.execute(f"CREATE USER {name} IDENTIFIED BY 'p'")
            mysql.execute(f"GRANT SELECT ON aa.* TO {name}")
        mysql.execute("CREATE TABLE gone (i INT)", one)
        mysql.execute(f"GRANT SELECT ON aa.gone TO {names[0]}")
        mysql.execute("DROP TABLE gone", one)
        before = mysql.query(f"SHOW GRANTS FOR {names[1]}")
        dump = dump_all(source_of(mysql, one, accounts="yes"))
        for name in names:
            mysql.execute(f"DROP USER {name}")
        mysql.drop(one)
        said = restore_all(source_of(mysql), dump)
        (lost,) = said.lost
        assert (lost.kind, lost.name.replace("`", "'")) == ("grant", names[0])
        assert "gone" in lost.reason
        assert mysql.query(f"SHOW GRANTS FOR {names[1]}") == before
        assert any("`aa`.*" in row[0] for row in mysql.query(f"SHOW GRANTS FOR {names[0]}"))
        assert any("first" in note or "root" in note for note in said.notes)


def test_an_account_whose_plugin_is_missing_costs_itself_and_its_secret_is_not_shown(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    one, _ = two
    names = ("'first'@'%'", "'second'@'%'")
    with ExitStack() as cleaning:
        for name in names:
            cleaning.callback(mysql.execute, f"DROP USER IF EXISTS {name}")
            mysql.execute(f"CREATE USER {name} IDENTIFIED BY 'p'")
            mysql.execute(f"GRANT SELECT ON aa.* TO {name}")
        dump = dump_all(source_of(mysql, one, accounts="yes"))
        spec, data = dump["accounts.sql"]
        lines = [
            line.replace(b" IDENTIFIED BY PASSWORD ", b" IDENTIFIED VIA auth_0x_test USING ").replace(
                b"'caching_sha2_password'", b"'auth_0x_test'"
            )
            if b"first" in line and line.startswith(b"CREATE")
            else line
            for line in data.split(b"\n")
        ]
        for name in names:
            mysql.execute(f"DROP USER {name}")
        said = restore_all(source_of(mysql), [(spec, b"\n".join(lines))])
        assert {lost.name.replace("`", "'") for lost in said.lost} == {names[0]}
        account = said.lost[0]
        assert (account.kind, account.secret) == ("account", True)
        secret = account.statement.split(" AS " if mysql.vendor == "mysql" else " USING ")[1].split()[0].strip("';")
        assert len(secret) > 20
        assert not any(secret in str(lost) or secret in repr(lost) for lost in said.lost)
        assert all(lost.secret or secret not in lost.statement for lost in said.lost)
        assert mysql.query(f"SHOW GRANTS FOR {names[1]}")


def test_the_same_user_of_another_host_is_restored(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    name = f"'{mysql.user}'@'10.0.%'"
    with ExitStack() as cleaning:
        cleaning.callback(mysql.execute, f"DROP USER IF EXISTS {name}")
        mysql.execute(f"CREATE USER {name} IDENTIFIED BY 'p'")
        dump = dump_all(source_of(mysql, two[0], accounts="yes"))
        mysql.execute(f"DROP USER {name}")
        said = restore_all(source_of(mysql), [dump["accounts.sql"]])
        assert mysql.query(f"SHOW GRANTS FOR {name}")
        assert not said.lost


def test_a_clean_restore_of_databases_that_point_at_each_other_takes_all_or_nothing(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    one, other = two
    for here in two:
        mysql.execute("CREATE TABLE parent (i INT PRIMARY KEY)", here)
        mysql.execute("INSERT INTO parent VALUES (1)", here)
    for here, there in ((one, other), (other, one)):
        mysql.execute(f"CREATE TABLE child (i INT, CONSTRAINT x FOREIGN KEY (i) REFERENCES {there}.parent (i))", here)
        mysql.execute("INSERT INTO child VALUES (1)", here)
        mysql.execute("CREATE TRIGGER tr BEFORE INSERT ON child FOR EACH ROW SET @x = 1", here)
    for here, there in ((one, other), (other, one)):
        mysql.execute(f"CREATE VIEW v AS SELECT parent.i FROM parent JOIN {there}.child ON child.i = parent.i", here)
    source = source_of(mysql, one, other)
    before = {name: mysql.as_text(name) for name in two}
    dump = dump_all(source)
    for name in two:
        mysql.execute("CREATE TABLE late (i INT)", name)
    spec, data = dump["db/bb.sql"]
    broken = dump | {"db/bb.sql": (spec, data.replace(b"CREATE TABLE `parent`", b"CREATE TABEL `parent`"))}
    later = {name: mysql.as_text(name) for name in two}
    with pytest.raises(RestoreFailed):
        restore_all(source, broken, clean=True)
    assert {name: mysql.as_text(name) for name in two} == later
    assert restore_all(source, dump, clean=True).lost == []
    assert {name: mysql.as_text(name) for name in two} == before
    names = {name for (name,) in mysql.query("SHOW DATABASES")}
    assert not [name for name in names if "~new" in name]


def test_a_strict_clean_restore_leaves_the_old_database_when_a_program_is_refused(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    one, _ = two
    mysql.execute("CREATE TABLE t AS SELECT 1 AS i", one)
    mysql.execute("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @x = 1", one)
    mysql.execute("CREATE VIEW v AS SELECT i FROM t", one)
    source = source_of(mysql, one)
    dump = dump_all(source)
    mysql.execute("UPDATE t SET i = 2", one)
    later = mysql.as_text(one)
    spec, data = dump["db/aa.sql"]
    with pytest.raises(RestoreFailed, match=r"aa.*: view v"):
        restore_all(
            source, [(spec, data.replace(b"VIEW `v` AS select", b"VIEW `v` AS selekt"))], clean=True, strict=True
        )
    assert mysql.as_text(one) == later
    restore_all(source, dump, clean=True, strict=True)
    assert mysql.query("SELECT i FROM v", one) == [(1,)]
    assert mysql.query("SHOW TRIGGERS", one)


def test_an_owner_who_may_make_nothing_beside_is_told_before(
    mysql: MySQLServer, source_of: MakeSource, two: tuple[str, str]
) -> None:
    one, _ = two
    mysql.execute("CREATE TABLE t AS SELECT 1 AS i", one)
    dump = dump_all(source_of(mysql, one))
    with mysql.account("owner", f"ALL ON {quoted(one)}.*") as user:
        source = source_of(mysql, one, user=user)
        with pytest.raises(SourceDenied, match="may not make a database beside aa") as caught:
            restore_all(source, dump, clean=True)
        assert "beside=no" in (caught.value.hint or "")
        mysql.execute("UPDATE t SET i = 2", one)
        restore_all(source, dump, clean=True, beside="no")
        assert mysql.query("SELECT i FROM t", one) == [(1,)]
