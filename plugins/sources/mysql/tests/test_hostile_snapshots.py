"""Whoever could write a snapshot chose what its manifest says of the streams: it never becomes SQL of another shape."""

from dataclasses import replace

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, blocks_of, dump_all
from tests.servers.mysql import MySQLServer

from penstock.api import RestoreFailed, RestoreTarget, UsageError
from penstock.testing.dumping import restore_one

pytestmark = pytest.mark.server

HOSTILE = [
    {"collation": "utf8mb4_bin' COMMENT '"},
    {"collation": "utf8mb4_bin; DROP DATABASE victim"},
    {"collation": ""},
    {"character_set": "utf8mb4 COLLATE utf8mb4_bin; DROP DATABASE victim; --"},
    {"character_set": "utf8mb4\n"},
    {"collations": "utf8mb4_bin\nx'; DROP DATABASE victim"},
    {"comment": "a\0b"},
    {"database": "victim\0"},
    {"database": ""},
    {"server_version": "Oracle 23"},
    {"server_version": "MySQL " + "9" * 5000},
    {"client_version": "x"},
    {"contents": "{"},
    {"contents": '{"programs": [["view", "v"]]}'},
    {"contents": '{"clashes": ["a\\u0000"]}'},
]


def test_hostile_attributes_are_refused_before_and_during_the_restore(
    mysql: MySQLServer, source_of: MakeSource
) -> None:
    with mysql.database("small") as name, mysql.database("victim"):
        mysql.execute("CREATE TABLE t AS SELECT 1 AS i", name)
        spec, data = dump_all(source_of(mysql, name))["db/small.sql"]
        before = mysql.query("SHOW DATABASES")
        source = source_of(mysql, "fresh")
        for wrong in HOSTILE:
            one = replace(spec, attributes=dict(spec.attributes) | wrong)
            with pytest.raises(RestoreFailed, match=f"^db/small.sql cannot be .* an unusable {next(iter(wrong))}"):
                source.plan_restore([one], RestoreTarget())
            with pytest.raises(RestoreFailed, match=r"^db/small\.sql cannot be"):  # as if nobody had asked
                restore_one(source, one, blocks_of(data), RestoreTarget())
        less = {name: value for name, value in spec.attributes.items() if name != "database"}
        with pytest.raises(RestoreFailed, match="an unusable database"):
            source.plan_restore([replace(spec, attributes=less)], RestoreTarget())
        with pytest.raises(UsageError, match="has the format pg_dump-custom"):
            source.plan_restore([replace(spec, format="pg_dump-custom")], RestoreTarget())
        assert mysql.query("SHOW DATABASES") == before


@pytest.mark.parametrize("name", ["mysql", "SYS", "information_schema"])
def test_no_snapshot_is_restored_into_the_servers_own_databases(
    mysql: MySQLServer, source_of: MakeSource, name: str
) -> None:
    with mysql.database("small") as small:
        spec, data = dump_all(source_of(mysql, small))["db/small.sql"]
        one = replace(spec, attributes=dict(spec.attributes) | {"database": name})
        for clean in (False, True):
            with pytest.raises(UsageError, match="it is a system database"):
                source_of(mysql).plan_restore([one], RestoreTarget(clean=clean))
            with pytest.raises(UsageError, match="it is a system database"):
                restore_one(source_of(mysql), one, blocks_of(data), RestoreTarget(clean=clean))
        assert mysql.query("SELECT COUNT(*) > 0 FROM mysql.user") == [(1,)]
