"""What real servers hold and do: very many tables, roles with settings of their own, extensions with data."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer
from tests.servers.streams import dump_all, read_all, restore_all

from penstock.api import RestoreFailed, RestoreTarget

pytestmark = pytest.mark.server


def test_more_tables_than_one_transaction_can_lock_are_dumped_and_restored(
    spare: PostgresServer, source_of: MakeSource
) -> None:
    spare.drop("made")
    with spare.database("many") as name, spare.database("there") as there:
        for start in range(0, 330, 110):
            spare.execute(
                "".join(f"CREATE TABLE t{i} (i integer PRIMARY KEY, x text);" for i in range(start, start + 110)), name
            )
        dump = dump_all(source_of(spare, name))
        # What the restore makes is dropped if anything fails: it needs no single transaction.
        restore_all(source_of(spare, "made"), dump)
        assert spare.query("SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$'", "made") == [(330,)]
        with pytest.raises(RestoreFailed) as caught:
            restore_all(source_of(spare, there), dump)
        assert "max_locks_per_transaction" in (caught.value.hint or "")
        assert "database that does not exist yet" in (caught.value.hint or "")
        plan = source_of(spare, there).plan_restore([spec for spec, _ in dump.values()], RestoreTarget())
        (need,) = [need for need in plan.needs if need.name == "max_locks_per_transaction"]
        assert need.met is False
        assert any("single_transaction=no" in warning for warning in plan.warnings)
        restore_all(source_of(spare, there), dump, RestoreTarget(options={"single_transaction": "no"}))
    spare.drop("made")


class TestRoleWithSettings:
    """A role whose defaults would end a dump, or change what it writes."""

    SETTINGS = (
        "statement_timeout = '400ms'",
        "idle_in_transaction_session_timeout = '400ms'",
        "lock_timeout = '1ms'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "search_path = nowhere",
        "datestyle = 'SQL, DMY'",
        "bytea_output = 'escape'",
        "extra_float_digits = -5",
        "quote_all_identifiers = on",
        "row_security = off",
        "synchronous_commit = off",
    )

    @pytest.fixture
    def odd(self, newest_postgres: PostgresServer) -> Iterator[str]:
        newest_postgres.execute("DROP ROLE IF EXISTS odd; CREATE ROLE odd SUPERUSER LOGIN")
        for setting in self.SETTINGS:
            newest_postgres.execute(f"ALTER ROLE odd SET {setting}")
        yield "odd"
        newest_postgres.execute("DROP ROLE odd")

    def test_it_dumps_and_restores_as_any_other(
        self, newest_postgres: PostgresServer, source_of: MakeSource, odd: str
    ) -> None:
        server = newest_postgres
        server.drop("odd_copy")
        with server.database("odd_one") as name:
            server.execute(
                "CREATE TABLE t AS SELECT '2024-03-01'::date AS d, '\\xff00'::bytea AS b, 0.1::float8 + 0.2 AS f, "
                "repeat(md5(i::text), 20) AS filler FROM generate_series(1, 20000) AS i",
                name,
            )
            source = source_of(server, name, user=odd)
            with source.dump() as held:
                time.sleep(0.6)  # longer than its sessions may be idle
                dump = {spec.name: (spec, read_all(held.open(spec))) for spec in held.plan.streams}
            restore_all(source_of(server, "odd_copy", user=odd), dump)
            rows = "SELECT t::text FROM t ORDER BY 1"
            assert server.query(rows, "odd_copy") == server.query(rows, name)
            restore_all(source_of(server, "odd_copy", user=odd), dump, RestoreTarget(clean=True))
        server.drop("odd_copy")


def test_the_rows_of_an_extensions_configuration_are_dumped(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("configured") as name:
        newest_postgres.execute(
            "CREATE EXTENSION citext; CREATE TABLE config AS SELECT 'configured here' AS what; "
            "CREATE TABLE fixed AS SELECT 'comes with it' AS what; "
            "ALTER EXTENSION citext ADD TABLE config; ALTER EXTENSION citext ADD TABLE fixed; "
            "UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid], extcondition = ARRAY[''] "
            "WHERE extname = 'citext'",
            name,
        )
        source = source_of(newest_postgres, name, accounts="no")
        with source.dump() as held:
            data = read_all(held.open(held.plan.streams[0]))
    assert b"configured here" in data
    assert b"comes with it" not in data
    assert [item.name for item in held.plan.inspection.inventory if item.kind == "table"] == ["public.config"]


def test_a_table_that_changes_while_it_is_dumped_is_as_it_was(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with newest_postgres.database("changing") as name:
        newest_postgres.execute(
            "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 20) AS filler FROM generate_series(1, 30000) AS i", name
        )
        source = source_of(newest_postgres, name, accounts="no")
        with source.dump() as held, newest_postgres.connect(name) as other:
            stream = held.open(held.plan.streams[0])
            start = bytearray(1000)
            stream.readinto(memoryview(start))
            other.execute("SET lock_timeout = 100")
            for change in ("ALTER TABLE t ADD more integer", "ALTER TABLE t RENAME i TO j", "VACUUM FULL t"):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute(change.encode())
            other.execute("DELETE FROM t; CREATE INDEX ON t (i); CREATE TABLE later AS SELECT 1 AS i")
            data = bytes(start) + read_all(stream)
    assert data.count(b"\n") > 30000
    assert b"later" not in data
