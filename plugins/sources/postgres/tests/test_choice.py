import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from pydantic import ValidationError
from tests.servers.postgres import PostgresServer, PostgresServers
from tests.servers.streams import Dump, dump_all, read_all, restore_all

from penstock.api import RestoreFailed, RestoreTarget, SourceDenied, SourceError, TargetNotEmpty
from penstock_postgres.patterns import regular_expressions
from penstock_postgres.settings import PostgresSettings

CONTENTS = """
DROP ROLE IF EXISTS cho_clerk; DROP ROLE IF EXISTS cho_other; CREATE ROLE cho_clerk; CREATE ROLE cho_other LOGIN;
CREATE SCHEMA shop; CREATE SCHEMA "Arch.ive$"; CREATE SCHEMA audit AUTHORIZATION cho_other;
CREATE TABLE shop.orders AS SELECT i, 'order-' || i AS what FROM generate_series(1, 50) AS i;
CREATE TABLE shop.customers (id serial PRIMARY KEY, n integer GENERATED ALWAYS AS IDENTITY, name text);
INSERT INTO shop.customers (name) SELECT 'customer-' || i FROM generate_series(1, 20) AS i;
CREATE TABLE shop."Mixed Case" AS SELECT 1 AS i;
CREATE SEQUENCE shop.free; CREATE VIEW shop.overview AS SELECT count(*) FROM shop.orders;
CREATE MATERIALIZED VIEW shop.kept AS SELECT 1 AS i;
CREATE TABLE "Arch.ive$".orders AS SELECT 'old-' || i AS what FROM generate_series(1, 30) AS i;
CREATE TABLE audit.log AS SELECT 'logged-' || i AS what FROM generate_series(1, 40) AS i;
ALTER TABLE audit.log OWNER TO cho_other;
CREATE TABLE public.orders AS SELECT 1 AS i;
CREATE TABLE public.parted (i integer) PARTITION BY RANGE (i); CREATE TABLE public.part PARTITION OF parted DEFAULT;
GRANT SELECT ON shop.orders TO cho_clerk;
ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON shop.customers TO cho_clerk USING (true);
CREATE TABLE public.config (name text); CREATE TABLE public.of_extension (name text);
INSERT INTO public.config VALUES ('configured');
SELECT lo_from_bytea(5511, 'large');
ALTER DATABASE chosen SET search_path = shop, public;
"""


@pytest.fixture(scope="module")
def chosen(postgres_servers: PostgresServers) -> Iterator[tuple[PostgresServer, str]]:
    server = postgres_servers.newest()
    with server.database("chosen") as name:
        server.execute(CONTENTS, name)
        server.execute("CREATE EXTENSION citext; ALTER EXTENSION citext ADD TABLE of_extension", name)
        yield server, name
    server.execute("DROP ROLE cho_clerk; DROP ROLE cho_other")


def listed(server: PostgresServer, archive: bytes) -> set[tuple[str, str]]:
    """The relations in an archive, `TABLE` and so on with their qualified name, as pg_restore sees them."""
    assert server.bin is not None
    told = subprocess.run([server.bin / "pg_restore", "--list"], input=archive, capture_output=True, check=True).stdout
    kinds = "MATERIALIZED VIEW|TABLE|TABLE DATA|SEQUENCE"
    found = re.findall(
        rf"^\d+; \d+ \d+ ({kinds}) (?!DATA|ATTACH|SET|OWNED)(\S+) (.+) \S+$", told.decode(), re.MULTILINE
    )
    return {(kind, f"{schema}.{name}") for kind, schema, name in found}


def in_words(server: PostgresServer, archive: bytes) -> str:
    """The script that pg_restore makes of an archive."""
    assert server.bin is not None
    command = [str(server.bin / "pg_restore"), "--file=-"]
    return subprocess.run(command, input=archive, capture_output=True, check=True).stdout.decode()


def values_of(script: str) -> set[str]:
    """What a script sets sequences to, names without quotes."""
    calls = re.findall(r"^SELECT pg_catalog\.setval\('(.*)', (\d+), (true|false)\);$", script, re.MULTILINE)
    return {" ".join((name.replace('"', ""), value, called)) for name, value, called in calls}


CHOICES: list[dict[str, Any]] = [
    {"schemas": "shop"},
    {"schemas": ["sh?p", '"Arch.ive$"']},
    {"schemas": "s[a-h]op|audit"},
    {"schemas": "Shop"},
    {"exclude_schemas": ["Audit", '"Arch*"']},
    {"exclude_schemas": ["shop", "nothing"]},
    {"tables": "shop.*"},
    {"tables": "orders"},
    {"tables": ["public.orders", "*.log", 'shop."Mixed Case"']},
    {"tables": ["shop.customers"]},
    {"tables": ["shop.*"], "exclude_tables": ["shop.orders", "shop.kept"]},
    {"tables": "shop.free"},
    {"tables": "public.parted"},
    {"tables": '"Arch.ive$".*'},
    {"tables": "public.of_extension|orders"},
    {"exclude_tables": ["orders", "shop.customers_id_seq", "public.part"]},
    {"exclude_tables": ["shop.customers"], "schemas": "shop"},
    {"exclude_table_data": ["*.orders", "shop.kept"]},
    {"exclude_table_data": "audit.*", "schemas": ["audit", "shop"], "exclude_tables": "SHOP.ORDERS"},
]


@pytest.mark.server
@pytest.mark.parametrize("choice", CHOICES, ids=json.dumps)
def test_what_is_said_of_a_choice_is_what_pg_dump_makes_of_it(
    chosen: tuple[PostgresServer, str], source_of: MakeSource, choice: dict[str, Any]
) -> None:
    server, name = chosen
    source = source_of(server, name, accounts="no", **choice)
    with source.dump() as held:
        (spec,) = held.plan.streams
        archive = listed(server, read_all(held.open(spec)))
    kinds = {
        "table": "TABLE",
        "partition": "TABLE",
        "table without rows": "TABLE",
        "partitioned table": "TABLE",
        "materialized view": "MATERIALIZED VIEW",
    }
    told = {(kinds[item.kind], item.name) for item in held.plan.inspection.inventory if item.kind in kinds}
    rows = {("TABLE DATA", item.name) for item in held.plan.inspection.inventory if item.kind in ("table", "partition")}
    assert told == {one for one in archive if one[0] in ("TABLE", "MATERIALIZED VIEW")}
    assert rows == {one for one in archive if one[0] == "TABLE DATA"}
    (sequences,) = [item.rows for item in held.plan.inspection.inventory if item.kind == "sequences"]
    assert sequences == sum(kind == "SEQUENCE" for kind, _ in archive)
    # The manifest says that it is no complete backup.
    assert spec.attributes["choice"] in held.plan.consistency
    assert any("no complete backup of chosen" in warning for warning in held.plan.inspection.warnings)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=json.dumps)
def test_by_tables_it_is_the_same(
    chosen: tuple[PostgresServer, str], source_of: MakeSource, choice: dict[str, Any]
) -> None:
    server, name = chosen
    archive = dump_all(source_of(server, name, accounts="no", **choice))["chosen.dump"][1]
    parts = dump_all(source_of(server, name, accounts="no", layout="tables", **choice))
    rows = {("TABLE DATA", spec.name.removeprefix("data/")) for spec, _ in parts.values() if "table" in spec.attributes}
    rows = {(kind, unquote(title)) for kind, title in rows}
    assert listed(server, parts["schema.dump"][1]) | rows == listed(server, archive)
    assert values_of(parts["sequences.sql"][1].decode()) == values_of(in_words(server, archive))
    assert ("large-objects.dump" in parts) is (b"5511" in archive)


@pytest.mark.server
@pytest.mark.parametrize(
    "choice",
    [
        {"tables": "shop.nothing"},
        {"tables": ["shop.orders", "log"]},
        {"schemas": '"Shop"'},
        {"schemas": "*", "exclude_schemas": ["pg_*", "information_schema"]},
        {"tables": "*"},
        {"tables": "shop.(orders"},
    ],
    ids=json.dumps,
)
def test_a_pattern_that_matches_nothing_or_the_systems_own_is_an_error_before_the_dump(
    chosen: tuple[PostgresServer, str], source_of: MakeSource, choice: dict[str, Any]
) -> None:
    server, name = chosen
    with pytest.raises(SourceError, match=r"matches|regular expression"), source_of(server, name, **choice).dump():
        pass


@pytest.mark.server
def test_an_exclusion_that_matches_nothing_is_a_warning(
    chosen: tuple[PostgresServer, str], source_of: MakeSource
) -> None:
    found = source_of(*chosen, exclude_tables=["shop.gone"], exclude_table_data="shop.orders").inspect()
    assert "exclude_tables = shop.gone matches nothing in the database chosen [idle-pattern]" in found.warnings


@pytest.mark.server
def test_large_objects_follow_the_choice_unless_the_settings_say_otherwise(
    chosen: tuple[PostgresServer, str], source_of: MakeSource
) -> None:
    server, name = chosen
    for settings, there in (
        ({"exclude_schemas": "audit"}, True),
        ({"schemas": "shop"}, False),
        ({"schemas": "shop", "large_objects": "yes"}, True),
        ({"large_objects": False}, False),
    ):
        source = source_of(server, name, accounts="no", **settings)
        (spec, data) = dump_all(source)["chosen.dump"]
        found = source.inspect()
        assert (b"5511" in data) is there, settings
        assert any(item.kind == "large objects" for item in found.inventory) is there
        assert any("large objects are left out" in warning for warning in found.warnings) is not there
        assert "choice" in spec.attributes


@pytest.mark.server
def test_only_what_is_chosen_must_be_readable_and_only_its_roles_are_needed(
    chosen: tuple[PostgresServer, str], source_of: MakeSource
) -> None:
    server, name = chosen
    with pytest.raises(SourceDenied, match=r"shop\.orders"):
        source_of(server, name, user="cho_other", tables="shop.orders").inspect()
    weak = source_of(server, name, user="cho_other", schemas="audit", accounts="no")
    assert dump_all(weak)["chosen.dump"][0].attributes["roles"] == "cho_other"
    for settings, roles in (
        ({"tables": "shop.customers"}, "cho_clerk\npostgres"),
        ({"tables": "shop.free"}, "postgres"),
        ({"schemas": "shop"}, "cho_clerk\npostgres"),
        ({"exclude_tables": "shop.orders"}, "cho_clerk\ncho_other\npostgres"),
        ({}, "cho_clerk\ncho_other\npostgres"),
    ):
        with source_of(server, name, accounts="no", **settings).dump() as held:
            attributes = held.plan.streams[0].attributes
            needed = {*attributes["roles"].split("\n"), *json.loads(attributes["policy_roles"])}
            assert "\n".join(sorted(needed)) == roles, settings


@pytest.mark.server
class TestRestore:
    @pytest.fixture
    def tables(self, chosen: tuple[PostgresServer, str], source_of: MakeSource) -> Dump:
        return dump_all(source_of(*chosen, tables=["shop.orders", "shop.customers"]))

    def test_chosen_tables_go_into_a_database_that_holds_others(
        self, newest_postgres: PostgresServer, source_of: MakeSource, tables: Dump
    ) -> None:
        server = newest_postgres
        with server.database("others") as name:
            server.execute("CREATE SCHEMA shop; CREATE TABLE shop.mine AS SELECT 1 AS i", name)
            source = source_of(server, name)
            restore_all(source, tables)
            assert server.query("SELECT count(*) FROM shop.orders", name) == [(50,)]
            with pytest.raises(TargetNotEmpty, match=r"shop\.customers"):
                restore_all(source, tables)
            # A clean restore replaces what was chosen, and never the database as a whole.
            server.execute("UPDATE shop.orders SET what = 'changed'", name)
            restore_all(source, tables, RestoreTarget(clean=True))
            assert server.query("SELECT count(*) FROM shop.orders WHERE what LIKE 'order-%'", name) == [(50,)]
            assert server.query("SELECT i FROM shop.mine", name) == [(1,)]

    def test_chosen_tables_bring_their_schemas_into_an_empty_or_new_database(
        self, newest_postgres: PostgresServer, source_of: MakeSource, tables: Dump
    ) -> None:
        server = newest_postgres
        spec, data = tables["chosen.dump"]
        with server.database("fresh_choice") as name:
            with pytest.raises(RestoreFailed):
                restore_all(source_of(server, name), [(spec, data[:-5000])])
            assert not server.query("SELECT FROM pg_namespace WHERE nspname = 'shop'", name)
            restore_all(source_of(server, name), tables)
            server.drop(name)
            restore_all(source_of(server, name), tables)
            assert server.query("SELECT max(n) FROM shop.customers", name) == [(20,)]

    def test_a_chosen_schema_that_is_there_is_in_the_way(
        self, newest_postgres: PostgresServer, chosen: tuple[PostgresServer, str], source_of: MakeSource
    ) -> None:
        dump = dump_all(source_of(*chosen, schemas="audit"))
        with newest_postgres.database("schematic") as name:
            newest_postgres.execute("CREATE SCHEMA audit", name)
            with pytest.raises(TargetNotEmpty, match="1 schema"):
                restore_all(source_of(newest_postgres, name), dump)
            newest_postgres.execute("DROP SCHEMA audit; CREATE TABLE other AS SELECT 1 AS i", name)
            restore_all(source_of(newest_postgres, name), dump)
            assert newest_postgres.query("SELECT count(*) FROM audit.log", name) == [(40,)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tables": "a.b.c.d"},
        {"schemas": "a.b"},
        {"tables": "a", "schemas": "b"},
        {"tables": "a", "exclude_schemas": "b"},
        {"databases": "all", "tables": "a"},
        {"exclude_databases": "a"},
        {"tables": ""},
    ],
    ids=json.dumps,
)
def test_choices_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PostgresSettings.model_validate(wrong)


@pytest.mark.parametrize(
    ("pattern", "expressions"),
    [
        ("shop.*", ("^(shop)$", "^(.*)$")),
        ("Shop.ORD?rs", ("^(shop)$", "^(ord.rs)$")),
        ('"a.b"."C""d*"', (r"^(a\.b)$", r'^(C"d\*)$')),
        ("cash$", (r"^(cash\$)$",)),
        ("log_[0-9]+", ("^(log_[0-9]+)$",)),
        ("int[]", (r"^(int\[])$",)),
        ("GrÜße", ("^(grÜße)$",)),
    ],
)
def test_patterns_are_read_as_pg_dump_does(pattern: str, expressions: tuple[str, ...]) -> None:
    assert regular_expressions(pattern, 2) == expressions
