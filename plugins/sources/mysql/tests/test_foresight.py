"""What a target cannot take is known before it is touched, and what could be told by nobody afterwards is refused."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, restore_all
from tests.servers.mysql import MySQLServer, MySQLServers

from penstock.api import RestoreTarget, SourceDenied, UsageError

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE VIEW v AS SELECT t.i FROM t JOIN bb.t AS other ON other.i = t.i", "view copy.v"),
        ("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW INSERT INTO bb.t VALUES (1)", "trigger copy.tr"),
        ("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW INSERT INTO `aa` . log VALUES (1)", "trigger copy.tr"),
        ("CREATE PROCEDURE p() UPDATE aa.t SET i = 2", "procedure copy.p"),
        ("CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DISABLE DO DELETE FROM bb.t", "event copy.e"),
        ("CREATE TABLE fk (i INT, CONSTRAINT x FOREIGN KEY (i) REFERENCES bb.parent (i))", "foreign key copy.fk.x"),
    ],
)
def test_a_copy_that_would_touch_other_databases_is_refused_unless_that_is_accepted(
    mysql: MySQLServer, source_of: MakeSource, statement: str, named: str
) -> None:
    with mysql.database("bb") as other, mysql.database("aa") as one, ExitStack() as cleaning:
        cleaning.callback(mysql.drop, "copy")
        for name in (one, other):
            mysql.execute("CREATE TABLE t AS SELECT 1 AS i", name)
        mysql.execute("CREATE TABLE log (i INT)", one)
        mysql.execute("CREATE TABLE parent (i INT PRIMARY KEY)", other)
        mysql.execute(statement, one)
        dump = dump_all(source_of(mysql, one))
        with pytest.raises(UsageError, match=named) as caught:
            restore_all(source_of(mysql), dump, rename="aa=copy")
        assert "qualified_names=yes" in (caught.value.hint or "")
        assert not mysql.query("SHOW DATABASES LIKE 'copy'")
        with pytest.raises(UsageError, match=named):
            restore_all(source_of(mysql, "copy"), dump)
        said = restore_all(source_of(mysql), dump, rename="aa=copy", qualified_names="yes")
        assert any(named in warning for warning in said.warnings)
        assert mysql.query("SELECT COUNT(*) FROM t", "copy") == [(1,)]


def test_a_copy_that_names_no_database_needs_no_option(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("bb") as other, mysql.database("aa") as one, mysql.database("copy") as copy:
        mysql.execute("CREATE TABLE t (bb INT)", one)
        mysql.execute("CREATE TABLE t (i INT)", other)
        mysql.execute("CREATE VIEW v AS SELECT t.bb FROM t", one)
        mysql.execute("CREATE PROCEDURE p() BEGIN SELECT 'bb.t', t.bb FROM t; /* aa.t */ END", one)
        assert restore_all(source_of(mysql), dump_all(source_of(mysql, one)), rename="aa=copy").lost == []
        assert mysql.query("SELECT * FROM v", copy) == []


def test_names_that_differ_in_their_case_are_refused_where_they_are_one(
    mysql_servers: MySQLServers, mariadb: MySQLServer, source_of: MakeSource
) -> None:
    folding = mysql_servers.get("mariadb", "--lower-case-table-names=1")
    with mariadb.database("cases") as name, ExitStack() as cleaning:
        cleaning.callback(folding.drop, name)
        mariadb.execute("CREATE TABLE T AS SELECT 1 AS i", name)
        dump = dump_all(source_of(mariadb, name))
        assert restore_all(source_of(folding), dump).lost == []
        folding.drop(name)
        mariadb.execute("CREATE TABLE t AS SELECT 2 AS i", name)
        with pytest.raises(UsageError, match=r"lower_case_table_names.*cases\.T, cases\.t") as caught:
            restore_all(source_of(folding), dump_all(source_of(mariadb, name)))
        assert caught.value.hint
        assert not folding.query(f"SHOW DATABASES LIKE '{name}'")


def test_a_server_that_wants_primary_keys_takes_tables_without_where_the_session_may_say_so(
    oracle_mysql: MySQLServer, source_of: MakeSource
) -> None:
    with oracle_mysql.database("keyless") as name, oracle_mysql.account("owner", "ALL ON `keyless%`.*") as user:
        oracle_mysql.execute("CREATE TABLE t AS SELECT 1 AS i", name)
        dump = dump_all(source_of(oracle_mysql, name))
        oracle_mysql.execute("SET GLOBAL sql_require_primary_key = ON")
        try:
            with pytest.raises(SourceDenied, match=r"sql_require_primary_key = ON: keyless\.t") as caught:
                restore_all(source_of(oracle_mysql, name, user=user), dump, clean=True)
            assert "SESSION_VARIABLES_ADMIN" in (caught.value.hint or "")
            restore_all(source_of(oracle_mysql, name), dump, clean=True)
        finally:
            oracle_mysql.execute("SET GLOBAL sql_require_primary_key = OFF")
        assert oracle_mysql.query("SELECT i FROM t", name) == [(1,)]


def test_a_foreign_key_on_a_key_that_is_not_unique_comes_back(oracle_mysql: MySQLServer, source_of: MakeSource) -> None:
    with oracle_mysql.database("loose") as name:
        oracle_mysql.run_script(
            b"SET restrict_fk_on_non_standard_key = OFF; CREATE TABLE parent (i INT, KEY (i));"
            b"CREATE TABLE child (i INT, CONSTRAINT x FOREIGN KEY (i) REFERENCES parent (i));",
            name,
        )
        before = oracle_mysql.as_text(name)
        source = source_of(oracle_mysql, name)
        dump = dump_all(source)
        plan = source.plan_restore([spec for spec, _ in dump.values()], RestoreTarget(clean=True))
        assert "restrict_fk_on_non_standard_key = OFF" in [need.name for need in plan.needs]
        restore_all(source, dump, clean=True)
        assert oracle_mysql.as_text(name) == before


def test_no_account_gets_a_grant_without_its_exceptions(oracle_mysql: MySQLServer, source_of: MakeSource) -> None:
    name = "'partial'@'%'"
    with oracle_mysql.database("aa") as one, ExitStack() as cleaning:
        cleaning.callback(oracle_mysql.execute, f"DROP USER IF EXISTS {name}")
        cleaning.callback(oracle_mysql.execute, "SET GLOBAL partial_revokes = OFF")
        oracle_mysql.execute("SET GLOBAL partial_revokes = ON")
        oracle_mysql.execute(f"CREATE USER {name} IDENTIFIED BY 'p'")
        oracle_mysql.execute(f"GRANT SELECT ON *.* TO {name}")
        oracle_mysql.execute(f"REVOKE SELECT ON aa.* FROM {name}")
        before = oracle_mysql.query(f"SHOW GRANTS FOR {name}")
        dump = [dump_all(source_of(oracle_mysql, one, accounts="yes"))["accounts.sql"]]
        oracle_mysql.execute(f"DROP USER {name}")
        oracle_mysql.execute("SET GLOBAL partial_revokes = OFF")
        source = source_of(oracle_mysql)
        plan = source.plan_restore([dump[0][0]], RestoreTarget())
        assert [(one.kind, one.name) for one in plan.left_out] == [("grants", name)]
        assert [need.name for need in plan.needs if need.met is False] == ["partial_revokes = ON"]
        restore_all(source, dump)
        assert "SELECT" not in str(oracle_mysql.query(f"SHOW GRANTS FOR {name}"))
        oracle_mysql.execute(f"DROP USER {name}")
        oracle_mysql.execute("SET GLOBAL partial_revokes = ON")
        assert restore_all(source, dump).lost == []
        assert oracle_mysql.query(f"SHOW GRANTS FOR {name}") == before
        oracle_mysql.execute(f"DROP USER {name}")


def test_a_plan_says_what_will_be_done_and_changes_nothing(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("aa") as one, mysql.database("bb") as other:
        dump = dump_all(source_of(mysql, one, other, accounts="yes"))
        mysql.drop(other)
        before = mysql.query("SHOW DATABASES")
        plan = source_of(mysql).plan_restore([spec for spec, _ in dump.values()], RestoreTarget())
        assert mysql.query("SHOW DATABASES") == before
    assert [step.action.split(",")[0] for step in plan.steps] == [
        "fill the tables of aa beside it",
        "make the database bb and fill its tables",
        "make the accounts that the server lacks",
        "make routines",
        "give the new accounts their grants",
    ]


def test_one_client_program_fills_all_databases(mysql: MySQLServer, source_of: MakeSource, tmp_path: Path) -> None:
    names = [f"many{i}" for i in range(5)]
    with ExitStack() as cleaning:
        for name in names:
            cleaning.enter_context(mysql.database(name))
            mysql.execute("CREATE TABLE t AS SELECT 1 AS i", name)
        dump = dump_all(source_of(mysql, *names))
        for name in names:
            mysql.drop(name)
        program = "mysql" if mysql.vendor == "mysql" else "mariadb"
        script = tmp_path / program
        script.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/log\nexec "{mysql.bin / program}" "$@"\n')
        script.chmod(0o755)
        restore_all(source_of(mysql, *names, client_path=tmp_path), dump)
        started = (tmp_path / "log").read_text().splitlines()
        assert [mysql.query("SELECT i FROM t", name) for name in names] == [[(1,)]] * 5
    assert len([line for line in started if "--version" not in line]) == 1
    assert len(started) <= 3
