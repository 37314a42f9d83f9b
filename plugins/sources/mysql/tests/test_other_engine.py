"""What a server of the other make will refuse is known before it is touched."""

from contextlib import ExitStack

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, restore_all
from tests.servers.mysql import MySQLServer

from penstock.api import RestoreTarget, UsageError
from penstock_mysql.expressions import Expression, expressions_of

CLAUSES = "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
OTHER = RestoreTarget(options={"other_engine": "yes"})


def test_the_expressions_of_a_table_are_found_whatever_is_in_them() -> None:
    statement = (
        b"CREATE TABLE `t``x` (\n  `a` int DEFAULT NULL,\n"
        b"  `b GENERATED ALWAYS AS (` text COMMENT ' GENERATED ALWAYS',\n"
        b"  `c` int GENERATED ALWAYS AS ((`a` + length(_utf8mb4')(\\''))) VIRTUAL,\n"
        b"  `d` text GENERATED ALWAYS AS (concat(`a`)) STORED COMMENT ')',\n  KEY `k` (`a`)\n)"
    )
    columns = ("a", "b GENERATED ALWAYS AS (", "c", "d")
    assert list(expressions_of(statement)) == [
        Expression("t`x", columns, "((`a` + length(_utf8mb4')(\\'')))"),
        Expression("t`x", columns, "(concat(`a`))"),
    ]


@pytest.mark.server
def test_programs_under_a_collation_that_the_target_lacks_are_in_the_plan(
    oracle_mysql: MySQLServer, mariadb: MySQLServer, source_of: MakeSource
) -> None:
    with oracle_mysql.database("spoken", CLAUSES) as name, ExitStack() as cleaning:
        cleaning.callback(mariadb.drop, name)
        oracle_mysql.execute("CREATE TABLE t (i INT)", name)
        oracle_mysql.run_script(
            b"SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci; CREATE PROCEDURE fine() SELECT 1;"
            b"CREATE VIEW seen AS SELECT i FROM t;"
            b"SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci; CREATE PROCEDURE strange() SELECT 'a' = 'b';"
            b"CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.i = 1;"
            b"CREATE VIEW odd AS SELECT i FROM t;"
            b"CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1;",
            name,
        )
        dump = dump_all(source_of(oracle_mysql, name))
        source = source_of(mariadb, name)
        plan = source.plan_restore([spec for spec, _ in dump.values()], OTHER)
        expected = {("procedure", "strange"), ("trigger", "tr"), ("view", "odd"), ("event", "e")}
        assert {(one.kind, one.name) for one in plan.left_out} == expected
        assert all("utf8mb4_0900_ai_ci" in one.reason for one in plan.left_out)
        said = restore_all(source, dump, other_engine="yes")
        assert {(one.kind, one.name) for one in said.lost} == expected
        found = mariadb.query(f"SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{name}'")
        assert found == [("fine",)]
        assert mariadb.query(f"SHOW FULL TABLES FROM {name} WHERE Table_type = 'VIEW'") == [("seen", "VIEW")]
        # Its own server lacks nothing.
        specs = [spec for spec, _ in dump.values()]
        assert source_of(oracle_mysql, name).plan_restore(specs, RestoreTarget(clean=True)).left_out == ()


@pytest.mark.server
def test_generated_columns_are_tried_before_the_target_is_touched(
    oracle_mysql: MySQLServer, mariadb: MySQLServer, source_of: MakeSource
) -> None:
    with oracle_mysql.database("computed", CLAUSES) as name, ExitStack() as cleaning:
        cleaning.callback(mariadb.drop, name)
        oracle_mysql.execute("CREATE TABLE fine (a INT, d DATE, b VARCHAR(20) AS (concat(a, ' is (')) VIRTUAL)", name)
        oracle_mysql.execute("INSERT INTO fine (a) VALUES (1)", name)
        dump = dump_all(source_of(oracle_mysql, name))
        source = source_of(mariadb, name)
        plan = source.plan_restore([spec for spec, _ in dump.values()], OTHER)
        assert [need.met for need in plan.needs if need.kind == "syntax"] == [True]
        assert plan.warnings == ()
        restore_all(source, dump, other_engine="yes")
        assert mariadb.query("SELECT b FROM fine", name) == [("1 is (",)]
        mariadb.drop(name)
        oracle_mysql.execute("CREATE TABLE strange (u CHAR(36), b BINARY(16) AS (uuid_to_bin(u)) VIRTUAL)", name)
        dump = dump_all(source_of(oracle_mysql, name))
        with pytest.raises(UsageError, match=r"generated columns of the table computed\.strange \(") as caught:
            source.plan_restore([spec for spec, _ in dump.values()], OTHER)
        assert "exclude_tables" in (caught.value.hint or "")
        assert not mariadb.query("SHOW DATABASES LIKE 'computed'")


@pytest.mark.server
def test_the_values_that_mariadb_dumps_for_them_are_known_to_be_refused(
    oracle_mysql: MySQLServer, mariadb: MySQLServer, source_of: MakeSource
) -> None:
    with mariadb.database("computed", CLAUSES) as name, ExitStack() as cleaning:
        cleaning.callback(oracle_mysql.drop, name)
        mariadb.execute("CREATE TABLE t (a INT, b VARCHAR(20) AS (concat(a, 'x')) VIRTUAL)", name)
        mariadb.execute("INSERT INTO t (a) VALUES (1)", name)
        dump = dump_all(source_of(mariadb, name))
        with pytest.raises(UsageError, match=r"the table computed\.t \(its dump has values for them"):
            restore_all(source_of(oracle_mysql, name), dump, other_engine="yes")
        assert not oracle_mysql.query("SHOW DATABASES LIKE 'computed'")
        dump = dump_all(source_of(mariadb, name, exclude_tables=["computed.t"]))
        restore_all(source_of(oracle_mysql, name), dump, other_engine="yes")
