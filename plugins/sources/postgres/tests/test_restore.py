import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer, PostgresServers, find_binaries
from tests.servers.streams import Dump, blocks_of, dump_all, restore_all

from penstock.api import (
    ClientTooOld,
    DamagedObject,
    RestoreFailed,
    RestoreTarget,
    SourceDenied,
    StreamSpec,
    TargetMissing,
    TargetNotEmpty,
    UsageError,
)
from penstock.testing.dumping import restore_one
from penstock.testing.hearing import Heard

pytestmark = pytest.mark.server

SMALL = """
CREATE TABLE t (i integer PRIMARY KEY, filler text);
INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 5000) AS i;
CREATE VIEW v AS SELECT count(*) FROM t;
SELECT lo_from_bytea(77, 'large');
"""


@pytest.fixture
def small(newest_postgres: PostgresServer, source_of: MakeSource) -> Dump:
    with newest_postgres.database("small") as name:
        newest_postgres.execute(SMALL, name)
        return dump_all(source_of(newest_postgres, name))


@pytest.fixture
def fresh(newest_postgres: PostgresServer) -> Iterator[str]:
    """The name of a database that is not there, and is dropped afterwards if it is."""
    name = "fresh näme=1"
    newest_postgres.drop(name)
    yield name
    newest_postgres.drop(name)


def exists(server: PostgresServer, name: str) -> bool:
    return bool(server.query(f"SELECT FROM pg_database WHERE datname = '{name}'"))


def leftovers(server: PostgresServer) -> list[object]:
    return list(server.query("SELECT datname FROM pg_database WHERE datname LIKE '%penstock%'"))


def damaged(data: bytes) -> Iterator[memoryview]:
    """All of the data, and then the news that it was not what was stored."""
    yield from blocks_of(data)
    raise DamagedObject("packs/aa/aa", "its digest is wrong")


def test_everything_comes_back_as_it_was(postgres: PostgresServer, source_of: MakeSource) -> None:
    with postgres.database('nasty "näme" o\'clock = x') as name, postgres.database("copy") as copy:
        postgres.fill_nasty(name)
        dump = dump_all(source_of(postgres, name))
        before = postgres.as_text(name)
        postgres.drop(copy)
        restore_all(source_of(postgres, copy), dump)
        assert postgres.as_text(copy) == before
        assert len(before) > 1_000_000


def test_a_clean_restore_replaces_the_database_whatever_was_changed(
    postgres: PostgresServer, source_of: MakeSource
) -> None:
    with postgres.database("changed") as name:
        postgres.fill_nasty(name)
        postgres.execute("DROP SUBSCRIPTION nasty_sub", name)
        source = source_of(postgres, name)
        dump = dump_all(source)
        before = postgres.as_text(name)
        postgres.execute(
            "DELETE FROM pgbench_history; DROP TABLE shop.toasted; ALTER TABLE altered ADD extra text; "
            "CREATE VIEW mine AS SELECT * FROM shop.staff; SELECT lo_unlink(424243), lo_put(424244, 7, 'changed')",
            name,
        )
        with postgres.connect(name) as connected:
            restore_all(source, dump, RestoreTarget(clean=True))
            with pytest.raises(psycopg.OperationalError):
                connected.execute("SELECT 1")
        assert postgres.as_text(name) == before
        assert not leftovers(postgres)


def test_a_clean_restore_that_fails_leaves_the_old_database(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    (spec, data) = small["small.dump"]
    with newest_postgres.database("kept") as name:
        newest_postgres.execute(SMALL + "UPDATE t SET filler = 'mine'", name)
        with newest_postgres.connect(name) as connected:
            for options in ({}, {"beside": "no"}):
                with pytest.raises(DamagedObject):
                    restore_one(
                        source_of(newest_postgres, name),
                        spec,
                        damaged(data),
                        RestoreTarget(clean=True, options=options),
                    )
            assert connected.execute("SELECT DISTINCT filler FROM t").fetchall() == [("mine",)]
        assert not leftovers(newest_postgres)


def test_a_clean_restore_in_place_drops_what_the_dump_holds(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    in_place = RestoreTarget(clean=True, options={"beside": "no"})
    with newest_postgres.database("in_place") as name:
        newest_postgres.execute(SMALL + "UPDATE t SET filler = 'mine'; CREATE TABLE other AS SELECT 1 AS one", name)
        source = source_of(newest_postgres, name)
        restore_all(source, small, in_place)
        assert newest_postgres.query("SELECT count(DISTINCT filler) FROM t", name) == [(5000,)]
        assert newest_postgres.query("SELECT one FROM other", name) == [(1,)]
        newest_postgres.execute("CREATE VIEW mine AS SELECT * FROM t", name)
        with pytest.raises(RestoreFailed) as caught:
            restore_all(source, small, in_place)
        assert "beside=yes" in (caught.value.hint or "")
        assert newest_postgres.query("SELECT count(DISTINCT filler) FROM mine", name) == [(5000,)]


def test_a_database_that_cannot_be_replaced_is_cleaned_in_place(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    with newest_postgres.database("slotted") as name:
        newest_postgres.execute(SMALL, name)
        newest_postgres.query("SELECT pg_create_logical_replication_slot('held', 'pgoutput')", name)
        try:
            source = source_of(newest_postgres, name)
            with pytest.raises(SourceDenied, match="replication slots"):
                restore_all(source, small, RestoreTarget(clean=True, options={"beside": "yes"}))
            oid = newest_postgres.query("SELECT 't'::regclass::oid", name)
            restore_all(source, small, RestoreTarget(clean=True))
            assert newest_postgres.query("SELECT 't'::regclass::oid", name) != oid
            assert newest_postgres.query("SELECT count(*) FROM t", name) == [(5000,)]
        finally:
            newest_postgres.query("SELECT pg_drop_replication_slot('held')", name)


def test_an_older_majors_dump_restores_into_a_newer_server(
    postgres_servers: PostgresServers, source_of: MakeSource
) -> None:
    old, new = postgres_servers.get(14), postgres_servers.get(18)
    with old.database("upgraded") as name, new.database("upgraded"):
        old.fill_nasty(name)
        # The binaries of some majors come with one that does not load.
        old.execute("DROP EXTENSION IF EXISTS postgres_fdw CASCADE", name)
        dump = dump_all(source_of(old, name))
        new.drop(name)
        restore_all(source_of(new, name), dump)
        for table in ("shop.orders", "shop.everything", "shop.toasted", "public.pgbench_accounts"):
            rows = f"SELECT t.*::text FROM {table} t ORDER BY 1"
            assert new.query(rows, name) == old.query(rows, name)


def test_a_newer_majors_dump_is_refused_by_an_older_server_unless_allowed(
    postgres_servers: PostgresServers, source_of: MakeSource
) -> None:
    old, new = postgres_servers.get(14), postgres_servers.get(16)
    with new.database("newer") as name, old.database("newer"):
        new.execute(SMALL, name)
        dump = dump_all(source_of(new, name))
        target = source_of(old, name, client_path=new.bin)
        with pytest.raises(UsageError, match=r"16\.\d+.*14\.\d+") as caught:
            restore_all(target, dump)
        assert "older_server=yes" in (caught.value.hint or "")
        restore_all(target, dump, RestoreTarget(options={"older_server": "yes"}))
        assert old.query("SELECT count(*) FROM t", name) == [(5000,)]


def test_pg_restore_older_than_the_dump_is_refused(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    old = find_binaries(15)
    if old is None or newest_postgres.major <= 15:
        pytest.skip("no older client programs here")
    with pytest.raises(ClientTooOld, match=r"pg_dump 1\d\.\d+.*pg_restore here is 15"):
        restore_all(source_of(newest_postgres, "small", client_path=old), small)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("CREATE TABLE mine (i integer)", "public.mine"),
        ("CREATE VIEW mine AS SELECT 1 AS one", "public.mine"),
        ("CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'", "public.mine"),
        ("CREATE TYPE mine AS ENUM ('a')", "1 type"),
        ("CREATE TYPE mine AS (a integer)", "1 type"),
        ("CREATE DOMAIN mine AS text", "1 type"),
        ("CREATE SEQUENCE mine", "public.mine"),
        ("CREATE SCHEMA mine", "1 schema"),
        ("SELECT lo_from_bytea(0, 'x')", "1 large object"),
        ("CREATE PUBLICATION mine", "1 publication"),
    ],
)
def test_a_target_with_anything_in_it_is_refused(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump, statement: str, what: str
) -> None:
    with newest_postgres.database("occupied") as name:
        newest_postgres.execute(statement, name)
        with pytest.raises(TargetNotEmpty, match=re.escape(what)):
            restore_all(source_of(newest_postgres, name), small)
        source_of(newest_postgres, name).plan_restore([spec for spec, _ in small.values()], RestoreTarget(clean=True))


def test_extensions_and_schemas_in_passing_are_nothing(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    with newest_postgres.database("extended") as name, newest_postgres.connect(name) as connection:
        connection.execute("CREATE EXTENSION hstore; CREATE TEMPORARY TABLE passing (i integer)")
        restore_all(source_of(newest_postgres, name), small)
        assert newest_postgres.query("SELECT count(*) FROM t", name) == [(5000,)]


def test_damage_that_shows_at_the_very_end_leaves_an_empty_target_empty(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    (spec, data) = small["small.dump"]
    with newest_postgres.database("stays_empty") as name:
        source = source_of(newest_postgres, name)
        with pytest.raises(DamagedObject):
            restore_one(source, spec, damaged(data), RestoreTarget())
        source.plan_restore([spec], RestoreTarget())
        assert newest_postgres.query("SELECT count(*) FROM pg_class WHERE relname = 't'", name) == [(0,)]


@pytest.mark.parametrize("options", [{}, {"single_transaction": "no"}])
def test_a_database_that_a_failed_restore_had_made_is_dropped(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump, fresh: str, options: dict[str, str]
) -> None:
    (spec, data) = small["small.dump"]
    source = source_of(newest_postgres, fresh)
    for blocks in (damaged(data), damaged(data[:1000]), damaged(b"")):
        with pytest.raises(DamagedObject):
            restore_one(source, spec, blocks, RestoreTarget(options=options))
        assert not exists(newest_postgres, fresh)
    with pytest.raises(RestoreFailed):
        restore_one(source, spec, blocks_of(data[: len(data) // 2]), RestoreTarget(options=options))
    assert not exists(newest_postgres, fresh)


def test_what_the_server_says_is_in_the_error(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump
) -> None:
    (spec, data) = small["small.dump"]
    with newest_postgres.database("refusing") as name:
        newest_postgres.execute("CREATE TABLE t (other text)", name)
        with pytest.raises(RestoreFailed) as caught:
            restore_one(source_of(newest_postgres, name), spec, blocks_of(data), RestoreTarget())
        assert 'relation "t" already exists' in caught.value.message
        assert newest_postgres.query("SELECT count(*) FROM pg_largeobject_metadata", name) == [(0,)]


def test_a_database_is_made_unless_that_is_not_wanted_or_not_allowed(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    with pytest.raises(TargetMissing, match="no database") as caught:
        restore_all(source_of(newest_postgres, fresh), small, RestoreTarget(options={"create": "no"}))
    assert "create=yes" in (caught.value.hint or "")
    newest_postgres.execute("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN")
    try:
        with pytest.raises(TargetMissing, match="weak may not create it"):
            restore_all(source_of(newest_postgres, fresh, user="weak"), small)
    finally:
        newest_postgres.execute("DROP ROLE weak")
    restore_all(source_of(newest_postgres, fresh), small)
    assert newest_postgres.query("SELECT count FROM v", fresh) == [(5000,)]
    assert newest_postgres.query("SELECT reltuples FROM pg_class WHERE relname = 't'", fresh) == [(5000,)]


def test_a_locale_that_the_server_lacks_can_be_replaced(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump, fresh: str
) -> None:
    (spec, data) = small["small.dump"]
    properties = spec.attributes["properties"].replace('"C.UTF-8"', '"xx_XX.UTF-8"')
    foreign = StreamSpec(spec.name, spec.format, 1, None, False, {**spec.attributes, "properties": properties})
    with pytest.raises(RestoreFailed, match="cannot make the database") as caught:
        restore_all(source_of(newest_postgres, fresh), [(foreign, data)])
    assert "locale=" in (caught.value.hint or "")
    restore_all(source_of(newest_postgres, fresh), [(foreign, data)], RestoreTarget(options={"locale": "C"}))
    assert newest_postgres.query("SELECT datcollate FROM pg_database WHERE datname = current_database()", fresh) == [
        ("C",)
    ]


@pytest.mark.parametrize(
    ("major", "clauses"),
    [
        (15, " TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn' LOCALE 'C.UTF-8' ENCODING 'UTF8'"),
        (17, " TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C' ENCODING 'UTF8'"),
        (18, " TEMPLATE template0 LOCALE 'C' ENCODING 'LATIN1' CONNECTION LIMIT 9"),
        (16, " TEMPLATE template0 LOCALE 'C' ENCODING 'SQL_ASCII'"),
    ],
)
def test_the_encoding_and_locale_come_back(
    postgres_servers: PostgresServers, source_of: MakeSource, major: int, clauses: str
) -> None:
    server = postgres_servers.get(major)
    server.drop("made")
    with server.database("local", clauses) as name:
        server.execute("CREATE TABLE t AS SELECT 'Grüße' AS greeting", name)
        dump = dump_all(source_of(server, name))
        before = server.as_text(name)
    try:
        restore_all(source_of(server, "made"), dump)
        assert server.as_text("made") == before
    finally:
        server.drop("made")


@pytest.mark.parametrize("options", [{"nonsense": "yes"}, {"owners": "perhaps"}, {"create": "auto"}])
def test_unknown_options_are_refused(
    newest_postgres: PostgresServer, source_of: MakeSource, small: Dump, options: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match=next(iter(options))) as caught:
        restore_all(source_of(newest_postgres, "small"), small, RestoreTarget(options=options))
    assert caught.value.hint


def test_settings_of_the_database_do_not_hinder_its_restore(
    newest_postgres: PostgresServer, source_of: MakeSource, fresh: str
) -> None:
    with newest_postgres.database("hindering") as name:
        newest_postgres.execute(SMALL, name)
        for setting in (
            "default_transaction_read_only = on",
            "statement_timeout = 300",
            'search_path = nowhere, "a b"',
        ):
            newest_postgres.execute(f"ALTER DATABASE {name} SET {setting}")
        dump = dump_all(source_of(newest_postgres, name))
        before = newest_postgres.as_text(name)
    restore_all(source_of(newest_postgres, fresh), dump)
    assert newest_postgres.as_text(fresh) == before


class TestRoles:
    """Restores into a second server, which lacks what the first one has."""

    @pytest.fixture
    def pair(self, postgres_servers: PostgresServers) -> Iterator[tuple[PostgresServer, PostgresServer]]:
        one = postgres_servers.newest()
        two = postgres_servers.get(one.major, "scram")
        roles = """
            DROP DATABASE IF EXISTS owned WITH (FORCE);
            DROP ROLE IF EXISTS keeper; DROP ROLE IF EXISTS helper; DROP ROLE IF EXISTS "kept, as it is";
        """
        for server in (one, two):
            for statement in filter(None, map(str.strip, roles.split(";"))):
                server.execute(statement)
        one.execute(
            """
            CREATE ROLE keeper LOGIN PASSWORD 'of the keeper; --' VALID UNTIL '2099-01-01';
            CREATE ROLE helper CREATEDB; GRANT helper TO keeper;
            CREATE ROLE "kept, as it is" LOGIN CREATEROLE; COMMENT ON ROLE "kept, as it is" IS 'from the first';
            ALTER ROLE keeper SET work_mem = '3MB';
            """
        )
        one.execute("CREATE DATABASE owned OWNER keeper")
        one.execute(
            "CREATE TABLE t AS SELECT 1 AS i; ALTER TABLE t OWNER TO keeper; GRANT SELECT ON t TO helper", "owned"
        )
        yield one, two
        for server in (one, two):
            for statement in filter(None, map(str.strip, roles.split(";"))):
                server.execute(statement)

    def test_missing_roles_are_made_and_existing_ones_left_alone(
        self, pair: tuple[PostgresServer, PostgresServer], source_of: MakeSource
    ) -> None:
        one, two = pair
        two.execute('CREATE ROLE "kept, as it is" NOLOGIN')
        one.execute('GRANT helper TO "kept, as it is"')
        restore_all(source_of(two, "owned"), dump_all(source_of(one, "owned")))
        assert two.query("SELECT FROM pg_auth_members WHERE member = '\"kept, as it is\"'::regrole") == []
        query = """
            SELECT rolname, rolpassword, rolvaliduntil, rolcreatedb, rolcanlogin, rolconfig,
                ARRAY(SELECT m.roleid::regrole::text FROM pg_auth_members m WHERE m.member = a.oid)
            FROM pg_authid a LEFT JOIN (SELECT oid, rolconfig FROM pg_roles) r USING (oid)
            WHERE rolname IN ('keeper', 'helper') ORDER BY 1
        """
        assert two.query(query) == one.query(query)
        columns = "rolcanlogin, rolcreaterole, shobj_description(oid, 'pg_authid')"
        kept = f"SELECT {columns} FROM pg_roles WHERE rolname ~ '^kept'"
        assert two.query(kept) == [(False, False, None)]
        assert two.as_text("owned") == one.as_text("owned")
        with two.connect("owned", user="keeper", password="of the keeper; --") as connection:
            assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]

    def test_roles_that_are_missing_are_named_before_anything_is_touched(
        self, pair: tuple[PostgresServer, PostgresServer], source_of: MakeSource
    ) -> None:
        one, two = pair
        dump = dump_all(source_of(one, "owned", accounts="no"))
        with pytest.raises(SourceDenied, match="helper, keeper"):
            restore_all(source_of(two, "owned"), dump)
        assert not exists(two, "owned")
        restore_all(source_of(two, "owned"), dump, RestoreTarget(options={"owners": "no", "privileges": "no"}))
        assert two.query("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'", "owned") == [("postgres",)]

    def test_accountscan_be_left_out(self, pair: tuple[PostgresServer, PostgresServer], source_of: MakeSource) -> None:
        one, two = pair
        dump = dump_all(source_of(one, "owned"))
        options = {"accounts": "no", "owners": "no", "privileges": "no"}
        restore_all(source_of(two, "owned"), dump, RestoreTarget(options=options))
        assert two.query("SELECT FROM pg_roles WHERE rolname = 'keeper'") == []

    def test_damage_at_the_end_of_the_accountschanges_nothing(
        self, pair: tuple[PostgresServer, PostgresServer], source_of: MakeSource
    ) -> None:
        one, two = pair
        spec, data = dump_all(source_of(one, "owned"))["accounts.sql"]
        with pytest.raises(DamagedObject):
            restore_one(source_of(two, "owned"), spec, damaged(data), RestoreTarget())
        with pytest.raises(RestoreFailed, match="CREATE ROLE keeper") as caught:
            restore_one(
                source_of(two, "owned"),
                spec,
                blocks_of(b"CREATE ROLE helper; CREATE ROLE keeper PASSWORD 'x' NONSENSE;"),
                RestoreTarget(),
            )
        assert "'x'" not in f"{caught.value} {caught.value.details} {caught.value.hint}"
        assert two.query("SELECT FROM pg_roles WHERE rolname IN ('keeper', 'helper')") == []

    def test_only_a_superuser_restores_accounts(
        self, pair: tuple[PostgresServer, PostgresServer], source_of: MakeSource
    ) -> None:
        one, two = pair
        dump = dump_all(source_of(one, "owned"))
        two.execute("CREATE ROLE helper LOGIN CREATEDB PASSWORD 'help'; CREATE ROLE keeper; GRANT keeper TO helper")
        weak = source_of(PostgresServer(two.major, two.host, two.port, "helper", "help", two.bin), "owned")
        with pytest.raises(SourceDenied, match="helper may not restore roles"):
            restore_all(weak, dump, RestoreTarget(options={"accounts": "yes"}))
        weak.report = said = Heard()
        restore_all(weak, dump)
        assert said.warnings == ["roles and tablespaces are left out: the role that restores is not a superuser"]
        assert two.query("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'", "owned") == [("keeper",)]

    def test_a_tablespace_without_its_folder_can_be_left_out(
        self, pair: tuple[PostgresServer, PostgresServer], source_of: MakeSource, tmp_path: Path
    ) -> None:
        one, two = pair
        (data,) = one.query("SHOW data_directory")[0]
        folder = Path(data).parent / "space"
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        one.execute(f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
        try:
            one.execute("ALTER TABLE t SET TABLESPACE elsewhere", "owned")
            dump = dump_all(source_of(one, "owned"))
            with pytest.raises(RestoreFailed, match="CREATE TABLESPACE elsewhere") as caught:
                restore_all(source_of(two, "owned"), dump)
            assert "tablespaces=no" in (caught.value.hint or "")
            restore_all(source_of(two, "owned"), dump, RestoreTarget(options={"tablespaces": "no"}))
            assert two.query("SELECT i FROM t", "owned") == [(1,)]
        finally:
            one.execute("ALTER TABLE t SET TABLESPACE pg_default", "owned")
            one.execute("DROP TABLESPACE elsewhere")
