from pathlib import Path

import psycopg
import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer, PostgresServers, find_binaries, free_port, missing
from tests.servers.streams import counted, dump_all

from penstock.api import (
    ClientTooOld,
    InventoryItem,
    SecretUnavailable,
    SourceDenied,
    SourceError,
    SourceUnreachable,
)

pytestmark = pytest.mark.server


def test_versions_a_size_and_everything_that_has_rows_are_told(postgres: PostgresServer, source_of: MakeSource) -> None:
    with postgres.database("inspected") as name:
        postgres.execute(
            """
            CREATE TABLE big AS SELECT i, repeat('x', 500) AS filler FROM generate_series(1, 5000) AS i;
            CREATE TABLE parted (i integer) PARTITION BY RANGE (i);
            CREATE TABLE part PARTITION OF parted DEFAULT;
            CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one;
            CREATE SEQUENCE counter;
            CREATE SCHEMA other;
            CREATE UNLOGGED TABLE other.fleeting (a integer);
            SELECT lo_from_bytea(0, 'some');
            """,
            name,
        )
        postgres.execute("ANALYZE", name)
        found = source_of(postgres, name).inspect()
    assert found.server_version.startswith(f"{postgres.major}.")
    assert found.client_version.startswith(f"{postgres.major}.")
    assert 2_500_000 < (found.size_estimate or 0) < 4_000_000
    items = {(item.kind, item.name): item for item in found.inventory}
    assert items["table", "public.big"].rows == 5000
    assert not any(item.exact for item in found.inventory)
    assert ("partitioned table", "public.parted") in items
    assert ("partition", "public.part") in items
    assert ("materialized view", "public.kept") in items
    assert ("table", "other.fleeting") in items
    assert items["large objects", "large objects"].rows == 1
    assert items["sequences", "sequences"].rows == 1
    assert items["schemas", "schemas"].rows == 2
    assert found.warnings == ()


def test_rows_are_counted_under_the_dumps_own_view(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("counted") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT generate_series(1, 123) AS i", name)
        exact = InventoryItem("table", "public.t", 123, 8192, exact=True)
        assert counted(source_of(newest_postgres, name))["table", "public.t"] == exact
        for wish in ("estimate", "off"):
            items = counted(source_of(newest_postgres, name, row_counts=wish))
            assert items["table", "public.t"] == InventoryItem("table", "public.t", None, 8192, exact=False)


def test_what_a_dump_will_not_hold_is_a_warning(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("warned") as name:
        newest_postgres.execute(
            """
            CREATE TABLE t (i integer);
            CREATE FOREIGN DATA WRAPPER nothing;
            CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
            CREATE FOREIGN TABLE far (i integer) SERVER nowhere;
            CREATE TABLE of_extension (i integer);
            CREATE EXTENSION IF NOT EXISTS citext;
            ALTER EXTENSION citext ADD TABLE of_extension;
            """,
            name,
        )
        with newest_postgres.connect(name, autocommit=False) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            connection.execute("PREPARE TRANSACTION 'left open'")
        try:
            warnings = source_of(newest_postgres, name).inspect().warnings
        finally:
            newest_postgres.execute("ROLLBACK PREPARED 'left open'", name)
    assert any("public.far" in warning for warning in warnings)
    assert any("public.of_extension" in warning for warning in warnings)
    assert any("prepared transaction" in warning for warning in warnings)


def test_a_wrong_password_is_denied_and_never_shown(
    postgres_servers: PostgresServers, source_of: MakeSource, tmp_path: Path
) -> None:
    server = postgres_servers.newest(auth="scram")
    (tmp_path / "password").write_text("hunter2-is-wrong\n", encoding="utf-8")
    source = source_of(server, "postgres", password={"file": str(tmp_path / "password")})
    with pytest.raises(SourceDenied, match="password authentication failed") as caught:
        source.inspect()
    error = caught.value
    shown = f"{source!r} {error!r} {error} {error.hint} {error.details} {error.__cause__} {error.__context__}"
    assert "hunter2" not in shown


def test_no_password_at_all_is_denied_with_a_hint(
    postgres_servers: PostgresServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    with pytest.raises(SourceDenied) as caught:
        source_of(postgres_servers.newest(auth="scram"), "postgres", password=None).inspect()
    assert "PGPASSWORD" in (caught.value.hint or "")


def test_passwords_come_from_libpqs_own_places_too(
    postgres_servers: PostgresServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = postgres_servers.newest(auth="scram")
    source = source_of(server, "postgres", password=None)
    monkeypatch.setenv("PGPASSWORD", server.password)
    source.inspect()
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:*:{server.password}\n", encoding="utf-8")
    passfile.chmod(0o600)
    source_of(server, "postgres", password=None, passfile=str(passfile)).inspect()
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    source.inspect()


def test_a_reference_to_no_secret_is_told(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with pytest.raises(SecretUnavailable, match="NO_SUCH_VARIABLE"):
        source_of(newest_postgres, "postgres", password={"env": "NO_SUCH_VARIABLE"}).inspect()


def test_a_server_that_does_not_answer_is_unreachable(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with pytest.raises(SourceUnreachable, match="refused") as caught:
        source_of(newest_postgres, "postgres", port=free_port()).inspect()
    assert caught.value.retryable


def test_a_database_or_role_that_is_not_there_is_told(postgres: PostgresServer, source_of: MakeSource) -> None:
    with pytest.raises(SourceError, match='database "no such" does not exist') as caught:
        source_of(postgres, "no such").inspect()
    assert not caught.value.retryable
    with pytest.raises(SourceDenied, match='role "nobody here" does not exist'):
        source_of(postgres, "postgres", user="nobody here").inspect()


def test_a_client_older_than_the_server_is_refused(postgres_servers: PostgresServers, source_of: MakeSource) -> None:
    old = find_binaries(15)
    if old is None:
        missing("postgres-15", "PostgreSQL 15 is not installed: run tests/install-servers")
    source = source_of(postgres_servers.get(17), "postgres", client_path=old)
    with pytest.raises(ClientTooOld, match=r"PostgreSQL 17\.\d+.*15\.\d+") as caught:
        source.inspect()
    assert "postgresql-client-17" in (caught.value.hint or "")
    with pytest.raises(ClientTooOld), source.dump():
        pass


def test_what_the_role_may_not_read_is_named_before_the_dump(postgres: PostgresServer, source_of: MakeSource) -> None:
    with postgres.database("guarded") as name:
        postgres.execute(
            """
            DROP ROLE IF EXISTS weak;
            CREATE ROLE weak LOGIN;
            CREATE TABLE open (i integer);
            CREATE TABLE closed (i integer);
            CREATE SEQUENCE counter;
            GRANT SELECT ON open TO weak;
            """,
            name,
        )
        try:
            weak = source_of(postgres, name, user="weak")
            with pytest.raises(SourceDenied, match=r"public\.closed, public\.counter") as caught:
                weak.inspect()
            assert "public.open" not in caught.value.message
            postgres.execute("GRANT pg_read_all_data TO weak", name)
            postgres.execute("ALTER TABLE closed ENABLE ROW LEVEL SECURITY", name)
            with pytest.raises(SourceDenied, match=r"row-level security .*public\.closed"):
                weak.inspect()
            postgres.execute("ALTER ROLE weak BYPASSRLS; SELECT lo_from_bytea(4711, 'x')", name)
            with pytest.raises(SourceDenied, match="large object 4711"):
                weak.inspect()
            postgres.execute("GRANT SELECT ON LARGE OBJECT 4711 TO weak", name)
            assert weak.inspect().warnings == ()
        finally:
            postgres.execute("DROP OWNED BY weak; DROP ROLE weak", name)


def test_passwords_of_roles_are_left_out_or_insisted_on(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("without") as name:
        newest_postgres.execute("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN")
        try:
            (warning,) = source_of(newest_postgres, name, user="weak").inspect().warnings
            assert "without their passwords" in warning
            assert not source_of(newest_postgres, name, user="weak", accounts="no").inspect().warnings
            with pytest.raises(SourceDenied, match="passwords of roles"):
                source_of(newest_postgres, name, user="weak", accounts="yes").inspect()
            # Whoever may read everything may read these too.
            newest_postgres.execute("GRANT pg_read_all_data TO weak")
            source_of(newest_postgres, name, user="weak", accounts="yes").inspect()
        finally:
            newest_postgres.execute("DROP ROLE weak")


def test_a_locked_table_ends_the_wait_with_its_reason(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    with newest_postgres.database("locked") as name:
        newest_postgres.execute("CREATE TABLE t (i integer)", name)
        with newest_postgres.connect(name, autocommit=False) as holder:
            holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(SourceError, match="lock timeout") as caught:
                source_of(newest_postgres, name, lock_timeout=0.2).inspect()
        assert "lock_timeout" in (caught.value.hint or "")


def test_time_limits_of_the_server_do_not_end_a_dump(newest_postgres: PostgresServer, source_of: MakeSource) -> None:
    import time

    from tests.servers.streams import read_all

    with newest_postgres.database("hasty") as name:
        newest_postgres.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", name)
        limits = ["idle_in_transaction_session_timeout", "statement_timeout", "idle_session_timeout"]
        if newest_postgres.major >= 17:
            limits.append("transaction_timeout")
        for limit in limits:
            newest_postgres.execute(f"ALTER DATABASE {name} SET {limit} = '300ms'")
        with source_of(newest_postgres, name, accounts="no").dump() as held:
            time.sleep(0.6)
            assert read_all(held.open(held.plan.streams[0])).startswith(b"PGDMP")


def test_names_in_a_database_without_an_encoding_are_shown_as_far_as_possible(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("bytes", " ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0") as name:
        with psycopg.connect(
            host=newest_postgres.host, port=newest_postgres.port, user="postgres", dbname=name, client_encoding="LATIN1"
        ) as connection:
            connection.execute('CREATE TABLE "n\xe4me" (i integer)'.encode("latin-1"))
        found = source_of(newest_postgres, name).inspect()
    assert "public.n\ufffdme" in {item.name for item in found.inventory}


def test_options_of_user_mappings_that_the_role_may_not_read_are_a_warning(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    server = newest_postgres
    server.execute(
        "DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN IN ROLE pg_read_all_data; "
        "DROP ROLE IF EXISTS api; CREATE ROLE api"
    )
    with server.database("mapped") as name:
        server.execute(
            "CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER far FOREIGN DATA WRAPPER wrapper;"
            "CREATE USER MAPPING FOR api SERVER far OPTIONS (user 'u', password 'hunter2-mapped')",
            name,
        )
        (told,) = [one for one in source_of(server, name, user="modest").inspect().warnings if "mapping" in one]
        assert "far for api" in told
        assert not any("mapping" in one for one in source_of(server, name).inspect().warnings)
        assert b"hunter2-mapped" in dump_all(source_of(server, name, accounts="no"))["mapped.dump"][1]
    server.execute("DROP ROLE modest; DROP ROLE api")
