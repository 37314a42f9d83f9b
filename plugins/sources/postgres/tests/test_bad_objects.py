"""One bad object costs itself: what a plain restore brings back comes back, and the rest is named."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer, PostgresServers
from tests.servers.streams import Dump, dump_all, restore_all

from penstock.api import RestoreFailed, RestoreTarget, SourceDenied
from penstock.testing.hearing import Heard
from penstock_postgres.source import PostgresSource

pytestmark = pytest.mark.server

CLEAN = RestoreTarget(clean=True)


def listening(source: PostgresSource) -> Heard:
    source.report = said = Heard()
    return said


def named(said: Heard) -> set[tuple[str, str]]:
    return {(one.kind, one.name) for one in said.lost}


@pytest.fixture
def copy(newest_postgres: PostgresServer) -> Iterator[str]:
    """The name of a database that the restore makes."""
    newest_postgres.drop("copy")
    yield "copy"
    newest_postgres.drop("copy")


#: Functions whose names mean nothing without a search path, and what calls them.
UNQUALIFIED = """
CREATE TABLE t (i integer, x text);
INSERT INTO t SELECT i, i::text FROM generate_series(1, 100) AS i;
CREATE FUNCTION inner_one(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION outer_one(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN public.inner_one($1); END';
CREATE INDEX broken ON t (outer_one(i));
CREATE INDEX whole ON t (i);
CREATE MATERIALIZED VIEW m AS SELECT outer_one(i) AS o FROM t;
CREATE VIEW after_it AS SELECT * FROM t;
CREATE OR REPLACE FUNCTION outer_one(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN inner_one($1); END';
"""


class TestFunctionsWithUnqualifiedNames:
    def test_everything_but_what_calls_them_is_restored(
        self, newest_postgres: PostgresServer, source_of: MakeSource, copy: str
    ) -> None:
        server = newest_postgres
        with server.database("unqualified") as name:
            server.execute(UNQUALIFIED, name)
            dump = dump_all(source_of(server, name, accounts="no"))
        source = source_of(server, copy)
        said = listening(source)
        restore_all(source, dump)
        assert named(said) == {("index", "public.broken"), ("rows of the materialized view", "public.m")}
        assert server.query("SELECT count(*), max(i) FROM after_it", copy) == [(100, 100)]
        assert server.query("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'", copy) == [("whole",)]
        # The statements do it, once the reason is gone.
        server.execute("ALTER FUNCTION outer_one(integer) SET search_path = public", copy)
        for one in said.lost:
            server.execute(one.statement, copy)
        assert server.query("SELECT count(*) FROM m", copy) == [(100,)]
        assert len(server.query("SELECT FROM pg_indexes WHERE schemaname = 'public'", copy)) == 2

    def test_into_a_database_that_is_there(self, newest_postgres: PostgresServer, source_of: MakeSource) -> None:
        server = newest_postgres
        with server.database("unqualified") as name, server.database("there") as there:
            server.execute(UNQUALIFIED, name)
            source = source_of(server, there)
            said = listening(source)
            restore_all(source, dump_all(source_of(server, name, accounts="no")))
            assert named(said) == {("index", "public.broken"), ("rows of the materialized view", "public.m")}
            assert server.query("SELECT count(*) FROM after_it", there) == [(100,)]

    def test_strictly_nothing_is_restored(
        self, newest_postgres: PostgresServer, source_of: MakeSource, copy: str
    ) -> None:
        server = newest_postgres
        with server.database("unqualified") as name, server.database("there") as there:
            server.execute(UNQUALIFIED, name)
            dump = dump_all(source_of(server, name, accounts="no"))
            for target in (there, copy):
                with pytest.raises(RestoreFailed, match=r"index public\.broken.*inner_one"):
                    restore_all(source_of(server, target), dump, RestoreTarget(strict=True))
            assert not server.query("SELECT FROM pg_tables WHERE schemaname = 'public'", there)
            assert not server.query("SELECT FROM pg_database WHERE datname = 'copy'")


def test_rows_that_a_check_refuses_cost_their_table_and_keep_the_old_database(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    server = newest_postgres
    with server.database("checked") as name:
        server.execute(
            "CREATE TABLE good AS SELECT 1 AS i; CREATE TABLE allowed AS SELECT 5 AS i;"
            "CREATE FUNCTION ok(integer) RETURNS boolean LANGUAGE sql AS "
            "'SELECT EXISTS (SELECT FROM allowed WHERE i = $1)';"
            "CREATE TABLE bad (i integer CHECK (ok(i))); INSERT INTO bad VALUES (5)",
            name,
        )
        dump = dump_all(source_of(server, name, accounts="no"))
        source = source_of(server, name)
        said = listening(source)
        restore_all(source, dump, CLEAN)
        assert named(said) == {("rows of the table", "public.bad")}
        assert server.query("SELECT (SELECT i FROM good), (SELECT count(*) FROM bad)", name) == [(1, 0)]
        (kept,) = [found for (found,) in server.query("SELECT datname FROM pg_database WHERE datname ~ 'checked_'")]
        assert any(kept in warning for warning in said.warnings)
        assert server.query("SELECT i FROM bad", kept) == [(5,)]
        server.drop(kept)


def test_rows_of_a_table_that_could_not_be_made_go_into_no_other_of_its_name(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    server = newest_postgres
    with server.database("kept_table") as name:
        server.execute("CREATE TABLE t AS SELECT 1 AS i; CREATE TABLE u AS SELECT 2 AS i", name)
        dump = dump_all(source_of(server, name, accounts="no"))
        server.execute("UPDATE t SET i = 10; UPDATE u SET i = 20; CREATE VIEW on_it AS SELECT * FROM t", name)
        source = source_of(server, name)
        said = listening(source)
        restore_all(source, dump, RestoreTarget(clean=True, options={"beside": "no"}))
        assert named(said) == {("table", "public.t"), ("rows of the table", "public.t")}
        assert server.query("SELECT (SELECT array_agg(i) FROM t), (SELECT array_agg(i) FROM u)", name) == [([10], [2])]


def test_where_no_table_can_be_made_the_restore_fails(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    server = newest_postgres
    server.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
    with server.database("closed") as there, server.database("whole") as name:
        server.execute("CREATE TABLE t AS SELECT 1 AS i; CREATE VIEW v AS SELECT * FROM t", name)
        dump = dump_all(source_of(server, name, accounts="no"))
        guest = source_of(server, there, user="guest")
        with pytest.raises(RestoreFailed, match="permission denied for schema public") as caught:
            restore_all(guest, dump, RestoreTarget(options={"owners": "no"}))
        assert "superuser" in (caught.value.hint or "")
    server.execute("DROP ROLE guest")


class TestChosenSchemas:
    def test_public_alone_comes_back_into_a_new_database_and_over_the_old_one(
        self, postgres: PostgresServer, source_of: MakeSource
    ) -> None:
        server = postgres
        server.drop("public_copy")
        with server.database("public_only") as name:
            server.execute("CREATE EXTENSION citext; CREATE TABLE t (c citext); INSERT INTO t VALUES ('a')", name)
            dump = dump_all(source_of(server, name, accounts="no", schemas="public"))
            server.execute("CREATE DATABASE public_copy")
            server.execute("CREATE EXTENSION citext", "public_copy")
            for _ in range(2):
                source = source_of(server, "public_copy")
                said = listening(source)
                restore_all(source, dump, CLEAN)
                assert not said.lost
                assert server.query("SELECT c::text FROM t", "public_copy") == [("a",)]
            server.drop("public_copy")
            # Without what its columns need, the table cannot be made.
            with pytest.raises(RestoreFailed, match=r'type "public.citext" does not exist'):
                restore_all(source_of(server, "public_copy"), dump)
            assert not server.query("SELECT FROM pg_database WHERE datname = 'public_copy'")
            server.execute("ALTER TABLE t ALTER COLUMN c TYPE text; DROP EXTENSION citext", name)
            restore_all(source_of(server, "public_copy"), dump_all(source_of(server, name, schemas="public")))
            assert server.query("SELECT c FROM t", "public_copy") == [("a",)]
        server.drop("public_copy")


def test_a_newer_clients_settings_are_no_obstacle_for_an_older_server(
    postgres_servers: PostgresServers, newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    server = postgres_servers.get(15)
    server.drop("again")
    with server.database("old") as name:
        server.execute("CREATE TABLE t AS SELECT 7 AS i", name)
        dump = dump_all(source_of(server, name, client_path=newest_postgres.bin))
        source = source_of(server, "again", client_path=newest_postgres.bin)
        said = listening(source)
        restore_all(source, dump)
        assert not said.lost
        assert server.query("SELECT i FROM t", "again") == [(7,)]
    server.drop("again")


@pytest.mark.parametrize("there", [False, True])
def test_what_an_older_server_does_not_even_understand_costs_itself(
    postgres_servers: PostgresServers, source_of: MakeSource, there: bool
) -> None:
    old, new = postgres_servers.get(14), postgres_servers.get(16)
    old.drop("older")
    with new.database("newer") as name:
        new.execute(
            """
            CREATE TABLE t (i integer UNIQUE NULLS NOT DISTINCT, x text);
            CREATE VIEW v WITH (security_invoker) AS SELECT 1 AS one;
            CREATE VIEW w AS SELECT i FROM t;
            INSERT INTO t VALUES (1, 'one'), (NULL, 'none');
            """,
            name,
        )
        dump = dump_all(source_of(new, name))
        if there:
            old.execute("CREATE DATABASE older")
        source = source_of(old, "older", client_path=new.bin)
        said = listening(source)
        restore_all(source, dump, RestoreTarget(options={"older_server": "yes"}))
        refused = {("constraint", "public.t t_i_key"), ("view", "public.v"), ("owner of the view", "public.v")}
        assert named(said) == refused
        assert old.query("SELECT x FROM t ORDER BY i", "older") == [("one",), ("none",)]
        assert old.query("SELECT count(*) FROM w", "older") == [(2,)]
    old.drop("older")


class TestOwnersWithoutSuperuser:
    @pytest.fixture
    def owner(self, newest_postgres: PostgresServer) -> Iterator[str]:
        newest_postgres.execute("DROP ROLE IF EXISTS tenant; CREATE ROLE tenant LOGIN CREATEDB")
        yield "tenant"
        newest_postgres.execute("DROP OWNED BY tenant; DROP ROLE tenant")

    @pytest.mark.parametrize("clean", [False, True])
    def test_extensions_of_the_provider_stay_and_everything_else_comes(
        self, newest_postgres: PostgresServer, source_of: MakeSource, owner: str, clean: bool
    ) -> None:
        server = newest_postgres
        with server.database("managed", f" OWNER {owner}") as name, server.database("next", f" OWNER {owner}") as there:
            for one in (name, there):
                server.execute("CREATE EXTENSION file_fdw; CREATE EXTENSION pg_stat_statements", one)
            with server.connect(name, user=owner) as connection:
                connection.execute("CREATE TABLE t AS SELECT 3 AS i")
            dump = dump_all(source_of(server, name, accounts="no", user=owner))
            source = source_of(server, there, user=owner)
            said = listening(source)
            restore_all(source, dump, RestoreTarget(clean=clean, options={"beside": "no"}))
            assert not said.lost
            assert server.query("SELECT i FROM t", there) == [(3,)]
            assert server.query("SELECT count(*) FROM pg_extension WHERE extname ~ 'fdw|stat'", there) == [(2,)]

    def test_an_extension_that_only_a_superuser_may_make_is_known_before_and_named(
        self, newest_postgres: PostgresServer, source_of: MakeSource, owner: str, copy: str
    ) -> None:
        server = newest_postgres
        with server.database("managed", f" OWNER {owner}") as name:
            server.execute("CREATE EXTENSION pg_stat_statements", name)
            with server.connect(name, user=owner) as connection:
                connection.execute("CREATE TABLE t AS SELECT 3 AS i")
            dump = dump_all(source_of(server, name, accounts="no", user=owner))
        source = source_of(server, copy, user=owner)
        said = listening(source)
        plan = source.plan_restore([spec for spec, _ in dump.values()], RestoreTarget())
        (need,) = [need for need in plan.needs if need.name == "pg_stat_statements"]
        assert (need.kind, need.met) == ("extension", False)
        assert any("pg_stat_statements" in warning and "superuser" in warning for warning in plan.warnings)
        restore_all(source, dump)
        assert ("extension", "pg_stat_statements") in named(said)
        assert server.query("SELECT i FROM t", copy) == [(3,)]

    def test_what_belongs_to_others_is_restored_and_its_owner_named(
        self, newest_postgres: PostgresServer, source_of: MakeSource, owner: str, copy: str
    ) -> None:
        server = newest_postgres
        server.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger")
        with server.database("mixed") as name:
            server.execute(
                "CREATE TABLE t AS SELECT 3 AS i; ALTER TABLE t OWNER TO stranger; "
                "ALTER DATABASE mixed OWNER TO tenant; GRANT SELECT ON t TO tenant",
                name,
            )
            dump = dump_all(source_of(server, name, accounts="no"))
        source = source_of(server, copy, user=owner)
        said = listening(source)
        plan = source.plan_restore([spec for spec, _ in dump.values()], RestoreTarget())
        assert [(need.name, need.met) for need in plan.needs if need.kind == "role"] == [
            ("stranger", False), ("tenant", True)
        ]  # fmt: skip
        restore_all(source, dump)
        assert named(said) == {("owner of the table", "public.t")}
        assert said.lost[0].statement == "ALTER TABLE public.t OWNER TO stranger;"
        assert server.query("SELECT tableowner FROM pg_tables WHERE tablename = 't'", copy) == [("tenant",)]
        server.drop(copy)
        server.execute("DROP ROLE stranger")


class TestRolesOfPoliciesAndMappings:
    @pytest.fixture
    def dump(self, newest_postgres: PostgresServer, source_of: MakeSource) -> Iterator[Dump]:
        server = newest_postgres
        server.execute("DROP ROLE IF EXISTS api; CREATE ROLE api")
        with server.database("policed") as name:
            server.execute(
                "CREATE TABLE t AS SELECT 3 AS i; ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
                "CREATE POLICY p ON t TO api USING (true);"
                "CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER far FOREIGN DATA WRAPPER wrapper;"
                "CREATE USER MAPPING FOR api SERVER far OPTIONS (user 'u', password 'hunter2-mapped')",
                name,
            )
            yield dump_all(source_of(server, name, accounts="no"))

    def test_a_target_without_them_is_refused_before_anything_is_written(
        self, newest_postgres: PostgresServer, source_of: MakeSource, dump: Dump, copy: str
    ) -> None:
        newest_postgres.drop("policed")
        newest_postgres.execute("DROP ROLE api")
        specs = [spec for spec, _ in dump.values()]
        with pytest.raises(SourceDenied, match="api") as caught:
            source_of(newest_postgres, copy).plan_restore(
                specs, RestoreTarget(options={"owners": "no", "privileges": "no"})
            )
        assert "policies=no" in (caught.value.hint or "")

    def test_without_policies_the_rest_comes_and_the_mapping_is_named_without_its_password(
        self, newest_postgres: PostgresServer, source_of: MakeSource, dump: Dump, copy: str
    ) -> None:
        server = newest_postgres
        server.drop("policed")
        server.execute("DROP ROLE api")
        source = source_of(server, copy)
        said = listening(source)
        options = {"owners": "no", "privileges": "no", "policies": "no"}
        restore_all(source, dump, RestoreTarget(options=options))
        assert named(said) == {("user mapping", "USER MAPPING api SERVER far")}
        (one,) = said.lost
        assert one.secret
        assert "hunter2-mapped" in one.statement
        assert "hunter2-mapped" not in f"{one} {one!r}"
        assert server.query("SELECT i FROM t", copy) == [(3,)]


@pytest.fixture
def extensions() -> Iterator[Path]:
    """A folder that a server looks for extensions in."""
    with TemporaryDirectory(prefix="extensions-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_rows_of_an_extensions_configuration_are_merged_with_those_that_it_makes(
    postgres_servers: PostgresServers, source_of: MakeSource, extensions: Path
) -> None:
    (extensions / "extension").mkdir()
    (extensions / "extension/places.control").write_text("default_version = '1'\n", encoding="utf-8")
    (extensions / "extension/places--1.sql").write_text(
        "CREATE TABLE place (id integer PRIMARY KEY, name text);"
        "CREATE TABLE kind (name text);"
        "INSERT INTO place VALUES (1, 'here'), (2, 'there'); INSERT INTO kind VALUES ('near');"
        "SELECT pg_extension_config_dump('place', ''); SELECT pg_extension_config_dump('kind', '');",
        encoding="utf-8",
    )
    server = postgres_servers.private(settings=(f"extension_control_path={extensions}:$system",))
    server.drop("again")
    with server.database("placed") as name:
        server.execute("CREATE EXTENSION places", name)
        server.execute(
            "UPDATE place SET name = 'there, renamed' WHERE id = 2; INSERT INTO place VALUES (3, 'beyond');"
            "INSERT INTO kind VALUES ('far')",
            name,
        )
        dump = dump_all(source_of(server, name, accounts="no"))
    source = source_of(server, "again")
    said = listening(source)
    restore_all(source, dump)
    rows = "SELECT id, name FROM place ORDER BY id"
    assert server.query(rows, "again") == [(1, "here"), (2, "there"), (3, "beyond")]
    assert server.query("SELECT name FROM kind ORDER BY name", "again") == [("far",), ("near",)]
    assert [(one.kind, one.name) for one in said.lost] == [("rows of the table", "public.place")]
    (one,) = said.lost
    assert "1 of them collides" in one.reason
    server.execute(f"DELETE FROM place WHERE id = 2; {one.statement}", "again")
    assert server.query(rows, "again") == [(1, "here"), (2, "there, renamed"), (3, "beyond")]
    server.drop("again")


class TestPropertiesComeLast:
    def test_a_database_that_sets_a_role_is_restored(
        self, newest_postgres: PostgresServer, source_of: MakeSource, copy: str
    ) -> None:
        server = newest_postgres
        server.execute("DROP ROLE IF EXISTS grp; CREATE ROLE grp")
        with server.database("roled") as name:
            server.execute("CREATE TABLE t AS SELECT 3 AS i; GRANT SELECT ON t TO grp", name)
            server.execute("ALTER DATABASE roled SET role = 'grp'")
            dump = dump_all(source_of(server, name, accounts="no"))
            for target in (RestoreTarget(), CLEAN, RestoreTarget(clean=True, options={"beside": "no"})):
                source = source_of(server, copy)
                said = listening(source)
                restore_all(source, dump, target)
                assert not said.lost
            assert server.query("SELECT i FROM t", copy) == [(3,)]
            assert server.query("SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase "
                                "WHERE datname = 'copy'") == [(["role=grp"],)]  # fmt: skip
        server.drop(copy)
        server.execute("DROP ROLE grp")

    def test_what_only_a_superuser_may_set_is_named(
        self, newest_postgres: PostgresServer, source_of: MakeSource, copy: str
    ) -> None:
        server = newest_postgres
        server.execute("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN CREATEDB")
        with server.database("logged", " OWNER plain") as name:
            server.execute(
                "ALTER DATABASE logged SET log_statement = 'all'; ALTER DATABASE logged SET work_mem = '9MB'"
            )
            with server.connect(name, user="plain") as connection:
                connection.execute("CREATE TABLE t AS SELECT 3 AS i")
            dump = dump_all(source_of(server, name, accounts="no", user="plain"))
        source = source_of(server, copy, user="plain")
        said = listening(source)
        restore_all(source, dump)
        assert named(said) == {("setting log_statement of the database", "copy")}
        assert server.query("SHOW work_mem", copy) == [("9MB",)]
        server.drop(copy)
        server.execute("DROP ROLE plain")

    def test_without_those_of_the_dump_a_replaced_database_keeps_its_own(
        self, newest_postgres: PostgresServer, source_of: MakeSource
    ) -> None:
        server = newest_postgres
        with server.database("kept") as name:
            server.execute("CREATE TABLE t AS SELECT 3 AS i", name)
            dump = dump_all(source_of(server, name, accounts="no"))
            server.execute("ALTER DATABASE kept SET work_mem = '7MB'; COMMENT ON DATABASE kept IS 'mine'")
            restore_all(source_of(server, name), dump, RestoreTarget(clean=True, options={"properties": "no"}))
            assert server.query("SHOW work_mem", name) == [("7MB",)]
            comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'kept'"
            assert server.query(comment) == [("mine",)]


def test_where_no_other_database_lets_the_owner_in_the_content_is_replaced(
    postgres_servers: PostgresServers, source_of: MakeSource
) -> None:
    server = postgres_servers.private()
    server.execute("CREATE ROLE confined LOGIN CREATEDB; REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
    try:
        with server.database("cell", " OWNER confined") as name:
            with server.connect(name, user="confined") as connection:
                connection.execute("CREATE TABLE t AS SELECT 3 AS i")
            dump = dump_all(source_of(server, name, accounts="no", user="confined"))
            server.execute("UPDATE t SET i = 4", name)
            restore_all(source_of(server, name, user="confined"), dump, CLEAN)
            assert server.query("SELECT i FROM t", name) == [(3,)]
    finally:
        server.execute("GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC; DROP ROLE confined")


def test_the_lock_timeout_holds_in_a_restore_too(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    server = newest_postgres
    with server.database("busy") as name:
        server.execute("CREATE TABLE t AS SELECT 3 AS i", name)
        dump = dump_all(source_of(server, name, accounts="no"))
        with server.connect(name, autocommit=False) as reader:
            reader.execute("SELECT * FROM t")
            source = source_of(server, name, lock_timeout=0.5)
            with pytest.raises(RestoreFailed, match="lock timeout") as caught:
                restore_all(source, dump, RestoreTarget(clean=True, options={"beside": "no"}))
            assert "lock_timeout" in (caught.value.hint or "")
        assert server.query("SELECT i FROM t", name) == [(3,)]


class TestSessionsInTheWay:
    def test_one_that_the_role_may_not_end_is_seen_before_and_waited_for(
        self, newest_postgres: PostgresServer, source_of: MakeSource
    ) -> None:
        server = newest_postgres
        server.execute("DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN CREATEDB")
        with server.database("occupied", " OWNER modest") as name:
            with server.connect(name, user="modest") as connection:
                connection.execute("CREATE TABLE t AS SELECT 3 AS i")
            dump = dump_all(source_of(server, name, accounts="no", user="modest"))
            source = source_of(server, name, user="modest")
            said = listening(source)
            occupant = server.connect(name, application_name="report")
            plan = source.plan_restore([spec for spec, _ in dump.values()], CLEAN)
            (need,) = [need for need in plan.needs if need.kind == "session"]
            assert need.met is False
            assert "postgres (report)" in need.name

            def leave() -> None:
                while not any("waiting" in warning for warning in said.warnings):
                    time.sleep(0.05)
                occupant.close()

            leaver = threading.Thread(target=leave)
            leaver.start()
            restore_all(source, dump, CLEAN)
            leaver.join()
            assert server.query("SELECT i FROM t", name) == [(3,)]
            assert not server.query("SELECT FROM pg_database WHERE datname ~ 'occupied_'")
        server.execute("DROP ROLE modest")


class TestSubscriptions:
    def test_they_come_back_disabled_and_that_is_said_and_a_clean_restore_drops_no_slot(
        self, newest_postgres: PostgresServer, source_of: MakeSource, copy: str
    ) -> None:
        server = newest_postgres
        create = (
            "CREATE SUBSCRIPTION s CONNECTION 'host=nowhere password=hunter2-sub' PUBLICATION p WITH (connect = false)"
        )
        with server.database("subscriber") as name:
            server.execute("CREATE TABLE t AS SELECT 3 AS i", name)
            server.execute(create, name)
            dump = dump_all(source_of(server, name, accounts="no"))
            server.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)", name)
            source = source_of(server, copy)
            said = listening(source)
            restore_all(source, dump)
            assert any("subscription s is restored disabled" in warning for warning in said.warnings)
            with pytest.raises(SourceDenied, match="subscription s") as caught:
                restore_all(source, dump, CLEAN)
            assert "slot_name = NONE" in (caught.value.hint or "")
            assert server.query("SELECT i FROM t", copy) == [(3,)]
            server.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)", copy)


def test_a_restore_that_is_killed_on_the_server_side_fails_as_a_whole(
    newest_postgres: PostgresServer, source_of: MakeSource, copy: str
) -> None:
    server = newest_postgres
    with server.database("slow") as name:
        server.execute(
            "CREATE TABLE t AS SELECT 3 AS i; "
            "CREATE FUNCTION waits() RETURNS integer LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN 1; END';"
            "CREATE MATERIALIZED VIEW m AS SELECT waits() AS w WITH NO DATA",
            name,
        )
        # Populated without waiting, so that the restore populates it.
        server.execute("CREATE OR REPLACE FUNCTION waits() RETURNS integer LANGUAGE sql AS 'SELECT 1'", name)
        server.execute("REFRESH MATERIALIZED VIEW m", name)
        server.execute(
            "CREATE OR REPLACE FUNCTION waits() RETURNS integer LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(60); RETURN 1; END'",
            name,
        )
        dump = dump_all(source_of(server, name, accounts="no"))
        killed: list[bool] = []

        def kill() -> None:
            query = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%REFRESH MATERIALIZED%' "
                "AND application_name = 'penstock'"
            )
            while not server.query(query):
                time.sleep(0.05)
            killed.append(True)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        with pytest.raises(RestoreFailed):
            restore_all(source_of(server, copy), dump)
        killer.join()
        assert killed
        assert not server.query("SELECT FROM pg_database WHERE datname = 'copy'")
