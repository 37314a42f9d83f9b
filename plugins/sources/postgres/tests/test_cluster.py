import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer, PostgresServers
from tests.servers.streams import Dump, dump_all, read_all, restore_all

from penstock.api import Capability, RestoreTarget, SourceDenied, SourceError, TargetNotEmpty, UsageError
from penstock_postgres import cluster, connection, elsewhere

pytestmark = pytest.mark.server

NAMES = ("clu/näme", "clu_shop", "clu_tmpl")
SETUP = (
    "CREATE ROLE clu_keeper LOGIN PASSWORD 'kept'; CREATE ROLE clu_reader; ALTER ROLE clu_reader SET work_mem = '3MB'",
    "CREATE DATABASE clu_shop OWNER clu_keeper",
    "CREATE DATABASE \"clu/näme\" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' CONNECTION LIMIT 7",
    "CREATE DATABASE clu_tmpl IS_TEMPLATE true",
    "CREATE DATABASE clu_closed ALLOW_CONNECTIONS false",
    """
    COMMENT ON DATABASE clu_shop IS 'the shop''s'; ALTER DATABASE clu_shop SET statement_timeout = '7s';
    ALTER ROLE clu_reader IN DATABASE clu_shop SET search_path = one, "t w o";
    REVOKE ALL ON DATABASE clu_shop FROM PUBLIC; GRANT CONNECT ON DATABASE clu_shop TO clu_reader;
    ALTER DATABASE postgres SET work_mem = '5MB'
    """,
)
CONTENTS = {
    "clu_shop": "CREATE TABLE t AS SELECT 'before' AS what, generate_series(1, 3) AS i; "
    "ALTER TABLE t OWNER TO clu_keeper; GRANT SELECT ON t TO clu_reader; "
    "CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
    "CREATE EVENT TRIGGER audited ON ddl_command_end EXECUTE FUNCTION audit(); "
    "CREATE PUBLICATION published FOR TABLE t",
    "clu/näme": "CREATE TABLE greetings AS SELECT 'before' AS what",
    "clu_tmpl": "CREATE EXTENSION citext; CREATE TABLE c AS SELECT 'Before'::citext AS what",
}


def clear(server: PostgresServer) -> None:
    server.execute("ALTER DATABASE postgres RESET work_mem")
    for name in ("clu_tmpl", "clu_closed", *NAMES, "clu_copy", "clu copy, 2"):
        if server.query(f"SELECT FROM pg_database WHERE datname = '{name}'"):
            server.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false ALLOW_CONNECTIONS true')
            server.drop(name)
    server.execute("DROP ROLE IF EXISTS clu_keeper; DROP ROLE IF EXISTS clu_reader")


@pytest.fixture(scope="module")
def full(postgres_servers: PostgresServers) -> Iterator[PostgresServer]:
    """A server with databases of all kinds."""
    server = postgres_servers.newest()
    clear(server)
    for statements in SETUP:
        server.execute(statements)
    for name, statements in CONTENTS.items():
        server.execute(statements, name)
    yield server
    clear(server)


def test_a_whole_cluster_comes_back_on_a_new_server(
    full: PostgresServer, spare: PostgresServer, source_of: MakeSource
) -> None:
    source = source_of(full, None, databases=["clu*", "clu_tmpl", "postgres"])
    assert Capability.CONSISTENT not in source.capabilities()
    dump: Dump = {}
    items = {}
    with source.dump() as held:
        items = {(item.kind, item.name): item.rows for item in held.plan.inspection.inventory}
        for spec in held.plan.streams:
            # Each database's view is taken when its stream is opened: none waits for the others.
            stream = held.open(spec)
            if (name := spec.attributes["database"]) in ("clu_shop", "clu/näme") and spec.name != "accounts.sql":
                full.execute("CREATE TABLE late AS SELECT 'too-' || 'late' AS what", name)
            data = read_all(stream)
            items |= {(item.kind, item.name): item.rows for item in stream.outcome().inventory}
            dump[spec.name] = (replace(spec, attributes={**spec.attributes, **stream.outcome().attributes}), data)
    for name in ("clu_shop", "clu/näme"):
        full.execute("DROP TABLE late", name)
    archives = ["db/clu%2Fnäme.dump", "db/clu_shop.dump", "db/clu_tmpl.dump", "db/postgres.dump"]
    assert list(dump) == ["accounts.sql", *archives]
    assert not any(b"too-late" in data for _, data in dump.values())
    assert held.plan.consistency.startswith("one transaction snapshot for each database, taken one after the other")
    assert len({spec.attributes["snapshot"] for spec, _ in dump.values() if spec.phase}) == 4
    assert held.plan.inspection.size_estimate == sum(spec.size_estimate or 0 for spec in held.plan.streams[1:])
    assert items["database", "clu_shop"] is None
    assert items["table", "clu_shop.public.t"] == 3
    assert ("database left out", "clu_closed") in items
    assert held.plan.inspection.warnings == (
        "the database clu_closed is left out: it refuses connections [databases-left-out]",
    )

    restore_all(source_of(spare, None), dump)
    for name in (*NAMES, "postgres"):
        assert spare.as_text(name) == full.as_text(name), name
    query = "SELECT a.rolname, a.rolpassword, r.rolconfig FROM pg_authid a JOIN pg_roles r USING (oid) "
    query += "WHERE a.rolname LIKE 'clu%' ORDER BY 1"
    assert spare.query(query) == full.query(query)
    assert spare.query("SELECT datname FROM pg_database WHERE datistemplate ORDER BY 1") == [
        ("clu_tmpl",),
        ("template0",),
        ("template1",),
    ]

    # And again, over what is there now: all of it is looked at first, and replaced only if that is allowed.
    with pytest.raises(TargetNotEmpty, match="clu/näme is not empty"):
        restore_all(source_of(spare, None), dump)
    spare.execute("DROP TABLE t", "clu_shop")
    restore_all(source_of(spare, None), dump, RestoreTarget(clean=True))
    for name in (*NAMES, "postgres"):
        assert spare.as_text(name) == full.as_text(name), name
    clear(spare)


@pytest.fixture(scope="module")
def dumped(full: PostgresServer) -> Dump:
    from penstock_postgres.settings import PostgresSettings
    from penstock_postgres.source import PostgresSource

    settings = {"host": full.host, "port": full.port, "user": full.user, "databases": "clu_*", "client_path": full.bin}
    return dump_all(PostgresSource(PostgresSettings.model_validate(settings | {"databases": ["clu_shop", "clu/*"]})))


def test_every_database_is_looked_at_before_any_is_touched(
    full: PostgresServer, source_of: MakeSource, dumped: Dump
) -> None:
    rename = {"rename": "clu/näme=clu_copy,clu_shop=clu copy%2C 2"}
    with full.database("clu copy, 2") as second:
        full.execute("CREATE TABLE mine AS SELECT 1 AS i", second)
        with pytest.raises(TargetNotEmpty, match=r"clu copy, 2 is not empty"):
            restore_all(source_of(full, None), dumped, RestoreTarget(options=rename))
        assert not full.query("SELECT FROM pg_database WHERE datname = 'clu_copy'")
        full.execute("DROP TABLE mine", second)
        restore_all(source_of(full, None), dumped, RestoreTarget(options=rename))
        assert full.query("SELECT count(*), max(what) FROM t", second) == [(3, "before")]
        assert full.as_text("clu_copy") == full.as_text("clu/näme").replace("clu/näme", "clu_copy")
        full.drop("clu_copy")


@pytest.mark.parametrize(
    ("database", "settings", "options", "into"),
    [
        ("clu_copy", {}, {}, "clu_copy"),
        (None, {}, {"rename": "clu_shop=clu_copy"}, "clu_copy"),
        ("postgres", {"databases": "all"}, {"rename": "clu_shop=clu_copy"}, "clu_copy"),
        ("clu copy, 2", {}, {"rename": "clu_shop=clu_copy", "owners": "no", "privileges": "no"}, "clu_copy"),
    ],
)
def test_one_stream_goes_into_any_database(
    full: PostgresServer,
    source_of: MakeSource,
    dumped: Dump,
    database: str | None,
    settings: dict[str, str],
    options: dict[str, str],
    into: str,
) -> None:
    target = source_of(full, database, **settings)
    restore_all(target, [dumped["db/clu_shop.dump"]], RestoreTarget(options=options))
    owner, acl = full.query("SELECT relowner::regrole::text, relacl::text FROM pg_class WHERE relname = 't'", into)[0]
    assert (owner == "clu_keeper") == ("owners" not in options)
    assert (acl is not None) == ("privileges" not in options)
    assert full.query("SELECT datacl IS NULL FROM pg_database WHERE datname = 'clu_copy'") == [
        ("privileges" in options,)
    ]
    full.drop(into)


def test_a_stream_goes_back_to_where_it_came_from_if_nothing_else_is_said(
    full: PostgresServer, source_of: MakeSource, dumped: Dump
) -> None:
    with pytest.raises(TargetNotEmpty, match="the database clu_shop is not empty"):
        restore_all(source_of(full, None), [dumped["db/clu_shop.dump"]])


def test_several_databases_do_not_go_into_one(full: PostgresServer, source_of: MakeSource, dumped: Dump) -> None:
    with pytest.raises(UsageError, match="2 databases cannot be restored into one") as caught:
        restore_all(source_of(full, "clu_copy"), dumped)
    assert "--stream" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="into one"):
        restore_all(source_of(full, None), dumped, RestoreTarget(options={"rename": "clu/näme=clu_shop"}))


@pytest.mark.parametrize("rename", ["nothing=else", "clu_shop", "clu_shop=", "=x", "clu_shop=a,clu_shop=b"])
def test_a_rename_that_makes_no_sense_is_refused(
    full: PostgresServer, source_of: MakeSource, dumped: Dump, rename: str
) -> None:
    with pytest.raises(UsageError, match="rename"):
        restore_all(source_of(full, None), dumped, RestoreTarget(options={"rename": rename}))


def test_many_databases_are_restored_with_few_connections(
    newest_postgres: PostgresServer, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, names = newest_postgres, [f"few_{i}" for i in range(5)]
    for name in names:
        server.execute(f"CREATE DATABASE {name}")
        server.execute("CREATE TABLE t AS SELECT 1 AS i", name)
    try:
        dump = dump_all(source_of(server, None, databases="few_*", accounts="no"))
        for name in names:
            server.drop(name)
        made = []
        connect = psycopg.connect

        def counted(*arguments: Any, **more: Any) -> Any:
            made.append(more["dbname"])
            return connect(*arguments, **more)

        with monkeypatch.context() as patched:
            patched.setattr(psycopg, "connect", counted)
            restore_all(source_of(server, None), dump)
        # One to look at the server, one to make them; and each to fill it.
        assert sorted(made) == [*names, "postgres", "postgres"]
        for name in names:
            assert server.query("SELECT reltuples FROM pg_class WHERE relname = 't'", name) == [(1,)]
    finally:
        for name in names:
            server.drop(name)


def test_a_restore_goes_on_when_the_connection_beside_is_lost(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    server = newest_postgres
    with elsewhere.Elsewhere(source_of(server, None).settings) as beside:
        first = beside.beside("any")
        assert beside.beside("any") is first
        server.execute(f"SELECT pg_terminate_backend({first.info.backend_pid})")
        second = beside.beside("any")
        assert second is not first
        assert first.closed
        assert second.execute("SELECT 1").fetchone() == (1,)
        assert beside.beside("postgres").info.dbname == "template1"
        assert second.closed


def test_databases_are_chosen_by_name_or_glob(full: PostgresServer, source_of: MakeSource) -> None:
    def found(**settings: object) -> cluster.Databases:
        chosen = source_of(full, None, **settings).settings
        with connection.connect(chosen, database="postgres") as there:
            return cluster.find_databases(there, chosen)

    everything = found(databases="all")
    assert {"postgres", "clu_shop", "clu/näme"} <= set(everything.names)
    assert set(everything.left_out) >= {"template0", "template1", "clu_tmpl", "clu_closed"}
    assert not any("template1" in warning for warning in everything.warnings())
    assert found(databases="all", exclude_databases=["post*", "clu_*"]).names[:1] == ("clu/näme",)
    assert found(databases=["clu_s?op", "clu_tmpl"]).names == ("clu_shop", "clu_tmpl")
    with pytest.raises(SourceError, match="databases = shop matches no database"):
        found(databases=["clu_shop", "shop"])
    with pytest.raises(SourceError, match="clu_closed cannot be dumped: it refuses connections"):
        found(databases=["clu_closed"])
    with pytest.raises(SourceError, match="nothing to dump"):
        found(databases=["clu_shop"], exclude_databases="clu*")
    full.execute("DROP ROLE IF EXISTS clu_other; CREATE ROLE clu_other LOGIN")
    try:
        with pytest.raises(SourceDenied, match="clu_other may not connect to clu_shop"):
            source_of(full, "postgres", user="clu_other", databases="clu*").inspect()
    finally:
        full.execute("DROP ROLE clu_other")


def test_an_inspection_tells_what_each_database_holds(full: PostgresServer, source_of: MakeSource) -> None:
    found = source_of(full, None, databases="clu*", exclude_databases="clu_closed").inspect()
    kinds = [(item.kind, item.name) for item in found.inventory]
    assert kinds.index(("database", "clu/näme")) < kinds.index(("database", "clu_shop"))
    assert ("table", "clu/näme.public.greetings") in kinds
    assert ("database left out", "clu_tmpl") in kinds
    assert [spec.name for spec in found.streams] == ["accounts.sql", "db/clu%2Fnäme.dump", "db/clu_shop.dump"]
    assert found.consistency.startswith("one transaction snapshot for each database")
    assert found.warnings == (
        "the database clu_tmpl is left out: it is a template (databases can name it) [databases-left-out]",
    )


def test_what_was_recorded_of_a_database_can_be_read(dumped: Dump) -> None:
    spec, _ = dumped["db/clu_shop.dump"]
    recorded = json.loads(spec.attributes["properties"])
    assert (recorded["owner"], recorded["template"], recorded["tablespace"]) == ("clu_keeper", False, "pg_default")
    assert spec.attributes["roles"].split("\n") == ["clu_keeper", "clu_reader", "postgres"]
