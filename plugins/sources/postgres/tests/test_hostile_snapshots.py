"""Whoever could write a snapshot chose what its manifest says of the streams: it never becomes SQL of another shape."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer
from tests.servers.streams import Dump, blocks_of, dump_all, restore_all

from penstock.api import RestoreFailed, RestoreTarget, StreamSpec, UsageError
from penstock.testing.dumping import restore_one

pytestmark = pytest.mark.server

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def small(newest_postgres: PostgresServer, source_of: MakeSource) -> Dump:
    with newest_postgres.database("small") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT 1 AS i", name)
        newest_postgres.execute(
            f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {name} TO PUBLIC; COMMENT ON DATABASE {name} IS 'it''s';"
            f"ALTER DATABASE {name} SET my_own.setting TO 'a''b'; ALTER DATABASE {name} SET search_path TO a, \"B c\";"
            f"ALTER DATABASE {name} CONNECTION LIMIT 7"
        )
        return dump_all(source_of(newest_postgres, name))


def grant(privilege: object) -> Change:
    return lambda recorded: recorded.update(grants=[[None, privilege, False]])


def said(**values: object) -> Change:
    return lambda recorded: recorded.update(values)


PROPERTIES: list[tuple[str, Change]] = [
    ("grants", grant("ALL ON DATABASE small TO PUBLIC; DROP DATABASE victim; --")),
    ("grants", grant("connect")),
    ("grants", grant(["CONNECT"])),
    ("grants", said(grants={"role": "CONNECT"})),
    ("grants", said(grants=[[1, "CONNECT", False]])),
    ("grants", said(grants=[["a\0b", "CONNECT", False]])),
    ("grants", said(grants=[[None, "CONNECT", "yes"]])),
    ("collate", said(collate="C' TEMPLATE victim; DROP DATABASE victim; --")),
    ("ctype", said(ctype=["C"])),
    ("encoding", said(encoding="UTF8' TEMPLATE victim --")),
    ("encoding", said(encoding=["UTF8"])),
    ("provider", said(provider="libc TEMPLATE victim")),
    ("locale", said(provider="i", locale="x'; DROP DATABASE victim; --")),
    ("properties", said(provider="i", locale=None)),
    ("connection_limit", said(connection_limit="7; DROP DATABASE victim")),
    ("connection_limit", said(connection_limit=True)),
    ("connection_limit", said(connection_limit=1 << 40)),
    ("settings", said(settings=[[None, ['a" TO 1; DROP DATABASE victim; --=1']]])),
    ("settings", said(settings=[[None, ["without a value"]]])),
    ("settings", said(settings=[[None, "a=b"]])),
    ("settings", said(settings={"a": "b"})),
    ("owner", said(owner=None)),
    ("template", said(template="true; DROP DATABASE victim")),
    ("comment", said(comment=["IS NULL"])),
    ("properties", lambda recorded: recorded.pop("owner")),
]
ATTRIBUTES: list[tuple[str, dict[str, str]]] = [
    ("properties", {"properties": "[]"}),
    ("properties", {"properties": "not json"}),
    ("properties", {"properties": "[" * 100_000}),
    ("database", {"database": "victim\0"}),
    ("client_version", {"client_version": "9" * 5000}),
    ("server_version", {"server_version": "9" * 5000}),
    ("objects", {"objects": "many"}),
    ("relations", {"relations": '[["public"]]'}),
    ("relations", {"relations": '{"public": "t"}'}),
    ("needs_schemas", {"needs_schemas": '"public"'}),
    ("makes_schemas", {"makes_schemas": "[1]"}),
    ("roles", {"roles": "a\0b"}),
]


def changed(spec: StreamSpec, change: Change) -> StreamSpec:
    recorded = json.loads(spec.attributes["properties"])
    change(recorded)
    return replace(spec, attributes=dict(spec.attributes) | {"properties": json.dumps(recorded)})


def databases(server: PostgresServer) -> list[tuple[Any, ...]]:
    return server.query("SELECT datname, datacl::text FROM pg_database ORDER BY 1")


def test_hostile_attributes_are_refused_before_and_during_the_restore(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    spec, data = small["small.dump"]
    hostile = [(name, changed(spec, change)) for name, change in PROPERTIES]
    hostile += [(name, replace(spec, attributes=dict(spec.attributes) | wrong)) for name, wrong in ATTRIBUTES]
    target = RestoreTarget()
    with newest_postgres.database("victim"):
        before = databases(newest_postgres)
        for name, one in hostile:
            source = source_of(newest_postgres, "fresh")
            with pytest.raises(RestoreFailed, match=rf"^small.dump cannot be restored: .*{name}|^small.dump.*libc"):
                source.plan_restore([one], target)
            with pytest.raises(RestoreFailed, match=r"^small\.dump cannot be restored"):  # as if nobody had asked
                restore_one(source, one, blocks_of(data), target)
        assert databases(newest_postgres) == before


def test_a_stream_without_what_a_dump_records_and_one_of_another_engine_are_refused(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    spec, _ = small["small.dump"]
    accounts, _ = small["accounts.sql"]
    less = {name: value for name, value in spec.attributes.items() if name != "properties"}
    source = source_of(newest_postgres, "fresh")
    with pytest.raises(RestoreFailed, match="an unusable properties"):
        source.plan_restore([replace(spec, attributes=less)], RestoreTarget())
    with pytest.raises(RestoreFailed, match="an unusable database"):
        source.plan_restore([replace(accounts, attributes={})], RestoreTarget())
    with pytest.raises(UsageError, match="has the format mysqldump"):
        source.plan_restore([replace(spec, format="mysqldump")], RestoreTarget())


def test_quotes_in_what_may_have_them_come_back_as_they_were(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    query = (
        "SELECT datconnlimit, shobj_description(oid, 'pg_database'), datacl::text, "
        "(SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = oid) FROM pg_database WHERE datname = 'fresh'"
    )
    newest_postgres.drop("fresh")
    try:
        restore_all(source_of(newest_postgres, "fresh"), {"small.dump": small["small.dump"]})
        ((limit, comment, granted, settings),) = newest_postgres.query(query)
        assert (limit, comment) == (7, "it's")
        assert "=CTc" in granted
        assert settings == ["my_own.setting=a'b", 'search_path=a, "B c"']
    finally:
        newest_postgres.drop("fresh")
