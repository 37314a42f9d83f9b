"""A view that does not work costs itself, and a backup without it is no success unless that was accepted."""

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, restore_all
from tests.servers.mysql import MySQLServer

from penstock.api import Inspection
from penstock_mysql.source import MySQLSource

pytestmark = pytest.mark.server


def planned(source: MySQLSource) -> Inspection:
    with source.dump() as held:
        return held.plan.inspection


def test_a_broken_view_is_left_out_and_named_before_and_during_the_dump(
    mysql: MySQLServer, source_of: MakeSource
) -> None:
    with mysql.database("has.dot") as name, mysql.database("other") as other:
        mysql.execute("CREATE TABLE t AS SELECT 'there' AS what", name)
        mysql.execute("CREATE TABLE gone (i INT)", name)
        mysql.execute("CREATE VIEW v AS SELECT * FROM gone", name)
        mysql.execute("CREATE VIEW w AS SELECT * FROM t", name)
        source = source_of(mysql, name, other)
        assert planned(source).left_out == ()
        mysql.execute("DROP TABLE gone", name)
        (one,) = planned(source).left_out
        assert (one.kind, one.name, one.database, one.lost) == ("view", "v", name, True)
        assert "references invalid table" in one.reason
        assert source.inspect().left_out == (one,)
        (warning,) = [said for said in source.inspect().warnings if said.endswith("[broken-views]")]
        assert "exclude_tables" in warning
        dump = dump_all(source)
        assert restore_all(source, dump, clean=True).lost == []
        assert mysql.query("SELECT what FROM w", name) == [("there",)]


def test_one_that_is_excluded_or_accepted_is_no_failure(mysql: MySQLServer, source_of: MakeSource) -> None:
    with mysql.database("views") as name:
        mysql.execute("CREATE TABLE gone (i INT)", name)
        mysql.execute("CREATE VIEW v AS SELECT * FROM gone", name)
        mysql.execute("DROP TABLE gone", name)
        for settings in ({"exclude_tables": ["views.v"]}, {"warnings": {"ignore": ["broken-views"]}}):
            source = source_of(mysql, name, **settings)
            found = planned(source)
            assert found.left_out == ()
            assert not [said for said in found.warnings if "view" in said]
            assert b"`v`" not in dump_all(source)["db/views.sql"][1]
